"""What the kernels for a few rows of x times packed weights share: their legal problems, and what a call launches.

Each reads the weights as they are packed, unpacks them in registers, and is one launch: no partial sums leave it.
"""

from __future__ import annotations

import math

import mlx.core as mx

from ..problem import Problem, Quantization
from . import program
from .base import Config
from .family import LANES, TYPES, Family, of_packing, packed_inputs, tiles
from .launch import Shape, Start, Starts

MOST_ROWS = 64
"""Rows of x beyond which such a kernel is not worth measuring."""


class Packed(Family):
    """Subclasses have the parameters ``v`` (rows of x), ``rows`` (of w), ``simdgroups`` and ``split``."""

    ops = ("quantized_matmul",)
    smooth = True

    def of_dtype(self, dtype: mx.Dtype, q: Quantization) -> program.Constants:
        """The text's constants that follow from the dtype of x and the packing, beyond ``T`` and the packing's own."""
        return ()

    def legal(self, problem: Problem, config: Config) -> bool:
        q = problem.quantization
        return (
            q is not None
            and problem.layout == "nt"
            and problem.batch == 1
            and q.bits > 1
            and problem.m <= MOST_ROWS
            and int(config["simdgroups"]) % int(config["split"]) == 0
        )

    def quantized(self, config: Config, dtype: mx.Dtype, q: Quantization, x: Shape, w: Shape) -> Starts:
        m, n, k = math.prod(x[:-1]), w[0], x[-1]
        v, rows, simdgroups, split = (int(config[name]) for name in ("v", "rows", "simdgroups", "split"))
        constants = (
            ("T", TYPES[dtype]),
            *self.of_dtype(dtype, q),
            *((name.upper(), value) for name, value in config.items() if name != "math"),
            *of_packing(q),
        )
        math_mode = str(config.get("math", "safe"))
        made = program.program(self.texts, constants, packed_inputs(q), ("y",), math_mode=math_mode)
        grid = (LANES * tiles(n, rows * (simdgroups // split)), simdgroups, tiles(m, v))
        return Start(made, (m, n, k), grid, (LANES, simdgroups, 1), (*x[:-1], n), dtype), None
