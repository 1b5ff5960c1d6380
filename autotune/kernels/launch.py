"""The one door to MLX's custom kernels, on Metal and on CUDA: programs are made once, launches go through here.

A program is the text of a kernel with its constants filled in. MLX joins and hashes the whole source at every call, so
comments and indentation are taken out of the text when it is loaded, and what does not change between calls (kernel
objects, arrays of sizes) is made once and kept: building an array of three integers costs more than the launch itself.

Programs have no shapes in them: M, N and K are read at run time, so one compile serves every shape of a config.

Whoever wants the launches to go elsewhere (a host that runs Metal's language on a CPU, a recorder in a test) replaces
the runner with :func:`through`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Optional, Union

import mlx.core as mx

from . import cuda

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


Runner = Callable[[Launch], Sequence[mx.array]]

_runner: Optional[Runner] = None


@contextlib.contextmanager
def through(runner: Runner) -> Iterator[None]:
    """Sends every launch of this process to ``runner`` instead of MLX while the context is open."""
    global _runner
    before, _runner = _runner, runner
    try:
        yield
    finally:
        _runner = before


def run(
    program: Program,
    inputs: Sequence[mx.array],
    grid: Grid,
    threadgroup: Grid,
    shapes: Sequence[tuple[int, ...]],
    dtypes: Sequence[mx.Dtype],
    stream: Any = None,
) -> Sequence[mx.array]:
    """The program's outputs for these inputs, lazily as everything of MLX's.

    Raises what MLX raises where there is no Metal; what Apple's compiler refuses is raised when the result is
    evaluated, which is why routes are tried once before they are used (``family.probe``).
    """
    if _runner is not None:
        return _runner(Launch(program, tuple(inputs), grid, threadgroup, tuple(shapes), tuple(dtypes), stream))
    if _on_cuda():
        if program not in _codes:
            asked = Launch(program, tuple(inputs), grid, threadgroup, tuple(shapes), tuple(dtypes), stream)
            _codes[program] = _code(asked)
        code = _codes[program]
        if code is not None:
            precompiled: Sequence[mx.array] = mx.fast.precompiled_cuda_kernel(
                name=cuda_name(program),
                compiled_source=code,
                inputs=inputs,
                output_shapes=shapes,
                output_dtypes=dtypes,
                scalars=(),
                grid=grid,
                threadgroup=threadgroup,
                ensure_row_contiguous=True,
                stream=stream,
            )
            return precompiled
    outs: Sequence[mx.array] = kernel(program)(
        inputs=inputs, grid=grid, threadgroup=threadgroup, output_shapes=shapes, output_dtypes=dtypes, stream=stream
    )
    return outs


def kernel(program: Program) -> Any:
    """MLX's kernel object for the program and the GPU that this MLX is built for. Raises what MLX raises where it has
    none."""
    return cuda_kernel(program) if _on_cuda() else metal_kernel(program)


_codes: dict[Program, Optional[bytes]] = {}
"""Machine code of the programs that were launched on CUDA before; None for those that MLX compiles."""


def _code(launch: Launch) -> Optional[bytes]:
    """What :mod:`.nvrtc` makes of it. What fails there, MLX tries itself, so that errors are its own."""
    from . import nvrtc

    if not launch.program.contiguous or not hasattr(mx.fast, "precompiled_cuda_kernel"):
        return None
    try:
        return nvrtc.code(launch, cuda_name(launch.program))
    except nvrtc.CompileError:
        return None


def compile_ahead(launches: Sequence[Launch]) -> None:
    """Compiles many programs at once, on all processors. Does nothing but on CUDA."""
    if _on_cuda():
        from . import nvrtc

        fresh = {each.program: each for each in launches if each.program.contiguous and each.program not in _codes}
        nvrtc.compile_all([(each, cuda_name(program)) for program, each in fresh.items()])


@cache
def _on_cuda() -> bool:
    return bool(mx.cuda.is_available())


@cache
def metal_kernel(program: Program) -> Any:
    """The program in Metal's language."""
    # Only what differs from MLX's default is passed: the keyword is younger than the oldest MLX that is served.
    options: dict[str, Any] = {}
    if program.math_mode != "safe":
        options["compile_options"] = {"math_mode": program.math_mode}
    return mx.fast.metal_kernel(
        name=program.name,
        input_names=list(program.inputs),
        output_names=list(program.outputs),
        source=program.body,
        header=program.header,
        ensure_row_contiguous=program.contiguous,
        **options,
    )


@cache
def cuda_kernel(program: Program) -> Any:
    """The program in CUDA. It has no math modes: NVRTC's default honours infinities and NaNs and reorders nothing."""
    header, body = cuda.header(program.header), cuda.body(program.body, program.inputs)
    return mx.fast.cuda_kernel(
        name=cuda_name(program),
        input_names=list(program.inputs),
        output_names=list(program.outputs),
        source=body,
        header=header,
        ensure_row_contiguous=program.contiguous,
    )


@cache
def cuda_name(program: Program) -> str:
    """The program's name in CUDA."""
    from . import nvrtc

    parts = (nvrtc.PRELUDE, cuda.header(program.header), cuda.body(program.body, program.inputs))
    return cuda.name(program.name, nvrtc.architecture(), *parts)


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


@lru_cache(maxsize=4096)
def sizes(*values: int) -> mx.array:
    """Up to seven integers as an int32 array, which Metal reads from constant memory; the same array every time."""
    return mx.array(values, mx.int32)


@lru_cache(maxsize=1024)
def scalars(*values: float) -> mx.array:
    """Up to seven numbers as a float32 array, the same one every time."""
    return mx.array(values, mx.float32)
