"""From a problem to the stock kernel that serves it."""

from __future__ import annotations

from ..problem import Problem
from . import cuda, dense, quantized, versions
from .device import StockDevice
from .kernel import StockKernel


def stock_kernel(problem: Problem, device: StockDevice, version: str) -> StockKernel:
    """The kernel that MLX of that version takes for ``problem`` on ``device``, with all that it launches.

    ``version`` is MLX's, such as ``"0.31.1"``; one that is newer than the newest known one is taken to have the newest
    rules. Operands are taken to lie as the problem's layout says, without gaps, each from the start of its buffer; MLX
    copies others first. Before 0.31.2 ``addmm`` gave wrong results on the neural accelerators (ml-explore/mlx #3422):
    what was launched is answered all the same. Raises :class:`UsageError` for a version before the oldest known one,
    for a quantization that the version does not have, and for dense products on CUDA, which are cuBLAS's to decide.
    """
    parsed = versions.parse(version)
    if device.backend == "cuda":
        return cuda.kernel(problem, device)
    if problem.quantization is not None:
        return quantized.kernel(problem, device, parsed)
    return dense.kernel(problem, device, parsed)
