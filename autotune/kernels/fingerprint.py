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
from functools import cache
from pathlib import Path

from .base import Kernel
from .program import short

_DEAF = {tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER}
_MARKS = {tokenize.INDENT: ">", tokenize.DEDENT: "<", tokenize.NEWLINE: ";"}


def of(kernel: Kernel) -> str:
    """Twelve hexadecimal digits; equal for equal code on every Python version."""
    return _of(tuple(kernel.sources()), tuple(kernel.files()))


@cache
def _of(modules: tuple[str, ...], files: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for name in modules:
        path = importlib.import_module(name).__file__
        digest.update(normalized(Path(str(path)).read_text("utf-8")).encode())
    for file in files:
        digest.update(short(file.read_text("utf-8")).encode())
    return digest.hexdigest()[:12]


def normalized(source: str) -> str:
    """The source's tokens, one a line, without comments, docstrings and layout; indentation as ``>`` and ``<``, the end
    of a statement as ``;``.

    Kernels have no f-strings: Python 3.12 splits them into tokens where 3.11 does not (a test sees to it).
    """
    parts: list[str] = []
    fresh = True  # whether the next token starts a statement: a string there that is all of it is a docstring
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in _DEAF:
            continue
        if token.type in _MARKS:
            if not (token.type == tokenize.NEWLINE and fresh):
                parts.append(_MARKS[token.type])
            fresh = True
        elif not (token.type == tokenize.STRING and fresh):
            parts.append(token.string)
            fresh = False
    return "\n".join(parts)
