"""What the quantized kernels on Metal share: the quantization, and how a kernel is named."""

from __future__ import annotations

from ..errors import UsageError
from ..problem import Problem, Quantization
from .versions import MORE_MODES, OLDEST, ONE_BIT, Version, show

TYPE_NAMES = {"f32": "float", "f16": "float16_t", "bf16": "bfloat16_t"}
"""A dtype in the names of quantized kernels."""


def quantization(problem: Problem) -> Quantization:
    if problem.quantization is None:
        raise UsageError(f"{problem.op} has no quantized weights", "matmul and addmm have rules of their own")
    return problem.quantization


def check(q: Quantization, version: Version) -> None:
    """Raises :class:`UsageError` where the version has no kernels for the quantization."""
    since = OLDEST
    if q.mode in ("mxfp8", "nvfp4"):
        since = MORE_MODES
    elif q.bits == 1:
        since = ONE_BIT
    if version < since:
        raise UsageError(f"MLX {show(version)} has no kernels for {q}", f"they came with {show(since)}")


def symbol(problem: Problem, function: str, rest: str = "") -> str:
    """A kernel's name as ``get_quantized_kernel_wrapped`` is given it."""
    q = quantization(problem)
    return f"{q.mode}_{function}_{TYPE_NAMES[problem.dtype]}_gs_{q.group_size}_b_{q.bits}{rest}"


def batched(problem: Problem) -> str:
    """The end of a kernel's name: whether the weights are several matrices."""
    return f"_batch_{int(problem.batch > 1)}"
