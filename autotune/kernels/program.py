"""Programs: the texts of ``msl/`` with their constants filled in, and what one launch of a program is.

Programs have no shapes in them: M, N and K are read at run time, so one compile serves every shape of a config.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Union

import mlx.core as mx

DTYPES = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}
"""MLX's dtypes by the names that problems give them."""
MSL = Path(__file__).parent / "msl"
BODY = "//! body"
"""The line of a text that separates declarations, which go into the header, from the kernel's body."""

Constant = Union[int, str]
Constants = tuple[tuple[str, Constant], ...]
Grid = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Program:
    """A kernel's source and how it is called. :func:`program` makes one object for each set of constants, so that
    programs are told apart by identity: hashing a source at each launch would cost more than the launch.

    ``inputs`` and ``outputs`` name the buffers; ``contiguous`` asks MLX to copy inputs that are not row-contiguous (a
    kernel without it reads ``<input>_strides``); ``math_mode`` is Metal's: ``safe``, ``relaxed`` or ``fast``.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    header: str
    body: str
    contiguous: bool = True
    math_mode: str = "safe"


@dataclass(frozen=True)
class Launch:
    """One start of a program: what a runner gets. Grid and threadgroup count threads, as Metal's dispatchThreads."""

    program: Program
    inputs: tuple[mx.array, ...]
    grid: Grid
    threadgroup: Grid
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[mx.Dtype, ...]
    stream: Any = None


@cache
def program(
    texts: tuple[str, ...],
    constants: Constants,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    contiguous: bool = True,
    math_mode: str = "safe",
) -> Program:
    """The program made of ``msl/<text>.metal``, joined in order, with ``constants`` defined before them.

    The last text's body is the kernel's. Includes come first, since a macro must not reach into a library's header.
    The name tells the family and the constants, for whoever looks at a GPU trace.
    """
    headers, body = [], ""
    for name in texts:
        header, body = text(name)
        headers.append(header)
    lines = "\n".join(headers).split("\n")
    includes = [line for line in lines if line.startswith("#include")]
    declarations = [line for line in lines if not line.startswith("#include")]
    defines = [_define(name, value) for name, value in constants]
    # MLX finds a compiled kernel by its name: what is not in the source has to be in the name.
    mode = [] if math_mode == "safe" else [math_mode]
    parts = [texts[-1], *mode, *(name.lower() + str(value) for name, value in constants)]
    label = re.sub(r"[^0-9a-zA-Z]+", "_", "_".join(parts))
    header = "\n".join([*includes, "using namespace metal;", *defines, *declarations, ""])
    return Program("autotune_" + label, inputs, outputs, header, body, contiguous, math_mode)


def _define(name: str, value: Constant) -> str:
    """Numbers become macros, since texts choose by ``#if``; types become typedefs."""
    return "typedef " + value + " " + name + ";" if isinstance(value, str) else "#define " + name + " " + str(value)


@cache
def text(name: str) -> tuple[str, str]:
    """Header and body of ``msl/<name>.metal``, comments and indentation taken out."""
    header, _, body = (MSL / (name + ".metal")).read_text("utf-8").partition(BODY)
    return short(header), short(body)


def short(source: str) -> str:
    """The source without comments, indentation and empty lines. Kernel texts hold no string literals."""
    source = re.sub(r"/\*.*?\*/", " ", source, flags=re.DOTALL)
    source = re.sub(r"//[^\n]*", "", source)
    return "\n".join(line.strip() for line in source.split("\n") if line.strip())
