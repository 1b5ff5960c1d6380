"""Dense tiled product on the GPU's neural accelerators, with ``addmm`` as its epilogue and split-K.

Why it pays: by Apple's account the accelerators of an M5 multiply several times as fast as the simdgroup matrices of an
M4, so whatever a rule sends past them is lost. On an M5 Max, MLX sent split-K shapes to a kernel without them, which
cost up to 2.7 times the time, and its ``addmm`` was wrong there (ml-explore/mlx #3422). Here split-K is a parameter of
the same kernel, and the epilogue is the text that ``gemm`` has.

Cost model: ceil(M / bm) ceil(N / bn) split_k threadgroups; each reads K (bm + bn) elements, through the cache K (bm
wn + bn wm), and does bm bn K multiplications on the accelerators; split_k > 1 adds split_k M N float32 numbers,
written and read, and a launch.

Parameters: ``bm``, ``bn``, the results of a threadgroup; ``wm``, ``wn``, its simdgroups; ``fm``, ``fn``, ``fk``, the
product that the accelerators are given at once; ``bk``, how far along K simdgroups go before they wait for each
other, for the cache's sake; ``split_k``, the threadgroups that share K, whose float32 results a second launch adds
up; ``swizzle``, rows of tiles that are walked together; ``run``, neighbouring elements that a lane loads together;
``relaxed``, Apple's permission to trade accuracy for speed, which MLX gives; what it permits is not documented.

Serves float16 and bfloat16. Not float32: MLX, which gives that permission, calls what comes of it TF32, and operands of
11 bits instead of 24 keep no bound of a float32 product; without it nothing is known of how fast they are. Serves all
layouts, slices and broadcasts of A, B and C with one program, as ``gemm`` does.

What is known of the interface: the names and the layout being left open, from Apple's MPPTensorOpsMatMul2d.h; from
public reports of its static asserts (macOS 26.2 on), that with both inputs in registers an operation has one simdgroup,
m, n and k of 16 or 32, and at least one of 32. MLX writes one layout of lanes into its kernels; here lanes ask
(``get_multidimensional_index``), and only that elements come in runs of ``run`` neighbours is assumed, which the kernel
checks: where it does not hold, the result is NaN and the first try refuses the config. MLX's layout has runs of 4; 1
assumes nothing.

What has been shown: this text is right on the MSL host, whose accelerators are an emulation of that interface, under
MLX's layout and under others. It has never run on an M5.

Source of the idea: MLX's NAX kernels (operands from device memory to registers, 32 of K at a time, waiting for each
other along K); the product sizes beside MLX's 16 x 32 x 16 are those that the asserts allow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Optional

import mlx.core as mx

from ..problem import Problem
from . import gemm, program
from .base import Config, Parameter
from .family import LANES, THREADS, TYPES, Family, tiles
from .launch import Shape, Starts

DTYPES = ("f16", "bf16")
SIDES = (16, 32)
"""What m, n and k of an operation may be where both inputs are in registers, as reported of Apple's asserts."""
RUNS = (1, 2, 4)
STEP = 32
"""What is loaded of K at once (``nax.metal``)."""
MOST_REGISTERS = 128
"""Registers of 32 bits for sums and operands. That an M5's thread has no more, as those of earlier Apple GPUs, is an
assumption; MLX's tiles take 64."""

LEAST_LONG_SLICE = 2048
"""Shortest slice of K for which a grid that fills the GPU anyway is worth splitting, for the cache's sake: MLX's are
that long or longer, and were measured on an M5 at 1.1 to 1.6 times the speed of one slice (ml-explore/mlx #3018)."""


class GemmNax(Family):
    name = "gemm_nax"
    summary = "dense tiled kernel on the neural accelerators, with split-K and the addmm epilogue"
    ops = ("matmul", "addmm")
    backends = ("metal",)
    nax = True
    side = "matrix"
    texts = ("reduce", "nax", "gemm_nax")
    parameters = {
        "bm": Parameter(16, 256),
        "bn": Parameter(16, 256),
        "bk": Parameter(32, 1024),
        "wm": Parameter(1, 8),
        "wn": Parameter(1, 8),
        "fm": Parameter(16, 32),
        "fn": Parameter(16, 32),
        "fk": Parameter(16, 32),
        "run": Parameter(1, 4),
        "relaxed": Parameter(0, 1),
        "split_k": Parameter(1, 64),
        "swizzle": Parameter(1, 16),
    }

    def sources(self) -> Iterable[str]:
        return (*super().sources(), gemm.__name__)

    def legal(self, problem: Problem, config: Config) -> bool:
        bk = int(config["bk"])
        return (
            problem.dtype in DTYPES
            and tiles_fit(config)
            and registers(config) <= MOST_REGISTERS
            and worth_trying(problem, config)
            and (bk == self.parameters["bk"].low or bk < problem.k)
        )

    def constraints(self, problem: Problem) -> Iterable[gemm.Constraint]:
        return constraints(problem)

    def same(self, problem: Problem, config: Config) -> object:
        """Where a threadgroup is one simdgroup there is nobody to wait for."""
        return tuple({**config, "bk": 0}.items()) if config["wm"] == config["wn"] == 1 else tuple(config.items())

    def dense(self, config: Config, dtype: mx.Dtype, a: Shape, b: Shape, c: Optional[Shape]) -> Starts:
        n, k, batch = b[-1], a[-1], math.prod(b[:-2])
        rows, split = math.prod(a[:-1]), int(config["split_k"])
        m, shape, added = rows // batch, (*a[:-1], n), c is not None
        simdgroups = int(config["wm"]) * int(config["wn"])
        epilogue = int(added and split == 1)
        constants = (*of_tiles(config, TYPES[dtype], TYPES[dtype]), ("EPILOGUE", epilogue))
        inputs = ("sizes", "a", "b", *(("factors", "c") if epilogue else ()))
        made = program.program(GemmNax.texts, constants, inputs, ("y",), contiguous=False)
        sizes = (m, n, k, batch, split, int(config["swizzle"]), int(config["bk"]))
        grid = (LANES * tiles(n, int(config["bn"])), simdgroups * tiles(m, int(config["bm"])), batch * split)
        return gemm.in_slices(split, made, sizes, grid, simdgroups, rows, shape, dtype, added)


def of_tiles(config: Config, a_type: str, b_type: str) -> program.Constants:
    """The constants of ``nax.metal``."""
    names = ("bm", "bn", "wm", "wn", "fm", "fn", "fk", "run", "relaxed")
    partials = int(int(config["split_k"]) > 1)
    numbers = tuple((name.upper(), int(config[name])) for name in names)
    return (("T", a_type), ("W", b_type), *numbers, ("PARTIALS", partials))


def tiles_fit(config: Config) -> bool:
    """Whether Apple's interface takes the products, and tiles divide into them."""
    bm, bn, bk, wm, wn = (int(config[name]) for name in ("bm", "bn", "bk", "wm", "wn"))
    fm, fn, fk = (int(config[name]) for name in ("fm", "fn", "fk"))
    return (
        all(side in SIDES for side in (fm, fn, fk))
        and max(fm, fn, fk) == max(SIDES)
        and int(config["run"]) in RUNS
        and bm % (fm * wm) == 0
        and bn % (fn * wn) == 0
        and bk % STEP == 0
        and LANES * wm * wn <= THREADS
    )


def constraints(problem: Problem) -> list[gemm.Constraint]:
    """:func:`tiles_fit`, :func:`registers` and what :func:`worth_trying` says of single axes, for arrays of values."""
    return [
        (("bm", "wm", "fm"), lambda bm, wm, fm: _axis_fits(problem.m, bm, wm, fm)),
        (("bn", "wn", "fn"), lambda bn, wn, fn: _axis_fits(problem.n, bn, wn, fn)),
        (("fm", "fn", "fk"), lambda fm, fn, fk: (fm == SIDES[1]) | (fn == SIDES[1]) | (fk == SIDES[1])),
        (("bm", "bn", "wm", "wn"), _registers_fit),
        (("wm", "wn"), lambda wm, wn: LANES * wm * wn <= THREADS),
        (("bm", "swizzle"), lambda bm, swizzle: (swizzle == 1) | (swizzle <= -(-problem.m // bm))),
    ]


def _axis_fits(size: int, tile: Any, simdgroups: Any, fragment: Any) -> Any:
    return (
        (tile % (fragment * simdgroups) == 0)
        & ((tile == fragment) | (tile < 2 * size))
        & (tile - tile // simdgroups < size)
    )


def _registers_fit(bm: Any, bn: Any, wm: Any, wn: Any) -> Any:
    sm, sn = bm // wm, bn // wn
    return sm * sn // LANES + (sm + sn) * STEP // LANES // 2 <= MOST_REGISTERS


def registers(config: Config) -> int:
    """About how many registers of 32 bits a thread needs for sums and for the operands of a step."""
    bm, bn, wm, wn = (int(config[name]) for name in ("bm", "bn", "wm", "wn"))
    sm, sn = bm // wm, bn // wn
    return sm * sn // LANES + (sm + sn) * STEP // LANES // 2


def worth_trying(problem: Problem, config: Config) -> bool:
    """Whether nothing about the config is absurd for the problem: simdgroups with nothing to do, slices of K too short
    or too many, an order of tiles where there are none to order."""
    bm, bn, wm, wn = (int(config[name]) for name in ("bm", "bn", "wm", "wn"))
    swizzle, along_m, along_n = int(config["swizzle"]), tiles(problem.m, bm), tiles(problem.n, bn)
    return (
        (bm == int(config["fm"]) or bm < 2 * problem.m)
        and (bn == int(config["fn"]) or bn < 2 * problem.n)
        and bm - bm // wm < problem.m
        and bn - bn // wn < problem.n
        and (swizzle == 1 or (swizzle <= along_m and along_n > 1))
        and worth_splitting(problem, along_m * along_n * problem.batch, int(config["split_k"]))
    )


def worth_splitting(problem: Problem, groups: int, split: int) -> bool:
    """Whether K is long enough for so many slices, and either that many threadgroups are not too many or a slice is so
    long that the order of reading is what counts, as where K is far longer than M and N."""
    long = problem.k >= split * LEAST_LONG_SLICE and problem.k >= 2 * max(problem.m, problem.n)
    few = problem.k >= split * gemm.LEAST_SLICE and groups * split <= gemm.MOST_SPLIT_GROUPS
    return split == 1 or few or long
