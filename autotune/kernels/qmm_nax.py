"""Quantized matrix-matrix product on the GPU's neural accelerators: weights are unpacked into threadgroup memory.

Why it pays: MLX has one tile size for its kernel with accelerators and takes it only where K is a multiple of 64 and
K is not split: split-K shapes (few rows, where speculative decoding and small batches are) go without the
accelerators. Here tiles, split-K and double buffering are parameters, and any K of whole groups will do.

Cost model: ceil(M / bm) times unpacking N K weights; bm bn K multiplications a threadgroup on the accelerators; with
split_k > 1, 8 split_k M N bytes of partial sums and a launch.

Parameters: those of ``gemm_nax``, where ``bk`` is the depth of a tile of weights, and ``stages``, tiles of weights in
threadgroup memory. How many weights a thread unpacks at once follows from these.

Serves float16 and bfloat16 (``gemm_nax`` says why not float32), all of MLX's modes, transposed weights, any M. Affine
weights are computed in float32 and rounded once, to x's dtype, where MLX rounds after the scale and again after the
bias. Floating-point weights are kept in bfloat16 whatever x is, as in MLX: they have at most 6 significant bits with
their scale, so that is exact, and bfloat16 has float32's range, of which float16 would lose the ends.

What is known of the interface, and what has been shown: see ``gemm_nax``. This text is right on the MSL host's
emulation of the accelerators; it has never run on an M5.

Source of the idea: MLX's ``qmm_t_nax`` (weights through threadgroup memory, x not), its split-K kernel for other
GPUs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import mlx.core as mx

from ..problem import Problem, Quantization
from . import gemm, program
from .base import Config, Parameter
from .family import LANES, THREADGROUP_BYTES, TYPES, Family, of_packing, packed_inputs, tiles
from .gemm_nax import DTYPES, MOST_REGISTERS, GemmNax, constraints, of_tiles, registers, tiles_fit, worth_trying
from .launch import Shape, Starts

PACKS = (32, 16, 8)
"""Weights that a thread can unpack at once; 32 of any bits are whole words."""
LEAST_WORDS = 8
"""Arrays with fewer elements lie in constant memory, where the kernel does not look for packed weights."""
ITEM_BYTES = 2
"""Bytes of a weight in threadgroup memory."""
PADDING = 16
"""Bytes between rows of weights in threadgroup memory (``qmm_nax.metal``)."""


class QmmNax(Family):
    name = "qmm_nax"
    summary = "quantized tiled kernel on the neural accelerators, with split-K"
    ops = ("quantized_matmul",)
    backends = ("metal",)
    nax = True
    side = "matrix"
    rounded = ("weights",)
    texts = ("packs", "nax", "qmm_nax")
    parameters = {**GemmNax.parameters, "bk": Parameter(32, 256), "stages": Parameter(1, 2)}

    def sources(self) -> Iterable[str]:
        return (*super().sources(), gemm.__name__, GemmNax.__module__)

    def files(self) -> Iterable[Path]:
        return (*super().files(), program.MSL / "reduce.metal")

    def legal(self, problem: Problem, config: Config) -> bool:
        q, bk = problem.quantization, int(config["bk"])
        return (
            q is not None
            and q.bits > 1
            and problem.dtype in DTYPES
            and problem.layout == "nt"
            and problem.batch == 1
            and problem.n * problem.k * q.bits // 32 >= LEAST_WORDS
            and tiles_fit(config)
            and registers(config) + held(config, q.group_size, q.bits) <= MOST_REGISTERS
            and self.threadgroup_bytes(config) <= THREADGROUP_BYTES
            and worth_trying(problem, config)
            and (bk == self.parameters["bk"].low or bk < 2 * problem.k)
        )

    def constraints(self, problem: Problem) -> Iterable[gemm.Constraint]:
        return constraints(problem)

    def threadgroup_bytes(self, config: Config) -> int:
        """Threadgroup memory that a config takes."""
        return int(config["stages"]) * int(config["bn"]) * (int(config["bk"]) * ITEM_BYTES + PADDING)

    def quantized(self, config: Config, dtype: mx.Dtype, q: Quantization, x: Shape, w: Shape) -> Starts:
        m, n, k, split = math.prod(x[:-1]), w[0], x[-1], int(config["split_k"])
        simdgroups, shape = int(config["wm"]) * int(config["wn"]), (*x[:-1], n)
        constants = (
            *of_tiles(config, TYPES[dtype], TYPES[dtype] if q.mode == "affine" else "bfloat"),
            ("BK", config["bk"]),
            ("STAGES", config["stages"]),
            ("VALUES", pack(config, q.group_size)),
            *of_packing(q),
        )
        made = program.program(QmmNax.texts, constants, packed_inputs(q), ("y",))
        grid = (LANES * tiles(n, int(config["bn"])), simdgroups * tiles(m, int(config["bm"])), split)
        return gemm.in_slices(split, made, (m, n, k, int(config["swizzle"])), grid, simdgroups, m, shape, dtype, False)


def pack(config: Config, group_size: int) -> int:
    """Weights that a thread unpacks at once: of one group and one row, and as many as leave a pack for every thread."""
    weights = int(config["bn"]) * int(config["bk"])
    threads = LANES * int(config["wm"]) * int(config["wn"])
    fitting = [values for values in PACKS if group_size % values == 0 and weights >= threads * values]
    return max(fitting, default=PACKS[-1])


def held(config: Config, group_size: int, bits: int) -> int:
    """Registers of 32 bits for the packs that a thread holds of the next tile, with their scales and biases."""
    values = pack(config, group_size)
    packs = tiles(int(config["bn"]) * int(config["bk"]), LANES * int(config["wm"]) * int(config["wn"]) * values)
    return packs * (tiles(values * bits, 32) + 2)
