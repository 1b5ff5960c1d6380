"""Quantized matrix-vector product for a few rows: each pack of weights is unpacked once for V rows of x.

Why it pays: with one row a product is bound by reading the weights. A vector kernel that runs once for each row of x
finds the weights in cache again, but unpacks them again too. On an M4 Pro the published times (ml-explore/mlx #3553)
fit a memory bound up to M = 2 and, from M = 3 on, a bound that grows with every row: the arithmetic of unpacking. Here
V rows of x stay in registers and share each unpacked weight, so that another row costs its multiplications alone.

Cost model: ceil(M / v) passes; a pass takes the larger of weight bytes / bandwidth and N K (unpack + v) operations.

Parameters: ``v``, rows of x that share an unpacked weight; ``rows`` of w for each simdgroup, which share the loads of
x; ``simdgroups`` in a threadgroup; ``split``, how many of them share K; ``values`` of a row that a lane takes at once;
``stage``, whether x goes through threadgroup memory; ``wide``, whether x and w are read 16 bytes at a time where they
are aligned to that; ``math``, Metal's math mode.

Serves transposed weights of all of MLX's modes and any M; made for M up to 16.

Source of the idea: MLX's ``qmv`` (the layout of lanes over a row) and its ``gemv_wide`` (rows of x in registers, for
dense weights); AWQ's and Marlin's small-batch kernels unpack once for all rows as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..problem import Problem
from .base import Config, Parameter
from .family import LANES, MATH, THREADGROUP_BYTES, THREADS
from .packed import Packed

MOST_REGISTERS = 96
"""Registers of 32 bits that a lane may use for x, weights and sums. An Apple GPU's thread is assumed to have 128 before
fewer simdgroups fit on a core; addresses and unpacking need the rest."""
CHUNK = 8
"""Values of each row of x that a lane holds at a time (``qmv.metal``)."""


class Qmv(Packed):
    name = "qmv"
    summary = "quantized matrix-vector kernel that unpacks each weight once for several rows of x"
    side = "vector"
    texts = ("packs", "words", "qmv")
    parameters = {
        "v": Parameter(1, 16),
        "rows": Parameter(1, 8),
        "simdgroups": Parameter(1, 32),
        "split": Parameter(1, 16),
        "values": Parameter(8, 32),
        "stage": Parameter(0, 1),
        "wide": Parameter(0, 1),
        "math": MATH,
    }

    def legal(self, problem: Problem, config: Config) -> bool:
        q = problem.quantization
        v, _, simdgroups, split, values, stage, wide = _numbers(config)
        return (
            super().legal(problem, config)
            and q is not None
            and v <= problem.m + 1
            and values in (8, 16, 32)
            and q.group_size % values == 0
            and simdgroups * LANES <= THREADS
            and registers(config, q.bits) <= MOST_REGISTERS
            and not (stage and wide)
            and self.threadgroup_bytes(config) <= THREADGROUP_BYTES
            and split * LANES * values < 2 * problem.k
        )

    def constraints(self, problem: Problem) -> Iterable[tuple[tuple[str, ...], Callable[..., Any]]]:
        bits = problem.quantization.bits if problem.quantization else 0
        return [
            (("v",), lambda v: v <= problem.m + 1),
            (("simdgroups", "split"), lambda simdgroups, split: simdgroups % split == 0),
            (("v", "rows", "values"), lambda v, rows, values: _registers(v, rows, values, bits) <= MOST_REGISTERS),
            (("stage", "wide"), lambda stage, wide: (stage == 0) | (wide == 0)),
            (("split", "values"), lambda split, values: split * LANES * values < 2 * problem.k),
        ]

    def threadgroup_bytes(self, config: Config) -> int:
        """Threadgroup memory that a config takes."""
        v, rows, simdgroups, split, values, stage, _ = _numbers(config)
        staged = 4 * v * split * values * LANES if stage else 0
        return staged + (4 * simdgroups * v * rows if split > 1 else 0)


def registers(config: Config, bits: int) -> int:
    """About how many registers of 32 bits a lane needs at once: x, sums of a pack and of all, packs, scales, biases."""
    v, rows, _, _, values, _, _ = _numbers(config)
    return int(_registers(v, rows, values, bits))


def _registers(v: Any, rows: Any, values: Any, bits: int) -> Any:
    """The same of arrays of values."""
    return v * (CHUNK + 1) + 2 * v * rows + rows * (-(-values * bits // 32) + 2)


def _numbers(config: Config) -> list[int]:
    """The parameters that are numbers, in order."""
    return [int(config[name]) for name in Qmv.parameters if name != "math"]
