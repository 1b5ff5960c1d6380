"""What a stock call launches."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from ..problem import Problem

LANES, MATRIX_UNIT, NAX_UNIT = "lanes", "simdgroup_matrix", "nax"
"""What multiplies: each lane for itself, the simdgroup's 8x8 matrix instructions, the neural accelerators."""


Tile = tuple[int, int, int, int, int]
"""bm, bn, bk, wm, wn of a kernel in tiles."""


@dataclass(frozen=True)
class StockKernel:
    """The kernel that MLX takes for one problem, and the work that it launches.

    C (MxN) = A (MxK) times B (KxN); B is the weights where the product has any.

    ==================== ===============================================================================================
    ``name``             dot_product, gemv, gemv_t, gemv_wide, steel_fused, steel_splitk, nax_fused, nax_splitk, qmv,
                         qmv_fast, qmv_quad, qmv_wide, qvm, qvm_split_k, qmm, qmm_splitk, qmm_nax; on CUDA qmv, fp_qmv,
                         qmm_sm80, qmm_sm90, qmm_naive
    ``symbol``           the kernel's name in MLX's metallib, without function constants; empty on CUDA
    ``unit``             what multiplies
    ``bm``, ``bn``       rows and columns of C that one threadgroup makes
    ``bk``               elements of K that the threadgroup takes in one step
    ``wm``, ``wn``       simdgroups of a threadgroup along rows and columns; more than these share K
    ``rows``             rows of C that share one read of B. ``bm``, but for gemv_wide with a very large N, which makes
                         all rows in one threadgroup and reads its share of B again for each ``rows`` of them
    ``lanes``            threads that share one sum over K: 1 in a tiled kernel
    ``grid``             threadgroups launched, along x, y and z
    ``busy``             those with work to do: a swizzled grid has more than it needs, and they return at once
    ``threads``          threads of a threadgroup
    ``split_k``          partitions of K, each with threadgroups of its own
    ``partition``        elements of K in one partition; the last may have fewer, or the remainder on top
    ``swizzle``          log2 of the tile rows that the grid walks together
    ``launches``         kernels launched: the product's, then those that add up partitions
    ``partial_bytes``    bytes of partial results, written once and read once
    ``threadgroup_bytes`` threadgroup memory; what the compiler adds is not counted
    ``ragged``           those of ``MNK`` that the tile does not divide: their edges take the bounds-checked loads
    ==================== ===============================================================================================
    """

    name: str
    symbol: str
    unit: str
    bm: int
    bn: int
    bk: int
    wm: int
    wn: int
    rows: int
    lanes: int
    grid: tuple[int, int, int]
    busy: int
    threads: int
    split_k: int = 1
    partition: int = 0
    swizzle: int = 0
    launches: int = 1
    partial_bytes: int = 0
    threadgroup_bytes: int = 0
    ragged: str = ""

    @property
    def threadgroups(self) -> int:
        """Threadgroups launched."""
        return prod(self.grid)

    @property
    def extra_bytes(self) -> int:
        """Traffic beyond operands and result: partial results go out and come back."""
        return 2 * self.partial_bytes


def in_tiles(problem: Problem, tile: Tile, grid: tuple[int, int, int], *, busy: int = 0, **rest: Any) -> StockKernel:
    """A kernel whose threadgroups make a tile of C each and read B once for it; all of the ``grid`` have work unless
    ``busy`` says how many. ``rest`` are the fields left open; K is one partition unless they say otherwise."""
    bm, bn, bk, wm, wn = tile
    return StockKernel(
        bm=bm,
        bn=bn,
        bk=bk,
        wm=wm,
        wn=wn,
        rows=bm,
        lanes=1,
        grid=grid,
        busy=busy or prod(grid),
        threads=32 * wm * wn,
        ragged=ragged(problem.m, problem.n, problem.k, bm, bn, bk),
        **{"partition": problem.k, **rest},
    )


def ragged(m: int, n: int, k: int, bm: int, bn: int, bk: int) -> str:
    """The axes that a tile does not divide, such as ``"MK"``."""
    return "".join(axis for axis, size, tile in zip("MNK", (m, n, k), (bm, bn, bk)) if size % tile)


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)
