"""Clang's messages about a kernel, as errors that name the lines of the source that MLX printed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from .errors import HostError

FILE = "kernel.metal"
"""The name under which the kernel's source is compiled."""

_MESSAGE = re.compile(rf"(?m)^{re.escape(FILE)}:(\d+):\d+: (error|fatal error|warning|note): (.*)$")
_ERROR = re.compile(r"(?m)^(.*?:\d+:)\d+: (?:fatal )?error: (.*)$")
_TO_BFLOAT = re.compile(r"implicit conversion loses floating-point precision: .* to (?:'[^']*bfloat|'[^']*'.*'__bf16')")
_SPACES = {"__global ": "device ", "__constant ": "constant ", "__local ": "threadgroup ", " *__private": " *"}
"""Clang's words for Metal's address spaces; the last is where every variable lies."""
_MOST = 5


def failure(source: str, said: str) -> HostError:
    """The error for a source that clang refused, ``said`` being all its messages."""
    for theirs, ours in _SPACES.items():
        said = said.replace(theirs, ours)
    found = [(int(line), text) for line, kind, text in _MESSAGE.findall(said) if kind.endswith("error")]
    if not found:
        # It lies in a header, of Metal's or of MLX's; notes say which lines of the kernel led there.
        errors = [f"{Path(place).name} {text}" for place, text in _ERROR.findall(said)]
        notes = (int(line) for line, kind, _ in _MESSAGE.findall(said) if kind == "note")
        return HostError("compile", errors[0] if errors else said[:2000], lines(source, notes))
    return HostError("compile", found[0][1], lines(source, (line for line, _ in found)))


def refuse_conversions_to_bfloat(source: str, said: str) -> None:
    """Raises :class:`HostError` where a float becomes a bfloat without a cast: Metal's compiler has no such conversion
    (Metal Shading Language Specification, section 2.1), clang has and warns."""
    found = [(int(line), text) for line, _, text in _MESSAGE.findall(said) if _TO_BFLOAT.search(text)]
    if found:
        raise HostError("compile", found[0][1].split(" [")[0], lines(source, (line for line, _ in found)))


def lines(source: str, numbers: Iterable[int]) -> tuple[str, ...]:
    """``line 12: acc += tile[i];`` for each number, the first few, each once."""
    texts = source.split("\n")
    unique = list(dict.fromkeys(numbers))[:_MOST]
    return tuple(f"line {number}: {texts[number - 1].strip()}" for number in unique if 0 < number <= len(texts))
