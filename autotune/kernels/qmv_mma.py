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
from functools import lru_cache
from typing import Any

import mlx.core as mx

from ..problem import Problem
from . import launch
from .base import Config, Parameter
from .family import LANES, THREADGROUP_BYTES, THREADS, TYPES, Family, Settled, rows_of, tiles

MOST_ROWS = 64
"""Rows of x beyond which a tiled kernel is the better one."""
FRAGMENT = 8
"""Side of Metal's simdgroup matrices."""
MOST_REGISTERS = 128
"""Registers of 32 bits for sums, weights and x. An Apple GPU's thread is assumed to have 128 before fewer simdgroups
fit on a core; a warp's thread has 255. Addresses and unpacking need some too."""


class QmvMma(Family):
    name = "qmv_mma"
    summary = "quantized product of a few rows on simdgroup matrices, weights unpacked into registers"
    ops = ("quantized_matmul",)
    smooth = True
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
            q is not None
            and problem.layout == "nt"
            and problem.batch == 1
            and problem.dtype in ("f16", "bf16")
            and q.bits > 1
            and problem.m <= MOST_ROWS
            and v % FRAGMENT == 0
            and v < problem.m + FRAGMENT
            and rows % FRAGMENT == 0
            and simdgroups % split == 0
            and simdgroups * LANES <= THREADS
            and registers(config, q.group_size, q.bits) <= MOST_REGISTERS
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

    def quantized(self, config, x, w, scales, biases, group_size, bits, mode, stream):
        m, n, k = rows_of(x), w.shape[0], x.shape[-1]
        program, grid, threadgroup = _prepared(config, x.dtype, group_size, bits, mode, m, n)
        inputs = (
            (launch.sizes(m, n, k), x, w, scales) if biases is None else (launch.sizes(m, n, k), x, w, scales, biases)
        )
        return launch.run(program, inputs, grid, threadgroup, ((*x.shape[:-1], n),), (x.dtype,), stream)[0]


def registers(config: Config, group_size: int, bits: int) -> int:
    """About how many registers of 32 bits a thread needs at once."""
    v, rows, _, _, flight = map(int, config.values())
    blocks, deep = v // FRAGMENT, rows // FRAGMENT
    held = deep * (tiles(group_size // 4 * bits, 32) + 2) + blocks * group_size // 8
    return flight * held + blocks * group_size // 8 + 4 * blocks * deep + 4 * deep


@lru_cache(maxsize=4096)
def _prepared(
    config: Settled, dtype: mx.Dtype, group_size: int, bits: int, mode: str, m: int, n: int
) -> tuple[launch.Program, launch.Grid, launch.Grid]:
    """Program, grid and threadgroup of a launch."""
    simdgroups = config["simdgroups"]
    groups = tiles(n, config["rows"] * (simdgroups // config["split"]))
    constants = (
        ("T", TYPES[dtype]),
        ("T2", TYPES[dtype] + "2"),
        ("HALF", int(dtype == mx.float16)),
        *((name.upper(), value) for name, value in config.items()),
        ("BITS", bits),
        ("GROUP", group_size),
        ("VALUES", group_size // 4),
        *((name.upper(), int(name == mode)) for name in ("affine", "mxfp4", "nvfp4", "mxfp8")),
    )
    inputs = ("sizes", "x", "w", "scales", *(("biases",) if mode == "affine" else ()))
    program = launch.program(QmvMma.texts, constants, inputs, ("y",))
    return program, (LANES * groups, simdgroups, tiles(m, config["v"])), (LANES, simdgroups, 1)
