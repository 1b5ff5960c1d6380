"""Quantized matrix-matrix product in tiles: weights are unpacked into threadgroup memory, once for BM rows of x.

Why it pays: MLX's tiled kernel has one tile size for all shapes and chips, and shares K over threadgroups by a rule.
Which tile wins depends on how many threadgroups a shape makes and on how many rows share an unpacked weight. For a
handful of rows (speculative decoding, small batches) tiles of 8 rows waste nothing, and K has to be shared to fill the
GPU; for hundreds, tall tiles unpack the weights the fewest times.

Cost model: ceil(M / bm) times unpacking N K weights; products of 8 x 8 fragments at the matrix units' rate; bytes of x
and w once for each column and row of tiles, as far as caches do not hold them; split_k > 1 adds 8 split_k M N bytes of
partial sums, written and read, and a launch.

Parameters: ``bm``, ``bn``, the results of a threadgroup, and ``bk``, the depth of a step along K; ``wm``, ``wn`` and
``wk``, the simdgroups of a threadgroup along M, N and K, where those along K add up in the same launch; ``split_k``,
the threadgroups that share K, whose float32 results a second launch adds up; ``swizzle``, rows of tiles that are walked
together, for the cache; ``stages``, tiles of each operand in threadgroup memory. How many weights a thread unpacks at
once follows from these.

Serves all of MLX's modes, transposed weights (``nt``) and others (``nn``), any M. As in MLX's own kernel, a weight is
computed in float32 and rounded once to x's dtype before it is multiplied: a tile of halves takes half the memory and
registers of one of floats.

Source of the idea: MLX's ``qmm_t`` and its split-K variant; the parameters are those of CUTLASS and CLBlast.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..problem import DTYPES as ITEM_BYTES
from ..problem import Problem, Quantization
from . import gemm, program
from .base import Config, Parameter
from .family import LANES, THREADGROUP_BYTES, TYPES, Family, of_packing, packed_inputs, tiles
from .launch import Shape, Starts

PACKS = (32, 16, 8)
"""Weights that a thread can unpack at once; 32 of any bits are whole words."""
LEAST_WORDS = 8
"""Arrays with fewer elements lie in constant memory, where the kernel does not look for packed weights."""
MOST_OFFSET = 1 << 31
"""Elements of x or of w from the first of a tile to the last: offsets within a tile have 32 bits."""
LARGE_TILE = 32
"""Rows of a tile from which on unpacking is a small part of the work, whatever the number of tiles along M."""
MOST_UNPACKED = 4
"""Tiles along M, each of which unpacks all weights again, that are worth measuring with fewer rows than that."""
MOST_REGISTERS = 128
"""Registers of 32 bits for sums, fragments, and what a thread holds of the next tiles. An Apple GPU's thread is assumed
to have 128 before occupancy falls and 256 before they spill; addresses and unpacking need some too."""


class Qmm(Family):
    name = "qmm"
    summary = "quantized tiled kernel that unpacks weights into threadgroup memory, with split-K"
    ops = ("quantized_matmul",)
    side = "matrix"
    offered = ("metal",)
    rounded = ("weights",)
    texts = ("packs", "tile", "qmm")
    parameters = {
        "bm": Parameter(8, 256),
        "bn": Parameter(8, 256),
        "bk": Parameter(8, 256),
        "wm": Parameter(1, 8),
        "wn": Parameter(1, 8),
        "wk": Parameter(1, 8),
        "split_k": Parameter(1, 64),
        "swizzle": Parameter(1, 16),
        "stages": Parameter(1, 2),
    }

    def sources(self) -> Iterable[str]:
        return (*super().sources(), gemm.__name__)

    def files(self) -> Iterable[Path]:
        return (*super().files(), program.MSL / "reduce.metal")

    def legal(self, problem: Problem, config: Config) -> bool:
        q = problem.quantization
        return (
            q is not None
            and q.bits > 1
            and problem.batch == 1
            and problem.n * problem.k * q.bits // 32 >= LEAST_WORDS
            and max(problem.n, problem.k) * max(int(config[name]) for name in ("bm", "bn", "bk")) < MOST_OFFSET
            and gemm.tiles_fit(config)
            and 2 * int(config["bn"]) * int(config["bk"]) >= threads(config) * pack(problem, config)
            and registers(problem, config) <= MOST_REGISTERS
            and self.threadgroup_bytes(config, ITEM_BYTES[problem.dtype], problem.layout) <= THREADGROUP_BYTES
            and gemm.well_shared(config)
            and gemm.worth_trying(problem, config)
            and (int(config["bm"]) >= LARGE_TILE or tiles(problem.m, int(config["bm"])) <= MOST_UNPACKED)
        )

    def constraints(self, problem: Problem) -> Iterable[gemm.Constraint]:
        def few_rows(bm: Any) -> Any:
            return (bm >= LARGE_TILE) | (-(-problem.m // bm) <= MOST_UNPACKED)

        def registers_fit(bm: Any, bn: Any, bk: Any, wm: Any, wn: Any, wk: Any) -> Any:
            """Without what is held of the next weights."""
            down, across = bm // wm // gemm.FRAGMENT, bn // wn // gemm.FRAGMENT
            elements = -(-bm * bk // (LANES * wm * wn * wk)) * item // 4
            return 2 * down * across + (down + across) * item // 2 + elements <= MOST_REGISTERS

        def memory_fits(bm: Any, bn: Any, bk: Any, stages: Any) -> Any:
            weights = gemm.tile_bytes(bn, bk, item) if nt else gemm.tile_bytes(bk, bn, item)
            return stages * (gemm.tile_bytes(bm, bk, item) + weights) <= THREADGROUP_BYTES

        item, nt = ITEM_BYTES[problem.dtype], problem.layout == "nt"
        return [
            (("bm",), few_rows),
            *gemm.constraints(problem),
            (("bm", "bn", "bk", "wm", "wn", "wk"), registers_fit),
            (("bm", "bn", "bk", "stages"), memory_fits),
        ]

    def threadgroup_bytes(self, config: Config, item_bytes: int = 4, layout: str = "nt") -> int:
        """Threadgroup memory that a config takes for elements of that size."""
        bm, bn, bk = (int(config[name]) for name in ("bm", "bn", "bk"))
        w_tile = (bn, bk) if layout == "nt" else (bk, bn)
        operands = gemm.tile_bytes(bm, bk, item_bytes) + gemm.tile_bytes(*w_tile, item_bytes)
        return max(int(config["stages"]) * operands, gemm.spill_bytes(config))

    def settled(self, problem: Problem, config: Config) -> Config:
        known = {name: int(config[name]) for name in self.parameters}
        return {**known, "values": pack(problem, config), "nt": int(problem.layout == "nt")}

    def quantized(self, config: Config, dtype: mx.Dtype, q: Quantization, x: Shape, w: Shape) -> Starts:
        bm, bn, wm, wn, wk, split = (int(config[name]) for name in ("bm", "bn", "wm", "wn", "wk", "split_k"))
        m, k, n = math.prod(x[:-1]), x[-1], w[0] if config["nt"] else w[1] * 32 // q.bits
        simdgroups, shape = wm * wn * wk, (*x[:-1], n)
        # The program reads `swizzle` at run time, and of `split_k` takes whether there are partial sums.
        constants = (
            ("T", TYPES[dtype]),
            *((name.upper(), value) for name, value in config.items() if name not in ("split_k", "swizzle")),
            ("PARTIALS", int(split > 1)),
            *of_packing(q),
        )
        made, sizes = program.program(Qmm.texts, constants, packed_inputs(q), ("y",)), (m, n, k, int(config["swizzle"]))
        grid = (LANES * tiles(n, bn), simdgroups * tiles(m, bm), split)
        return gemm.in_slices(split, made, sizes, grid, simdgroups, m, shape, dtype, False)


def threads(config: Config) -> int:
    """Threads of a threadgroup."""
    return LANES * int(config["wm"]) * int(config["wn"]) * int(config["wk"])


def pack(problem: Problem, config: Config) -> int:
    """Weights that a thread unpacks at once: as many as leave a pack for every thread, of one group and one row."""
    assert problem.quantization is not None
    bn, bk = int(config["bn"]), int(config["bk"])
    row = bk if problem.layout == "nt" else bn
    fitting = [
        values
        for values in PACKS
        if problem.quantization.group_size % values == 0 and row % values == 0 and bn * bk >= threads(config) * values
    ]
    return max(fitting, default=PACKS[-1])


def registers(problem: Problem, config: Config) -> int:
    """About how many registers of 32 bits a thread needs at once: to multiply, and for its part of the next tiles."""
    assert problem.quantization is not None
    bm, bn, bk, wm, wn = (int(config[name]) for name in ("bm", "bn", "bk", "wm", "wn"))
    item, values = ITEM_BYTES[problem.dtype], pack(problem, config)
    down, across = bm // wm // gemm.FRAGMENT, bn // wn // gemm.FRAGMENT
    fragments = 2 * down * across + (down + across) * item // 2
    elements = tiles(bm * bk, threads(config)) * item // 4
    packs = tiles(bn * bk, threads(config) * values)
    return fragments + elements + packs * (tiles(values * problem.quantization.bits, 32) + 2)
