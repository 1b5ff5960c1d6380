"""``matmul`` and ``addmm`` on Metal: which family of kernels, and when K is split.

``Matmul::eval_gpu``, ``AddMM::eval_gpu`` and ``steel_matmul_axpby`` in mlx/backend/metal/matmul.cpp.
"""

from __future__ import annotations

from ..problem import Problem
from . import gemv, nax, steel
from .device import StockDevice
from .kernel import StockKernel, ceil_div
from .versions import DOT_PRODUCT, NAX_ROUTING, NAX_SPLITK, WIDE_SPLITK, Version


def kernel(problem: Problem, device: StockDevice, version: Version) -> StockKernel:
    """The order of decisions: a dot product, a few rows that share the weights, one row or column, then tiles."""
    m, n = problem.m, problem.n
    if problem.op == "matmul" and m == n == problem.batch == 1 and version >= DOT_PRODUCT:
        return gemv.dot_product(problem)
    if gemv.is_wide(problem, device, version):
        return gemv.wide(problem)
    if min(m, n) == 1:
        return gemv.kernel(problem, version)
    return _tiled(problem, device, version)


def _tiled(problem: Problem, device: StockDevice, version: Version) -> StockKernel:
    """Before 0.31.2 split-K came first, without a look at the neural accelerators."""
    on_nax = device.uses_nax(version, problem.dtype)
    simd_split = splits(problem, device, version) and not (on_nax and version >= NAX_ROUTING)
    if simd_split:
        return steel.split(problem, version)
    if not on_nax:
        return steel.fused(problem, device)
    if nax_splits(problem, version):
        return nax.split(problem, version)
    return nax.fused(problem, device, version)


def splits(problem: Problem, device: StockDevice, version: Version) -> bool:
    """The gate of the simdgroup kernel that splits K, by tiles of 16x16 and steps of 16 along K."""
    m, n, k = problem.m, problem.n, problem.k
    if problem.batch > 1 or k // 16 < 8:
        return False
    if version < WIDE_SPLITK:
        return (m // 16) * (n // 16) <= 32
    most = 2048 if device.letter in "sd" else 1024
    return ceil_div(m, 16) * ceil_div(n, 16) <= most and k >= max(m, n)


def nax_splits(problem: Problem, version: Version) -> bool:
    """The gate of the NAX kernel that splits K."""
    m, n, k = problem.m, problem.n, problem.k
    longest = max(m, n)
    if problem.batch > 1 or version < NAX_SPLITK:
        return False
    if version < NAX_ROUTING:
        return m * n >= 2048 * 2048 and k >= 10240 and k >= 3 * longest
    return k >= 3 * longest or (longest <= 1024 and k > 2 * longest)
