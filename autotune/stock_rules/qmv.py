"""``quantized_matmul`` row by row, on Metal, with weights stored as (N, K): qmv_quad, qmv_wide, qmv_fast, qmv.

``dispatch_qmv`` and what it calls in mlx/backend/metal/quantized.cpp; the kernels are in kernels/quantized.h (affine)
and fp_quantized.h (the other modes).
"""

from __future__ import annotations

from math import prod

from ..problem import Problem
from .device import StockDevice
from .kernel import LANES, StockKernel, ceil_div, ragged
from .packed import batched, quantization, symbol
from .versions import QMV_FAST_BY_BITS, QMV_NARROW, QMV_WIDE, Version

WIDE_ROWS = 5
"""Rows of x that qmv_wide holds in registers."""


def kernel(problem: Problem, device: StockDevice, version: Version) -> StockKernel:
    """A kernel for short K; else the one whose rows share reads of the weights, which MLX's authors found to pay for
    affine weights from generation 15 on and for the other modes everywhere; else the plain one."""
    q = quantization(problem)
    if problem.k in (64, 128) and q.bits & (q.bits - 1) == 0:
        return _quad(problem)
    if problem.m >= 2 and version >= QMV_WIDE and (q.mode != "affine" or device.generation >= 15):
        return _wide(problem)
    return _plain(problem, device, version)


def _quad(problem: Problem) -> StockKernel:
    """``qmv_quad``: eight quads of lanes with eight columns each; K is 64 or 128."""
    name = symbol(problem, "qmv_quad", f"_d_{problem.k}{batched(problem)}")
    return by_lanes(problem, "qmv_quad", name, bn=64, bk=problem.k, lanes=4, simdgroups=1)


def _wide(problem: Problem) -> StockKernel:
    """``qmv_wide``: M spread evenly over as few tiles of at most five rows as hold it; each tile reads all weights."""
    tiles = ceil_div(problem.m, WIDE_ROWS)
    rows = ceil_div(problem.m, tiles)
    q = quantization(problem)
    lanes = 8 if q.mode == "affine" else 16
    name = symbol(problem, "qmv_wide", f"_nv_{rows}_kl_{lanes}{batched(problem)}")
    return by_lanes(problem, "qmv_wide", name, bn=2 * 32 // lanes, bk=lanes * q.group_size, lanes=lanes, rows=rows)


def _plain(problem: Problem, device: StockDevice, version: Version) -> StockKernel:
    """``qmv``: two simdgroups with four columns each; every row of x reads all weights again."""
    q = quantization(problem)
    fast = problem.n % 8 == 0 and problem.k % fast_alignment(q.bits, version) == 0
    narrow = (
        fast
        and version >= QMV_NARROW
        and q.mode == "nvfp4"
        and problem.n >= 4096
        and device.generation == 17
        and device.letter == "s"
    )
    name = "qmv_fast" if fast else "qmv"
    full = symbol(problem, name, ("_r_2" if narrow else "") + batched(problem))
    step = fast_step(q.bits) if fast else 32 * pack_size(q.bits)
    return by_lanes(problem, name, full, bn=4 if narrow else 8, bk=step, lanes=32)


def fast_alignment(bits: int, version: Version) -> int:
    """What K must be a multiple of for qmv_fast: ``qmv_fast_k_alignment``, 512 before 0.32.1. For one bit it is the 512
    that a comment in the kernel names."""
    return fast_step(bits) if version >= QMV_FAST_BY_BITS and bits > 1 else 512


def fast_step(bits: int) -> int:
    """Weights of one row that a simdgroup of qmv_fast takes in one step: one pack a lane for 1 and 2 bits, else two."""
    return 32 * pack_size(bits) * (1 if bits <= 2 else 2)


def pack_size(bits: int) -> int:
    """Weights in a pack: those in 32 bits, but 8 for 3 and 5 bits, and 4 for 6."""
    return 8 if bits in (3, 5) else 4 if bits == 6 else 32 // bits


def by_lanes(
    problem: Problem,
    name: str,
    symbol: str,
    bn: int,
    bk: int,
    lanes: int,
    rows: int = 1,
    simdgroups: int = 2,
) -> StockKernel:
    """A matrix-vector kernel: ``rows`` rows and ``bn`` columns of C a threadgroup."""
    m, n, k = problem.m, problem.n, problem.k
    grid = (ceil_div(m, rows), ceil_div(n, bn), problem.batch)
    return StockKernel(
        name=name,
        symbol=symbol,
        unit=LANES,
        bm=rows,
        bn=bn,
        bk=bk,
        wm=1,
        wn=simdgroups,
        rows=rows,
        lanes=lanes,
        grid=grid,
        busy=prod(grid),
        threads=32 * simdgroups,
        partition=k,
        ragged=ragged(m, n, k, rows, bn, bk),
    )
