"""The one door to MLX's custom kernels, on Metal and on CUDA.

A product of some microseconds must not wait for Python: what does not change between calls of the same shapes (MLX's
kernel, machine code, grid, the array of sizes) is bound once in a :class:`Start` and kept by the family that made it.
Building an array of three integers costs more than the launch itself.

Whoever wants the launches to go elsewhere (a host that runs Metal's language on a CPU, a recorder in a test) replaces
the runner with :func:`through`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from functools import cache, lru_cache, partial
from typing import Any, Optional

import mlx.core as mx

from . import cuda
from .program import Grid, Launch, Program

Runner = Callable[[Launch], Sequence[mx.array]]

_RUNNER: ContextVar[Optional[Runner]] = ContextVar("runner", default=None)
_runner = _RUNNER.get


@contextlib.contextmanager
def through(runner: Runner) -> Iterator[None]:
    """Sends every launch of this thread to ``runner`` instead of MLX while the context is open."""
    before = _RUNNER.set(runner)
    try:
        yield
    finally:
        _RUNNER.reset(before)


class Start:
    """A program made ready for inputs of certain shapes: all of a launch but its inputs. Called with them, without the
    array of sizes that comes before them, it gives the program's one output, lazily as everything of MLX's.

    Calls raise what MLX raises where it has no such GPU; what its compiler refuses is raised when the result is
    evaluated, which is why routes are tried once before they are used (``family.probe``).
    """

    __slots__ = ("_bound", "_sizes", "_values", "dtypes", "grid", "leading", "program", "shapes", "threadgroup")

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
        self.leading: tuple[mx.array, ...] = (self._sizes,)
        """Inputs before those of a call; none where the sizes go to the GPU by value, which :meth:`bind` decides."""
        self._bound: Optional[Callable[..., Sequence[mx.array]]] = None

    def __call__(self, *arrays: mx.array, stream: Any = None) -> mx.array:
        runner = _runner()
        if runner is not None:
            return runner(self.launch((self._sizes, *arrays), stream))[0]
        bound = self._bound
        if bound is None:
            bound = self._bound = self.bind((self._sizes, *arrays))
        return bound(inputs=(*self.leading, *arrays), stream=stream)[0]

    def launch(self, inputs: tuple[mx.array, ...], stream: Any = None) -> Launch:
        """What a runner gets."""
        return Launch(self.program, inputs, self.grid, self.threadgroup, self.shapes, self.dtypes, stream)

    def bind(self, inputs: tuple[mx.array, ...]) -> Callable[..., Sequence[mx.array]]:
        """MLX's function with everything filled in but ``inputs`` (:attr:`leading` and a call's own) and ``stream``; it
        gives a list of outputs. ``inputs`` here are a launch's: the array of sizes first."""
        options: dict[str, Any] = {
            "grid": self.grid,
            "threadgroup": self.threadgroup,
            "output_shapes": self.shapes,
            "output_dtypes": self.dtypes,
        }
        machine_code = code(self.launch(inputs)) if _on_cuda() else None
        if machine_code is None:
            return partial(kernel(self.program), **options)
        self.leading = ()
        return partial(
            mx.fast.precompiled_cuda_kernel,
            name=cuda_name(self.program),
            compiled_source=machine_code,
            scalars=self._values,
            ensure_row_contiguous=True,
            **options,
        )


def kernel(program: Program) -> Any:
    """MLX's kernel object for the program and the GPU that this MLX is built for. Raises what MLX raises where it has
    none."""
    return cuda_kernel(program) if _on_cuda() else metal_kernel(program)


_Key = tuple[Program, Grid, tuple[mx.Dtype, ...]]
_codes: dict[_Key, Optional[bytes]] = {}
"""Machine code of what was launched on CUDA before; None for what MLX compiles."""


def _key(launch: Launch) -> _Key:
    """What the machine code depends on: the rest of a launch is in the program's constants."""
    return launch.program, launch.threadgroup, launch.dtypes


def code(launch: Launch) -> Optional[bytes]:
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

    parts = (nvrtc.PRELUDE, cuda.header(program.header), cuda.body(program.body, program.inputs))
    return cuda.name(program.name, nvrtc.architecture(), *parts)


@lru_cache(maxsize=4096)
def _sizes(*values: int) -> mx.array:
    """Up to seven integers as an int32 array, which Metal reads from constant memory; the same array every time."""
    return mx.array(values, mx.int32)


@lru_cache(maxsize=1024)
def scalars(*values: float) -> mx.array:
    """Up to seven numbers as a float32 array, the same one every time."""
    return mx.array(values, mx.float32)
