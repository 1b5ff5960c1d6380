"""Dense products on the neural accelerators: nax_fused and nax_splitk.

mlx/backend/metal/matmul.cpp. In both, a simdgroup reads its operands straight from device memory and takes K by 32;
``bk`` is only how often the threadgroup's simdgroups wait for each other.
"""

from __future__ import annotations

from ..problem import Problem
from .device import StockDevice
from .kernel import NAX_UNIT, StockKernel, Tile, ceil_div, in_tiles
from .operands import TYPE_NAMES, letters
from .versions import NAX_LARGE, NAX_ROUTING, Version

LARGE: Tile = (128, 128, 512, 4, 4)
SMALL: Tile = (64, 64, 256, 2, 2)


def fused(problem: Problem, device: StockDevice, version: Version) -> StockKernel:
    """``steel_matmul_regular_axpby_nax``."""
    m, n, k = problem.m, problem.n, problem.k
    shape, swizzle = LARGE, _swizzle(m, 128)
    if device.large and version >= NAX_LARGE:
        shape, swizzle = (64, 128, 64 if k >= 8192 and k > m + n else 256, 2, 4), 2
    bm, bn = shape[:2]
    tm, tn, tile = ceil_div(m, bm), ceil_div(n, bn), 1 << swizzle
    kind = TYPE_NAMES[problem.dtype]
    return _kernel(
        problem,
        "nax_fused",
        f"steel_gemm_fused_nax_{letters(problem)}_{kind}_{kind}",
        shape,
        swizzle,
        (tn * tile, ceil_div(tm, tile), problem.batch),
        tm * tn * problem.batch,
    )


def split(problem: Problem, version: Version) -> StockKernel:
    """``steel_gemm_splitk_axpby_nax``: partitions of a set length, partial tiles in float32, then a kernel that adds
    them up. The grid has one axis, partition by partition, so that the driver keeps its order."""
    m, n, k = problem.m, problem.n, problem.k
    shape, length = LARGE, 3072
    if version >= NAX_ROUTING:
        shape = SMALL if (m + n) // 2 < 512 or k <= 4096 else LARGE
        length = k // 2 if k <= 1024 else 1024 if k <= 2048 else 2048 if k <= 4096 else 4096
    bm, bn = shape[:2]
    parts = ceil_div(k, length)
    tm, tn = ceil_div(m, bm), ceil_div(n, bn)
    swizzle = _swizzle(m, bm)
    tile = 1 << swizzle
    return _kernel(
        problem,
        "nax_splitk",
        f"steel_gemm_splitk_nax_{letters(problem)}_{TYPE_NAMES[problem.dtype]}_float32",
        shape,
        swizzle,
        (tn * tile * ceil_div(tm, tile) * parts, 1, 1),
        tm * tn * parts,
        parts,
        length,
    )


def _swizzle(m: int, bm: int) -> int:
    return 0 if ceil_div(m, bm) <= 3 else 1


def _kernel(
    problem: Problem,
    name: str,
    symbol: str,
    shape: Tile,
    swizzle: int,
    grid: tuple[int, int, int],
    busy: int,
    parts: int = 1,
    length: int = 0,
) -> StockKernel:
    """``length`` is that of a partition of K, 0 where K is not split."""
    bm, bn, bk, wm, wn = shape
    return in_tiles(
        problem,
        shape,
        grid,
        busy=busy,
        name=name,
        symbol=f"{symbol}_bm{bm}_bn{bn}_bk{bk}_wm{wm}_wn{wn}",
        unit=NAX_UNIT,
        split_k=parts,
        partition=length or problem.k,
        swizzle=swizzle,
        launches=2 if length else 1,
        partial_bytes=4 * parts * problem.m * problem.n if length else 0,
    )
