"""``quantized_matmul`` row by row, on Metal, with weights stored as (K, N): qvm, qvm_split_k.

mlx/backend/metal/quantized.cpp.
"""

from __future__ import annotations

from math import prod

from ..problem import DTYPES, Problem
from . import qmv, reduction
from .kernel import LANES, StockKernel, ceil_div, ragged
from .packed import batched, quantization, symbol
from .versions import QVM_BY_GROUP, QVM_SPLITK_ROUNDS_UP, Version


def kernel(problem: Problem, version: Version) -> StockKernel:
    """K is split from 1024 on."""
    return _plain(problem, version) if problem.k < 1024 else _split(problem, version)


def _plain(problem: Problem, version: Version) -> StockKernel:
    """``qvm``: each lane holds a row's weights for all columns of its simdgroup, and takes every 32nd row."""
    name = symbol(problem, "qvm", batched(problem))
    return qmv.by_lanes(problem, "qvm", name, bn=_columns(problem, version), bk=32, lanes=32)


def _columns(problem: Problem, version: Version) -> int:
    return 64 if version < QVM_BY_GROUP else 2 * min(quantization(problem).group_size, 32)


def _split(problem: Problem, version: Version) -> StockKernel:
    """``qvm_split_k``: partial sums in the dtype of x, then a reduction.

    Before 0.32.1 the last columns were left out where N is no multiple of a threadgroup's columns.
    """
    m, n, k, batch = problem.m, problem.n, problem.k, problem.batch
    parts = 32 if k > 8192 else 8
    bn = _columns(problem, version)
    across = ceil_div(n, bn) if version >= QVM_SPLITK_ROUNDS_UP else n // bn
    grid = (m, across, batch * parts)
    return StockKernel(
        name="qvm_split_k",
        symbol=symbol(problem, "qvm_split_k", f"_spk_{parts}"),
        unit=LANES,
        bm=1,
        bn=bn,
        bk=32,
        wm=1,
        wn=2,
        rows=1,
        lanes=32,
        grid=grid,
        busy=prod(grid),
        threads=64,
        split_k=parts,
        partition=ceil_div(k, parts),
        launches=1 + reduction.launches(parts, batch * m * n),
        partial_bytes=parts * batch * m * n * DTYPES[problem.dtype],
        ragged=ragged(m, n, k, 1, bn, 32),
    )
