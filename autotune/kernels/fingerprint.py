"""A kernel's fingerprint: a hash of the code that decides what it computes, deaf to comments and layout.

A measurement is of code; when the code changes, the measurement is stale. Comments, docstrings, blank lines and line
breaks inside brackets leave the fingerprint as it is, so that explaining a kernel better does not cost a sweep. Tokens
are hashed instead of a syntax tree since trees differ between Python versions.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import tokenize
from functools import lru_cache
from pathlib import Path

from .base import Kernel

_DEAF = {tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.NEWLINE, tokenize.ENDMARKER}
_MARKS = {tokenize.INDENT: ">", tokenize.DEDENT: "<"}


def of(kernel: Kernel) -> str:
    """Twelve hexadecimal digits; equal for equal code on every Python version."""
    return _of(tuple(kernel.sources()))


@lru_cache(maxsize=None)
def _of(modules: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for name in modules:
        path = importlib.import_module(name).__file__
        digest.update(normalized(Path(str(path)).read_text("utf-8")).encode())
    return digest.hexdigest()[:12]


def normalized(source: str) -> str:
    """The source's tokens run together, without comments, docstrings and line breaks; indentation as ``>`` and ``<``."""
    parts: list[str] = []
    starts_statement = True
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in _MARKS:
            parts.append(_MARKS[token.type])
            starts_statement = True
        elif token.type in _DEAF:
            starts_statement = starts_statement or token.type == tokenize.NEWLINE
        elif not (token.type == tokenize.STRING and starts_statement):
            parts.append(token.string)
            starts_statement = False
    return "".join(parts)
