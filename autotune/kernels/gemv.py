"""Dense matrix-vector product for a few rows: each element of B is loaded once for V rows of x.

Why it pays: with few rows a product is bound by reading B. A matrix-matrix kernel fills tiles of 16 or 32 rows with
padding, and a vector kernel that runs once a row reads B again from cache for each. Here V rows share each load, in
both layouts; MLX has such a kernel (``gemv_wide``) for the transposed layout, 16-bit types and M from 2 to 15 alone.

Cost model: ceil(M / v) passes over B; a pass takes the larger of bytes of B / bandwidth and v N K multiplications.

Parameters: ``v``, rows of x that share an element of B; ``outputs``, columns for a simdgroup (B contiguous along K) or
for a lane (B contiguous along N); ``simdgroups`` in a threadgroup; ``split``, how many of them share K; ``values`` of K
that a lane takes at once; ``lanes`` of a simdgroup that lie along N, for B contiguous along N; ``math``,
Metal's math mode.

Serves all layouts of B, ``matmul`` and ``addmm``, any M; made for M up to 8. x is made contiguous first, which is a
view where it already is.

Source of the idea: MLX's ``gemv``, ``gemv_t`` (lanes along both axes) and ``gemv_wide`` (rows of x in registers).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Optional

import mlx.core as mx

from ..problem import Problem
from . import program
from .base import Config, Parameter
from .family import LANES, MATH, THREADGROUP_BYTES, THREADS, TYPES, Family, tiles
from .launch import Shape, Start, Starts

MOST_ROWS = 32
"""Rows of x beyond which a matrix-vector kernel is not worth measuring."""
MOST_REGISTERS = 96
"""Values of x, of B and sums that a lane may hold (see ``qmv``)."""

NONE, ROW, FULL = 0, 1, 2
"""What is added: nothing, one row for all, a whole matrix."""


class Gemv(Family):
    name = "gemv"
    summary = "dense matrix-vector kernel that loads each element of B once for several rows of x"
    ops = ("matmul", "addmm")
    smooth = True
    side = "vector"
    offered = ("metal",)
    texts = ("gemv",)
    compact = True
    parameters = {
        "v": Parameter(1, 16),
        "outputs": Parameter(1, 8),
        "simdgroups": Parameter(1, 32),
        "split": Parameter(1, 32),
        "values": Parameter(1, 16),
        "lanes": Parameter(1, 32),
        "math": MATH,
    }

    def legal(self, problem: Problem, config: Config) -> bool:
        v, outputs, simdgroups, split, values, lanes = _numbers(config)
        return (
            problem.batch == 1
            and problem.layout[0] == "n"
            and problem.m <= MOST_ROWS
            and v <= problem.m + 1
            and lanes in (1, 2, 4, 8, 16, 32)
            and simdgroups % split == 0
            and simdgroups * LANES <= THREADS
            and v * (values + outputs) + values <= MOST_REGISTERS
            and self.threadgroup_bytes(config) <= THREADGROUP_BYTES
            and split * self._depth(problem, config) < 2 * problem.k
            and simdgroups // split * self._width(problem, config) < 2 * problem.n
        )

    def constraints(self, problem: Problem) -> Iterable[tuple[tuple[str, ...], Callable[..., Any]]]:
        return [
            (("v",), lambda v: (v <= problem.m + 1) & (problem.m <= MOST_ROWS)),
            (("simdgroups", "split"), lambda simdgroups, split: simdgroups % split == 0),
            (
                ("v", "outputs", "values"),
                lambda v, outputs, values: v * (values + outputs) + values <= MOST_REGISTERS,
            ),
        ]

    def same(self, problem: Problem, config: Config) -> object:
        """With B contiguous along K all lanes lie along K, whatever ``lanes`` says."""
        return tuple(item for item in config.items() if item[0] != "lanes" or problem.layout[1] == "n")

    def threadgroup_bytes(self, config: Config) -> int:
        """Threadgroup memory that a config takes."""
        v, outputs, simdgroups, split, _, lanes = _numbers(config)
        return 4 * simdgroups * v * outputs * lanes if split > 1 else 0

    @staticmethod
    def _depth(problem: Problem, config: Config) -> int:
        """Elements of K that a simdgroup takes at once."""
        along_k = problem.layout[1] == "t"
        return int(config["values"]) * (LANES if along_k else LANES // int(config["lanes"]))

    @staticmethod
    def _width(problem: Problem, config: Config) -> int:
        """Columns that a simdgroup computes."""
        return int(config["outputs"]) * (1 if problem.layout[1] == "t" else int(config["lanes"]))

    def settled(self, problem: Problem, config: Config) -> Config:
        return {**config, "width": self._width(problem, config)}

    def dense(self, config: Config, dtype: mx.Dtype, a: Shape, b: Shape, c: Optional[Shape]) -> Starts:
        m, n, k = math.prod(a[:-1]), b[-1], a[-1]
        epilogue = NONE if c is None else ROW if math.prod(c) == n and m > 1 else FULL
        simdgroups, split, width = (int(config[name]) for name in ("simdgroups", "split", "width"))
        constants = (
            ("T", TYPES[dtype]),
            *((name.upper(), config[name]) for name in Gemv.parameters if name != "math"),
            ("EPILOGUE", epilogue),
        )
        inputs = ("sizes", "x", "b", *(("factors", "c") if epilogue else ()))
        made = program.program(self.texts, constants, inputs, ("y",), contiguous=False, math_mode=str(config["math"]))
        grid = (LANES * tiles(n, simdgroups // split * width), simdgroups, tiles(m, int(config["v"])))
        return Start(made, (m, n, k), grid, (LANES, simdgroups, 1), (*a[:-1], n), dtype), None


def _numbers(config: Config) -> list[int]:
    """The parameters that are numbers, in order."""
    return [int(config[name]) for name in Gemv.parameters if name != "math"]
