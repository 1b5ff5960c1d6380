"""Rows up to a multiple: M=3 computed as M=8 with five rows thrown away.

Why it pays: MLX hands small M to a matrix-vector kernel that does the work of a row once per row, and switches to a
matrix-matrix kernel at a compiled-in M (``vector_limit``). Where that limit is too high for a shape, more rows are
cheaper than fewer. Padding reaches the matrix-matrix kernel from below the limit; ``chunk`` reaches the matrix-vector
kernel from above it. Together they make a compiled-in limit tunable from outside.

Cost model: t(ceil(M / multiple) * multiple) plus one or two small copies of A.

Parameters: ``multiple``, the rows' new multiple (for M below it: their count); ``fill``, how the extra rows are made:
``zeros`` (``mx.pad``: a fill and a copy) or ``repeat`` (``mx.take`` of the last row: one gather).

Source of the idea: padding a dimension to the tile is common practice for tensor cores (NVIDIA's matrix multiplication
guide); that it beats MLX's compiled-in limits from outside is our own measurement (docs/vector-limit.md).
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from ..problem import OPS, Problem
from .base import Config, Kernel, Op, Parameter
from .rows import Product, over_rows

LARGEST_FACTOR = 8
"""Padding to more than this many times M is never legal: beyond it even a free row would not pay."""
ALWAYS_LEGAL = 33
"""... except up to the highest ``vector_limit`` that MLX has compiled in (33 on M5), which M=1 may want to reach."""


class Pad(Kernel):
    name = "pad"
    summary = "rows padded to a multiple, surplus rows dropped"
    ops = OPS
    parameters = {"multiple": Parameter(2, 4096), "fill": Parameter(words=("zeros", "repeat"))}

    def legal(self, problem: Problem, config: Config) -> bool:
        multiple = int(config["multiple"])
        padded = -(-problem.m // multiple) * multiple
        return problem.m < padded <= max(ALWAYS_LEGAL, min(LARGEST_FACTOR * problem.m, 2 * problem.m + 64))

    def same(self, problem: Problem, config: Config) -> object:
        multiple = int(config["multiple"])
        return (-(-problem.m // multiple) * multiple, config["fill"])

    def build(self, problem: Problem, config: Config) -> Op:
        multiple, repeat = int(config["multiple"]), config["fill"] == "repeat"

        def compose(product: Product, a: mx.array, c: mx.array | None, stream: Any) -> mx.array:
            rows = a.shape[-2]
            extra = -rows % multiple
            if not extra:
                return product(a, c)
            out = product(extend(a, extra, stream), None if c is None else extend(c, extra, stream))
            return mx.split(out, [rows], axis=-2, stream=stream)[0]

        def extend(array: mx.array, extra: int, stream: Any) -> mx.array:
            if repeat:
                rows = array.shape[-2]
                return mx.take(array, _last_repeated(rows, extra), axis=-2, stream=stream)
            return mx.pad(array, [(0, 0)] * (array.ndim - 2) + [(0, extra), (0, 0)], stream=stream)

        return over_rows(problem, compose)

    def sources(self) -> tuple[str, ...]:
        return (*super().sources(), over_rows.__module__)


_INDICES: dict[tuple[int, int], mx.array] = {}


def _last_repeated(rows: int, extra: int) -> mx.array:
    """0, 1, ..., rows-1, then rows-1 again ``extra`` times; made once, since making it costs more than using it."""
    found = _INDICES.get((rows, extra))
    if found is None:
        if len(_INDICES) > 4096:
            _INDICES.clear()
        found = _INDICES[rows, extra] = mx.array([*range(rows), *[rows - 1] * extra], dtype=mx.uint32)
    return found
