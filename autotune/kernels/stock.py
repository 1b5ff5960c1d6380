"""MLX's own op, untouched: the route of every problem for which nothing better was measured."""

from __future__ import annotations

from ..mlx_ops import ORIGINAL
from ..problem import OPS, Problem
from .base import Config, Kernel, Op


class Stock(Kernel):
    name = "stock"
    summary = "MLX's own op"
    ops = OPS

    def build(self, problem: Problem, config: Config) -> Op:
        return ORIGINAL[problem.op]
