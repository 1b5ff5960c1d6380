"""``quantized_matmul`` in tiles, on Metal: qmm, qmm_splitk, qmm_nax.

mlx/backend/metal/quantized.cpp; the kernels are in kernels/quantized.h and fp_quantized.h and their ``_nax`` siblings.
"""

from __future__ import annotations

from ..problem import DTYPES, Problem
from . import reduction
from .device import StockDevice
from .kernel import MATRIX_UNIT, NAX_UNIT, StockKernel, ceil_div, in_tiles
from .packed import batched, quantization, symbol
from .versions import QMM_NAX_SHORT, QMM_SPLITK, SPLITK_FLOAT32, SPLITK_WHOLE_TILES, Version

SPLITK_THREADGROUPS = 512
"""Threadgroups that qmm_t_splitk aims for."""


def kernel(problem: Problem, device: StockDevice, version: Version) -> StockKernel:
    """``qmm_splitk``, which hands over to ``qmm`` where no split of K is possible, and ``qmm``."""
    transposed = problem.layout == "nt"
    if transposed and problem.batch == 1 and version >= QMM_SPLITK:
        parts = _partitions(problem, version)
        if parts > 1:
            return _split(problem, parts, version)
    if transposed and problem.k % 64 == 0 and device.uses_nax(version, problem.dtype):
        return _nax(problem, version)
    return _plain(problem)


def _partitions(problem: Problem, version: Version) -> int:
    """As many as reach 512 threadgroups, and fewer until each is a whole number of groups (and steps of 32)."""
    group = quantization(problem).group_size
    unit = max(group, 32) if version >= SPLITK_WHOLE_TILES else group
    parts = max(1, SPLITK_THREADGROUPS // (ceil_div(problem.n, 32) * ceil_div(problem.m, 32)))
    parts = min(parts, problem.k // unit)
    while parts > 1 and problem.k % (parts * unit):
        parts -= 1
    return parts


def _split(problem: Problem, parts: int, version: Version) -> StockKernel:
    """``qmm_t_splitk``: partial tiles in the dtype of x, in float32 from 0.32.4, then a reduction. It has no NAX
    version."""
    aligned = "true" if problem.n % 32 == 0 else "false"
    name = symbol(problem, "qmm_t_splitk", f"_alN_{aligned}")
    size = 4 if version >= SPLITK_FLOAT32 else DTYPES[problem.dtype]
    return _tiled(problem, "qmm_splitk", name, MATRIX_UNIT, (32, 32, 32), parts, size)


def _plain(problem: Problem) -> StockKernel:
    """``qmm``: one tile for every shape and device."""
    transposed = problem.layout == "nt"
    aligned = ("_alN_true" if problem.n % 32 == 0 else "_alN_false") if transposed else ""
    name = symbol(problem, "qmm_t" if transposed else "qmm_n", aligned + batched(problem))
    return _tiled(problem, "qmm", name, MATRIX_UNIT, (32, 32, 32))


def _nax(problem: Problem, version: Version) -> StockKernel:
    """``qmm_nax``: 32 rows where one tile holds all of M."""
    bm = 32 if problem.m <= 32 and version >= QMM_NAX_SHORT else 64
    aligned = "true" if problem.n % 64 == 0 else "false"
    name = symbol(problem, "qmm_t_nax", f"_bm{bm}_bn64_bk64_wm2_wn2_alN_{aligned}{batched(problem)}")
    return _tiled(problem, "qmm_nax", name, NAX_UNIT, (bm, 64, 64))


def _tiled(
    problem: Problem,
    name: str,
    symbol: str,
    unit: str,
    tile: tuple[int, int, int],
    parts: int = 1,
    partial_size: int = 0,
) -> StockKernel:
    """A kernel in tiles: 2x2 simdgroups; dequantized weights, and x but on NAX, go through threadgroup memory.
    ``partial_size`` is the bytes of one partial result."""
    m, n, k = problem.m, problem.n, problem.k
    bm, bn, _ = tile
    return in_tiles(
        problem,
        (*tile, 2, 2),
        (ceil_div(n, bn), ceil_div(m, bm), problem.batch * parts),
        name=name,
        symbol=symbol,
        unit=unit,
        split_k=parts,
        partition=k // parts,
        launches=1 if parts == 1 else 1 + reduction.launches(parts, m * n),
        partial_bytes=parts * m * n * partial_size,
        threadgroup_bytes=_threadgroup_bytes(problem, unit, tile),
    )


def _threadgroup_bytes(problem: Problem, unit: str, tile: tuple[int, int, int]) -> int:
    """Each row is padded by 16 bytes. The NAX kernels keep weights of the modes other than affine in bfloat16."""
    bm, bn, bk = tile
    size = DTYPES[problem.dtype]
    if unit == NAX_UNIT:
        size = size if quantization(problem).mode == "affine" else 2
        return size * bn * (bk + 16 // size)
    weights = bn * (bk + 16 // size) if problem.layout == "nt" else bk * (bn + 16 // size)
    return size * (bm * (bk + 16 // size) + weights)
