"""Dense products with one row or column, or a few rows: dot_product, gemv, gemv_t, gemv_wide.

mlx/backend/metal/matmul.cpp and kernels/gemv.h.
"""

from __future__ import annotations

from math import prod

from ..problem import Problem
from .device import StockDevice
from .kernel import LANES, StockKernel, ceil_div, ragged
from .operands import TYPE_NAMES, transposed
from .versions import GEMV_SHORT_K, GEMV_WIDE, Version

WIDE_ROWS = 5
"""Rows of x that gemv_wide holds in registers."""
WIDE_PASSES = 3
"""Passes over the weights beyond which it gives up."""


def dot_product(problem: Problem) -> StockKernel:
    """``dot_product``: 512 threads of 32 elements each, a reduction of the blocks' sums, and a copy to the dtype."""
    k = problem.k
    threads, block = 512, 512 * 32
    blocks = ceil_div(k, block)
    return StockKernel(
        name="dot_product",
        symbol=f"dot_product_{TYPE_NAMES[problem.dtype]}_it32_tg512_sg16",
        unit=LANES,
        bm=1,
        bn=1,
        bk=block,
        wm=1,
        wn=1,
        rows=1,
        lanes=threads,
        grid=(blocks, 1, 1),
        busy=blocks,
        threads=threads,
        split_k=blocks,
        partition=block,
        launches=3,
        partial_bytes=4 * blocks,
        ragged=ragged(1, 1, k, 1, 1, block),
    )


def is_wide(problem: Problem, device: StockDevice, version: Version) -> bool:
    """``gemv_wide_config``: 2 to 15 rows with weights stored as (N, K), on M3 and later."""
    return (
        version >= GEMV_WIDE
        and device.generation >= 15
        and transposed(problem) == (False, True)
        and problem.dtype != "f32"
        and problem.k % 4 == 0
        and problem.n > 1
        and 1 < problem.m <= WIDE_ROWS * WIDE_PASSES
    )


def wide(problem: Problem) -> StockKernel:
    """``gemv_wide``: 4 columns a threadgroup, M spread evenly over as few passes as hold it.

    A pass is a column of the grid, but for N of 65536 and more: there each threadgroup makes the passes one after the
    other and finds its weights in the cache.
    """
    m, n, k, batch = problem.m, problem.n, problem.k, problem.batch
    passes = ceil_div(m, WIDE_ROWS)
    rows = ceil_div(m, passes)
    lanes = 32 if passes == 1 or n <= 64 else 16
    columns = 1 if n >= 65536 else passes
    bk = lanes * 8 * 4  # eight vectors of four a lane
    grid = (columns, ceil_div(n, 4), batch)
    bm = rows if columns > 1 else m
    return StockKernel(
        name="gemv_wide",
        symbol=f"gemv_wide_{TYPE_NAMES[problem.dtype]}_nv{rows}_kl{lanes}",
        unit=LANES,
        bm=bm,
        bn=4,
        bk=bk,
        wm=1,
        wn=lanes // 8,
        rows=rows,
        lanes=lanes,
        grid=grid,
        busy=prod(grid),
        threads=32 * (lanes // 8),
        partition=k,
        ragged=ragged(m, n, k, bm, 4, bk),
    )


def kernel(problem: Problem, version: Version) -> StockKernel:
    """``gemv_axbpy``: the matrix is B, or A where N is 1."""
    vector_is_a = problem.n != 1
    a_transposed, b_transposed = transposed(problem)
    walks_rows = not b_transposed if vector_is_a else a_transposed
    outputs = problem.n if vector_is_a else problem.m
    tile = _transposed_tile(outputs, problem.k) if walks_rows else _tile(outputs, problem.k, version)
    bm, bn, sm, sn, tm, tn = tile
    made = bn * sn * tn if walks_rows else bm * sm * tm
    step = bm * sm * tm if walks_rows else bn * sn * tn
    simdgroups = bn if walks_rows else bm  # along the outputs; those along K share sums
    groups = ceil_div(outputs, made)
    rows, columns = (1, made) if vector_is_a else (made, 1)
    name = "gemv_t" if walks_rows else "gemv"
    added = int(problem.op == "addmm")
    return StockKernel(
        name=name,
        symbol=f"{name}_{TYPE_NAMES[problem.dtype]}_bm{bm}_bn{bn}_sm{sm}_sn{sn}_tm{tm}_tn{tn}_nc0_axpby{added}",
        unit=LANES,
        bm=rows,
        bn=columns,
        bk=step,
        wm=1 if vector_is_a else simdgroups,
        wn=simdgroups if vector_is_a else 1,
        rows=rows,
        lanes=sm * bm if walks_rows else sn * bn,
        grid=(groups, 1, problem.batch),
        busy=groups * problem.batch,
        threads=32 * bn * bm,
        partition=problem.k,
        threadgroup_bytes=0 if walks_rows or bn == 1 else 4 * bn * (bm * sm * tm + tm),
        ragged=ragged(problem.m, problem.n, problem.k, rows, columns, step),
    )


Tile = tuple[int, int, int, int, int, int]
"""bm, bn simdgroups; sm, sn lanes of a simdgroup; tm, tn elements of a lane; m along the matrix's rows in memory."""


def _tile(outputs: int, k: int, version: Version) -> Tile:
    """The matrix's rows are the outputs: each simdgroup adds up along them."""
    bm, bn, sm, sn = (8 if outputs >= 4096 else 4), 1, 1, 32
    if version >= GEMV_SHORT_K and k <= 64:
        bm, sm, sn = 1, 8, 4
    elif version >= GEMV_SHORT_K and k >= 16 * outputs:
        bm, bn = 1, 8
    return bm, bn, sm, sn, (1 if outputs < 4 else 4), 4


def _transposed_tile(outputs: int, k: int) -> Tile:
    """The matrix's columns are the outputs: each lane adds up its own, over the rows of its simdgroup's share."""
    sm, sn = (4, 8) if k >= 8192 and outputs >= 2048 else (8, 4)
    bn = 16 if outputs >= 2048 else 4 if outputs >= 512 else 2
    return 1, bn, sm, sn, 4, (1 if outputs < 4 else 4)
