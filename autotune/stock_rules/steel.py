"""Dense products in tiles, on the simdgroup's matrix instructions: steel_fused and steel_splitk.

mlx/backend/metal/matmul.cpp and kernels/steel/gemm/gemm.h.
"""

from __future__ import annotations

from ..problem import DTYPES, Problem
from .device import StockDevice
from .kernel import MATRIX_UNIT, StockKernel, Tile, ceil_div, in_tiles
from .operands import TYPE_NAMES, letters, transposed
from .versions import WIDE_SPLITK, Version

SQUARE: Tile = (64, 64, 16, 2, 2)
SQUARE_HALF: Tile = (64, 64, 16, 1, 2)
TALL: Tile = (64, 32, 32, 2, 2)
FLAT: Tile = (32, 64, 16, 1, 2)


def tile(problem: Problem, letter: str) -> Tile:
    """``GEMM_TPARAM_MACRO``: the tile of the fused kernel by class of GPU. Pro and Max have one for everything."""
    nt = transposed(problem) == (False, True)
    half = problem.dtype != "f32"
    if letter in "gp":
        return TALL if nt else SQUARE_HALF if half else SQUARE
    if letter != "d":
        return SQUARE
    if problem.batch * problem.m * problem.n >= 1 << 20:
        if not half:
            return SQUARE
        if 2 * max(problem.m, problem.n) > problem.k:
            return SQUARE_HALF
        return TALL if nt else FLAT
    if half:
        return TALL if nt else SQUARE_HALF
    return FLAT if nt else TALL


def fused(problem: Problem, device: StockDevice) -> StockKernel:
    """``steel_matmul_regular_axpby``: one threadgroup a tile of C, the whole of K in one go, no swizzle."""
    bm, bn, bk, wm, wn = shape = tile(problem, device.letter)
    grid = (ceil_div(problem.n, bn), ceil_div(problem.m, bm), problem.batch)
    kind = TYPE_NAMES[problem.dtype]
    return in_tiles(
        problem,
        shape,
        grid,
        name="steel_fused",
        symbol=f"steel_gemm_fused_{letters(problem)}_{kind}_{kind}_bm{bm}_bn{bn}_bk{bk}_wm{wm}_wn{wn}",
        unit=MATRIX_UNIT,
        threadgroup_bytes=_threadgroup_bytes(problem, shape),
    )


def split(problem: Problem, version: Version) -> StockKernel:
    """``steel_gemm_splitk_axpby``: partial tiles in float32, then a kernel that adds them up.

    The remainder of K that the partitions leave goes to the last one.
    """
    m, n, k = problem.m, problem.n, problem.k
    bm, bn, bk, wm, wn = shape = (16 if m < 40 else 32), (16 if n < 40 else 32), 16, 2, 2
    parts = _partitions(m, n, k // 16, version)
    grid = (ceil_div(n, bn), ceil_div(m, bm), parts)
    aligned = "t" if m % bm == 0 and n % bn == 0 else "n"
    k_aligned = "t" if k % bk == 0 else "n"
    return in_tiles(
        problem,
        shape,
        grid,
        name="steel_splitk",
        symbol=f"steel_gemm_splitk_{letters(problem)}_{TYPE_NAMES[problem.dtype]}_float32"
        f"_bm{bm}_bn{bn}_bk{bk}_wm{wm}_wn{wn}_MN_{aligned}aligned_K_{k_aligned}aligned",
        unit=MATRIX_UNIT,
        split_k=parts,
        partition=k // 16 // parts * 16,
        launches=2,
        partial_bytes=4 * parts * m * n,
        threadgroup_bytes=_threadgroup_bytes(problem, shape),
    )


def _partitions(m: int, n: int, steps: int, version: Version) -> int:
    """``steps`` are the steps of 16 along K; from 0.30.5 they are shared out over the tiles of 32x32."""
    if version < WIDE_SPLITK:
        return 2 if steps < 16 else 4 if steps < 32 else 8 if steps < 64 else 16
    return min(max(2, _next_power_of_2(steps // (ceil_div(m, 32) * ceil_div(n, 32)))), 32)


def _next_power_of_2(n: int) -> int:
    return 1 << (n - 1).bit_length() if n > 0 else 0


def _threadgroup_bytes(problem: Problem, shape: Tile) -> int:
    """Both tiles as they lie in memory, each row padded by 16 bytes."""
    size = DTYPES[problem.dtype]
    bm, bn, bk = shape[:3]
    pad = 16 // size
    a, b = transposed(problem)
    elements = (bk * (bm + pad) if a else bm * (bk + pad)) + (bn * (bk + pad) if b else bk * (bn + pad))
    return size * elements
