"""Rows in pieces: M=9 computed as 8 + 1, results concatenated.

Why it pays: just past a limit or a tile's edge a call may cost twice as much as just before it (MLX's matrix-matrix
kernels pay for whole tiles of rows), and above ``vector_limit`` the matrix-vector kernel is out of reach; pieces bring
it back. See ``pad`` for the other direction.

Cost model: floor(M / rows) * t(rows) + t(M mod rows), plus one copy of the result.

Parameter: ``rows``, the rows of a piece.

Source of the idea: ml-explore/mlx #3661, where two matrix-vector calls beat one matrix-matrix call at M=2.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from ..problem import OPS, Problem
from .base import Config, Kernel, Op, Parameter
from .rows import Product, over_rows

MOST_PIECES = 8
"""More calls than this cost more to launch than a limit set wrongly can cost."""


class Chunk(Kernel):
    name = "chunk"
    summary = "rows in pieces, results concatenated"
    ops = OPS
    parameters = {"rows": Parameter(1, 4096)}

    def legal(self, problem: Problem, config: Config) -> bool:
        rows = int(config["rows"])
        return rows < problem.m <= MOST_PIECES * rows

    def build(self, problem: Problem, config: Config) -> Op:
        rows = int(config["rows"])

        def compose(product: Product, a: mx.array, c: mx.array | None, stream: Any) -> mx.array:
            edges = list(range(rows, a.shape[-2], rows))
            pieces = mx.split(a, edges, axis=-2, stream=stream)
            addends = [None] * len(pieces) if c is None else mx.split(c, edges, axis=-2, stream=stream)
            return mx.concatenate([product(p, q) for p, q in zip(pieces, addends)], axis=-2, stream=stream)

        return over_rows(problem, compose)

    def sources(self) -> tuple[str, ...]:
        return (*super().sources(), over_rows.__module__)
