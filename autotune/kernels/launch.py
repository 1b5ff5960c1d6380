"""The one door to MLX's custom kernels, on Metal and on CUDA.

A product of some microseconds must not wait for Python: what does not change between calls of the same shapes (MLX's
kernel, machine code, grid, the array of sizes) is bound once in a :class:`Start` and kept by the family that made it.
Building an array of three integers costs more than the launch itself.

Whoever wants the launches to go elsewhere (a host that runs Metal's language on a CPU, a recorder in a test) replaces
the runner with :func:`through`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Optional

import mlx.core as mx

from . import cuda, mlx_cache
from .program import Grid, Launch, Program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import nvrtc

Runner = Callable[[Launch], Sequence[mx.array]]
Bound = Callable[[tuple[mx.array, ...], Any], mx.array]
"""A launch but for its arrays and its stream."""

_RUNNER: ContextVar[Optional[Runner]] = ContextVar("runner", default=None)
_runner = _RUNNER.get


@contextlib.contextmanager
def through(runner: Runner) -> Iterator[None]:
    """Sends every launch of this thread to ``runner`` instead of MLX while the context is open; but for those that
    routing keeps ready for weights (``routing.ready``), which are past the point where that is asked."""
    before = _RUNNER.set(runner)
    try:
        yield
    finally:
        _RUNNER.reset(before)


class Start:
    """A program made ready for inputs of certain shapes: all of a launch but its inputs. Called with them, without the
    array of sizes that comes before them, it gives the program's one output, lazily as everything of MLX's.

    Calls raise what MLX raises where it has no such GPU; what its compiler refuses is raised when the result is
    evaluated, which is why routes are tried once before they are used (``trial``).
    """

    __slots__ = ("_sizes", "_values", "bound", "dtypes", "grid", "program", "shapes", "threadgroup")

    def __init__(
        self,
        program: Program,
        sizes: tuple[int, ...],
        grid: Grid,
        threadgroup: Grid,
        shape: tuple[int, ...],
        dtype: mx.Dtype,
    ) -> None:
        self.program, self.grid, self.threadgroup = program, grid, threadgroup
        self.shapes, self.dtypes = (shape,), (dtype,)
        self._values, self._sizes = sizes, _sizes(*sizes)
        self.bound: Optional[Bound] = None
        """What :meth:`bind` made, from the first call on."""

    def __call__(self, *arrays: mx.array, stream: Any = None) -> mx.array:
        runner = _runner()
        if runner is not None:
            return runner(self.launch(arrays, stream))[0]
        bound = self.bound
        if bound is None:
            bound = self.bound = self.bind(arrays)
        return bound(arrays, stream)

    def launch(self, arrays: tuple[mx.array, ...], stream: Any = None) -> Launch:
        """What a runner gets."""
        inputs = (self._sizes, *arrays)
        return Launch(self.program, inputs, self.grid, self.threadgroup, self.shapes, self.dtypes, stream)

    def bind(self, arrays: tuple[mx.array, ...]) -> Bound:
        """MLX's function with everything filled in but a call's arrays and its stream."""
        made = code(self.launch(arrays)) if _on_cuda() else None
        return _calling(kernel(self.program), self) if made is None else _calling_code(*handed_over(made), self)


Shape = tuple[int, ...]
Starts = tuple[Start, Optional[Start]]
"""What a call launches: the kernel and, where that leaves partial sums, their reduction."""


def _calling(mlx_kernel: Any, start: Start) -> Bound:
    # Keywords are spelled out in both of these, since a partial that merges them takes half a microsecond more.
    grid, threadgroup, shapes, dtypes, sizes = start.grid, start.threadgroup, start.shapes, start.dtypes, start._sizes

    def call(arrays: tuple[mx.array, ...], stream: Any) -> mx.array:
        return mlx_kernel(
            inputs=(sizes, *arrays),
            grid=grid,
            threadgroup=threadgroup,
            output_shapes=shapes,
            output_dtypes=dtypes,
            stream=stream,
        )[0]

    return call


def _calling_code(name: str, machine_code: bytes, start: Start) -> Bound:
    """Machine code gets the sizes by value."""
    grid, threadgroup, shapes, dtypes, values = start.grid, start.threadgroup, start.shapes, start.dtypes, start._values
    mlx_function: Any = mx.fast.precompiled_cuda_kernel

    def call(arrays: tuple[mx.array, ...], stream: Any) -> mx.array:
        return mlx_function(
            name=name,
            compiled_source=machine_code,
            inputs=arrays,
            output_shapes=shapes,
            output_dtypes=dtypes,
            scalars=values,
            grid=grid,
            threadgroup=threadgroup,
            ensure_row_contiguous=True,
            stream=stream,
        )[0]

    return call


def handed_over(made: nvrtc.Code) -> tuple[str, bytes]:
    """The name and the machine code that a call hands to MLX: a name alone where MLX finds the code by it."""
    where = _found_in()
    if made.file is not None and where is not None:
        with contextlib.suppress(OSError):
            return mlx_cache.place(made.file, made.name, where), mlx_cache.NOTHING
    return made.name, made.content


@cache
def _found_in() -> Optional[Path]:
    """The folder in which MLX finds machine code by its name, tried with a kernel of one line; None where it does not.
    MLX settles on a folder once in a process too."""
    wanted, where = 23, mlx_cache.folder()
    if where is None or os.environ.get(mlx_cache.OFF) == "0":
        return None
    program = Program("autotune_found_by_name", ("sizes",), ("y",), "", "y[0] = sizes[0];")
    tried = Start(program, (wanted,), (1, 1, 1), (1, 1, 1), (1,), mx.int32)
    try:
        made = code(tried.launch(()))
        if made is None or made.file is None:
            return None
        call = _calling_code(mlx_cache.place(made.file, made.name, where), mlx_cache.NOTHING, tried)
        return where if call((), mx.gpu).item() == wanted else None
    except (OSError, RuntimeError, ValueError):
        return None


def kernel(program: Program) -> Any:
    """MLX's kernel object for the program and the GPU that this MLX is built for. Raises what MLX raises where it has
    none."""
    return cuda_kernel(program) if _on_cuda() else metal_kernel(program)


_Key = tuple[Program, Grid, tuple[mx.Dtype, ...]]
_codes: dict[_Key, Optional[nvrtc.Code]] = {}
"""Machine code of what was launched on CUDA before; None for what MLX compiles."""


def _key(launch: Launch) -> _Key:
    """What the machine code depends on: the rest of a launch is in the program's constants."""
    return launch.program, launch.threadgroup, launch.dtypes


def code(launch: Launch) -> Optional[nvrtc.Code]:
    """What :mod:`.nvrtc` makes of it. What fails there, MLX tries itself, so that errors are its own."""
    from . import nvrtc  # takes milliseconds to import, which Metal need not wait for

    if not launch.program.contiguous or not hasattr(mx.fast, "precompiled_cuda_kernel"):
        return None
    key = _key(launch)
    if key not in _codes:
        try:
            _codes[key] = nvrtc.code(launch, cuda_name(launch.program))
        except nvrtc.CompileError:
            _codes[key] = None
    return _codes[key]


def compile_ahead(launches: Sequence[Launch]) -> None:
    """Compiles many programs at once, on all processors. Does nothing but on CUDA."""
    if _on_cuda():
        from . import nvrtc

        fresh = {_key(each): each for each in launches if each.program.contiguous and _key(each) not in _codes}
        nvrtc.compile_all([(each, cuda_name(each.program)) for each in fresh.values()])


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

    parts = (cuda.PRELUDE, cuda.header(program.header), cuda.body(program.body, program.inputs))
    return cuda.name(program.name, nvrtc.architecture(), *parts)


@lru_cache(maxsize=4096)
def _sizes(*values: int) -> mx.array:
    """Up to seven integers as an int32 array, which Metal reads from constant memory; the same array every time."""
    return mx.array(values, mx.int32)


@lru_cache(maxsize=1024)
def scalars(*values: float) -> mx.array:
    """Up to seven numbers as a float32 array, the same one every time."""
    return mx.array(values, mx.float32)
