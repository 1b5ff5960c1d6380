"""MLX's own kernels as launches, through MLX's own routing rules (:mod:`autotune.stock_rules`)."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from ...problem import Problem
from ...stock_rules import StockDevice, StockKernel, stock_kernel
from ...stock_rules.kernel import LANES, NAX_UNIT
from . import tiled, vector
from .chip import SimulatedChip
from .work import MATRIX, NAX, Launch

QMV_COLUMNS = 4
"""Columns of C that a lane of ``qmv`` has (``results_per_simdgroup`` in kernels/quantized.h)."""


def kernel(problem: Problem, chip: SimulatedChip, version: str) -> StockKernel:
    """The kernel that MLX of that version takes on the chip. Raises :class:`UsageError` for a version without rules."""
    return _kernel(problem, chip.architecture, chip.cores, chip.nax, version)


@lru_cache(maxsize=1 << 16)
def _kernel(problem: Problem, architecture: str, cores: int, nax: bool, version: str) -> StockKernel:
    return stock_kernel(problem, StockDevice("metal", architecture, cores, nax), version)


def launches(problem: Problem, chip: SimulatedChip, version: str) -> list[Launch]:
    """What a stock call launches, in order."""
    return of_kernel(kernel(problem, chip, version), problem, chip)


def of_kernel(k: StockKernel, problem: Problem, chip: SimulatedChip) -> list[Launch]:
    """What a kernel of MLX's launches, whether the rules would take it for the problem or not."""
    first = _vector_launch(k, problem, chip) if k.unit == LANES else tiled.launch(problem, _tile(k, problem), chip)
    return [first] + [tiled.reduction(problem, k.partial_bytes)] * (k.launches - 1)


def _vector_launch(k: StockKernel, problem: Problem, chip: SimulatedChip) -> Launch:
    if problem.quantization is not None or problem.m == 1 or problem.n > 1:
        return vector.launch(problem, _vector(k), chip.constants)
    # The matrix is A: its rows are what columns of B are elsewhere. B alone counts as weights, so A may be cached.
    turned = vector.Vector(k.name, 1, QMV_COLUMNS, k.bm, k.bk, k.threads // 32, partitions=k.split_k)
    found = vector.launch(replace(problem, m=1, n=problem.m), turned, chip.constants)
    other = found.other + found.weights - problem.weight_bytes
    return replace(found, weights=problem.weight_bytes, other=other)


def _vector(k: StockKernel) -> vector.Vector:
    simdgroups = k.threads // 32
    lane_columns = {"qmv": QMV_COLUMNS, "qmv_fast": QMV_COLUMNS, "qmv_wide": 1, "qmv_quad": 8}.get(k.name, 4)
    return vector.Vector(
        k.name,
        k.rows,
        lane_columns,
        k.bn,
        k.bk,
        simdgroups,
        partitions=k.split_k,
        registers=vector.SPARE_REGISTERS + 8 * k.rows,
    )


def _tile(k: StockKernel, problem: Problem) -> tiled.Tile:
    nax = k.unit == NAX_UNIT
    quantized = problem.quantization is not None
    return tiled.Tile(
        k.name,
        k.bm,
        k.bn,
        k.bk,
        k.wm,
        k.wn,
        split=k.split_k,
        partition=k.partition,
        unit=NAX if nax else MATRIX,
        staged_x=not nax,
        staged_w=not nax or quantized,
        threadgroup_bytes=k.threadgroup_bytes,
        ragged=k.ragged,
        partial_item=k.partial_bytes // (k.split_k * problem.m * problem.n),
    )
