"""Small kernels for the tests of the host's runtime: a body in Metal's language, compiled and run without MLX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autotune.devices.msl_host import native, toolchain
from autotune.devices.msl_host.translate import translate

IN_ORDER = native.Options(threads=1)
REVERSE = native.Options(native.Schedule("reverse"), threads=1)
CHECK = native.Options(check=True)
FENCE = "atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device);"

_PRELUDE = "#include <metal_stdlib>\nusing namespace metal;\n"
_ENTRY = """
#line 1 "entry"
extern "C" __attribute__((no_sanitize("thread"))) void __msl_entry(device ulong* buffers) {
  body((const device float*)buffers[0], (device float*)buffers[1], __msl_attr(MSL_THREAD_INDEX_IN_THREADGROUP),
       __msl_attr(MSL_THREAD_INDEX_IN_SIMDGROUP), __msl_attr(MSL_THREADGROUP_POSITION_IN_GRID));
}
"""


def compiled(body: str, header: str = "", check: bool = False) -> Path:
    """The shared object of a kernel that reads floats ``x`` and writes floats ``y``.

    Its body knows ``i`` (index in the threadgroup), ``lane`` and ``group`` (position along x). Line 1 is the body's.
    """
    signature = "void body(const device float* x, device float* y, uint i, uint lane, uint group) {"
    text = f'{translate(header)}\n{signature}\n#line 1 "kernel.metal"\n{translate(body)}\n}}{_ENTRY}'
    return toolchain.kernel_library(toolchain.Unit(_PRELUDE, text), check)


def launch(
    body: str,
    options: native.Options = IN_ORDER,
    grid: int | Sequence[int] = 64,
    threadgroup: int | Sequence[int] = 64,
    x: np.ndarray | None = None,
    y: np.ndarray | int = 64,
    header: str = "",
) -> tuple[np.ndarray, native.Report]:
    """The output and the report. ``x`` is 0, 1, 2, ... 63 unless given; ``y`` is filled with -1 unless given."""
    if x is None:
        x = np.arange(64, dtype=np.float32)
    if isinstance(y, int):
        y = np.full(y, -1, np.float32)
    buffers = [native.Buffer(x, name="x"), native.Buffer(y, writable=True, name="y")]
    library = compiled(body, header, options.check)
    return y, native.run(library, "__msl_entry", buffers, _three(grid), _three(threadgroup), options)


def _three(size: int | Sequence[int]) -> tuple[int, int, int]:
    given = [size] if isinstance(size, int) else list(size)
    x, y, z = [*given, 1, 1][:3]
    return x, y, z


def problems(body: str, options: native.Options = CHECK, **how: object) -> tuple[native.Problem, ...]:
    """What the launch is told off for, whether or not it could be finished."""
    try:
        return launch(body, options, **how)[1].problems  # type: ignore[arg-type]
    except native.KernelFault as fault:
        return fault.report.problems


def lines(body: str, problem: native.Problem, header: str = "", check: bool = True) -> list[int]:
    """The lines of ``body`` that a problem names."""
    places = native.symbolise(compiled(body, header, check), problem.code)
    return [line for file, line in places if file == "kernel.metal"]
