"""Quantized product for a few rows on simdgroup matrices, whose operands go from memory to registers and nowhere else.

Why it pays: where matrix units are much faster than the rest, a handful of rows costs no more than one. Weights are
unpacked straight into fragments of 8 x 8, once for all rows, with no threadgroup memory and no barrier on the way: a
tiled kernel, which goes through both, is made for more rows than that. On a GPU without fast matrix units the rows that
a fragment lacks to eight are wasted, and ``qmv`` is the one to beat.

Cost model: ceil(M / v) passes; a pass takes the larger of weight bytes / bandwidth, N K (unpack) operations, and
N K v / 512 fragment products, half as many again with affine weights and 16 rows.

Parameters: ``v``, rows of x in registers, 8 for each fragment; ``rows`` of w for each simdgroup, likewise;
``simdgroups`` in a threadgroup; ``split``, how many of them share K; ``flight``, groups of weights that a simdgroup
has in registers, all but one of them on their way.

Serves transposed weights of all of MLX's modes with x in 16 bits, and any M; made for M up to 64.

Source of the idea: Marlin and AWQ's kernels for NVIDIA GPUs unpack weights into the registers of ``mma``; the freedom
to order K as the packing wants it is FasterTransformer's, which reorders the weights instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import mlx.core as mx

from ..problem import Problem, Quantization
from . import program
from .base import Config, Parameter
from .family import LANES, THREADGROUP_BYTES, THREADS, TYPES, tiles
from .packed import MOST_ROWS, Packed

FRAGMENT = 8
"""Side of Metal's simdgroup matrices."""
MOST_REGISTERS = 128
"""Registers of 32 bits for sums, weights and x. An Apple GPU's thread is assumed to have 128 before fewer simdgroups
fit on a core; a warp's thread has 255. Addresses and unpacking need some too."""
GROUP_REGISTERS = 65536 // LANES * 2 // 3
"""The same for a threadgroup's simdgroups together: a block of CUDA has 65,536 registers, of which the compiler spills
where a third is not left for addresses and unpacking. An Apple core's register file, at 208 KB by measurements that are
not Apple's, is smaller."""


class QmvMma(Packed):
    name = "qmv_mma"
    summary = "quantized product of a few rows on simdgroup matrices, weights unpacked into registers"
    side = "matrix"
    texts = ("packs", "words", "fragment", "qmv_mma")
    parameters = {
        "v": Parameter(8, 32),
        "rows": Parameter(8, 64),
        "simdgroups": Parameter(1, 32),
        "split": Parameter(1, 32),
        "flight": Parameter(1, 8),
    }

    def legal(self, problem: Problem, config: Config) -> bool:
        q = problem.quantization
        v, rows, simdgroups, split, flight = map(int, config.values())
        return (
            super().legal(problem, config)
            and q is not None
            and problem.dtype in ("f16", "bf16")
            and v % FRAGMENT == 0
            and v < problem.m + FRAGMENT
            and rows % FRAGMENT == 0
            and simdgroups * LANES <= THREADS
            and registers(config, q.group_size, q.bits) <= min(MOST_REGISTERS, GROUP_REGISTERS // simdgroups)
            and self.threadgroup_bytes(config) <= THREADGROUP_BYTES
            and split * flight * q.group_size < 2 * problem.k
        )

    def constraints(self, problem: Problem) -> Iterable[tuple[tuple[str, ...], Callable[..., Any]]]:
        group = problem.quantization.group_size if problem.quantization else 1
        return [
            (("v",), lambda v: (v < problem.m + FRAGMENT) & (problem.m <= MOST_ROWS)),
            (("simdgroups", "split"), lambda simdgroups, split: simdgroups % split == 0),
            (("split", "flight"), lambda split, flight: split * flight * group < 2 * problem.k),
        ]

    def threadgroup_bytes(self, config: Config) -> int:
        """Threadgroup memory that a config takes."""
        v, rows, simdgroups, split, _ = map(int, config.values())
        return 4 * simdgroups * v * rows if split > 1 else 0

    def of_dtype(self, dtype: mx.Dtype, q: Quantization) -> program.Constants:
        return (
            ("T2", TYPES[dtype] + "2"),
            ("HALF", int(dtype == mx.float16)),
            ("VALUES", q.group_size // 4),
        )


def registers(config: Config, group_size: int, bits: int) -> int:
    """About how many registers of 32 bits a thread needs at once."""
    v, rows, _, _, flight = map(int, config.values())
    blocks, deep = v // FRAGMENT, rows // FRAGMENT
    held = deep * (tiles(group_size // 4 * bits, 32) + 2) + blocks * group_size // 8
    return flight * held + blocks * group_size // 8 + 4 * blocks * deep + 4 * deep
