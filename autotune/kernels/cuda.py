"""Metal's texts as CUDA: what a header can say is in ``msl/cuda.h``, and these few rules rewrite the rest.

A text that keeps to Metal's words in that header, declares threadgroup arrays in the kernel's body alone, and names
them in the declaration (``threadgroup float tile[8];``) needs nothing else.

Before 0.32.1 MLX finds compiled CUDA kernels by their name (``jit_module.cpp``), whatever their source: so a name has
the hash of its sources in it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from .program import MSL, short

INCLUDES: Mapping[str, str] = {"metal_simdgroup_matrix": "cuda_simdgroup_matrix.h"}
"""Metal's headers that have a counterpart here. The others are part of ``cuda.h``."""
BASE = "cuda.h"
MOST_NAME = 160
"""Characters of a program's own name that are kept."""

_INCLUDE = re.compile(r"^#include <(\w+)>$", re.MULTILINE)
_SHARED = re.compile(r"\bthreadgroup (?=[\w ]+ \w+\[)")
_OTHER = re.compile(r"\bthreadgroup ")


def headers() -> tuple[Path, ...]:
    """Our headers for CUDA."""
    return tuple(MSL / file for file in (BASE, *INCLUDES.values()))


def header(source: str) -> str:
    """A program's header: Metal's includes give way to ours, and ``threadgroup`` of pointers to nothing."""
    names = dict.fromkeys(INCLUDES[name] for name in _INCLUDE.findall(source) if name in INCLUDES)
    return "\n".join((*map(_words, (BASE, *names)), _OTHER.sub("", _INCLUDE.sub("", source))))


def body(source: str, inputs: Iterable[str]) -> str:
    """A kernel's body: threadgroup arrays become ``__shared__``; shapes and strides, which MLX passes as arrays in
    CUDA, become the pointers that they are in Metal."""
    source = _OTHER.sub("", _SHARED.sub("__shared__ ", source))
    return re.sub(r"\b((?:" + "|".join(map(re.escape, inputs)) + r")_(?:shape|strides))\b", r"\1.data()", source)


def name(base: str, *sources: str) -> str:
    """The program's name with the hash of all that decides what is compiled in it, short enough for a file's name."""
    digest = hashlib.sha256("\n".join(sources).encode()).hexdigest()
    return base[:MOST_NAME] + "_" + digest[:16]


@cache
def _words(file: str) -> str:
    """A header of ours without comments."""
    return short((MSL / file).read_text("utf-8"))
