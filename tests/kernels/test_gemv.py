"""The dense matrix-vector family on the host, against float64."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
import pytest

from autotune.kernels import launch
from autotune.kernels.family import THREADGROUP_BYTES
from autotune.kernels.gemv import Gemv
from autotune.problem import Problem
from autotune.search import space

from .packed import UNIT_ROUNDOFF, Recorder, config, doubles

GEMV = Gemv()
SCHEDULES = ("in-order", "reverse", "random-1", "random-2", "check")
# v, outputs, simdgroups, split, values, lanes
CONFIGS = ("3 2 4 2 4 4", "1 4 2 1 8 8", "4 1 4 4 2 32", "2 3 8 2 1 1")
SHAPES = ((1, 1, 1), (2, 3, 2), (5, 77, 130), (3, 200, 67), (1, 33, 1000))
ALPHA, BETA = 0.5, -2.0


@dataclass(frozen=True)
class Product:
    """A call's arrays, the float64 result, and the most that it may be off: K + 4 additions and multiplications in
    float32 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1) and the rounding of the result."""

    arguments: tuple[mx.array, ...]
    exact: np.ndarray
    bound: np.ndarray

    def check(self, y: mx.array) -> None:
        assert y.dtype == self.arguments[-1].dtype
        assert y.shape == self.exact.shape
        over = np.abs(doubles(y) - self.exact) / self.bound
        assert over.max() <= 1, (np.unravel_index(over.argmax(), over.shape), over.max())


def product(problem: Problem, beta: float = BETA) -> Product:
    """Random operands in the problem's layout."""
    rng = np.random.default_rng(zlib.crc32(str(problem).encode()))
    dtype = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}[problem.dtype]
    a = mx.array(rng.standard_normal((problem.m, problem.k))).astype(dtype)
    b = mx.array(rng.standard_normal((problem.k, problem.n))).astype(dtype)
    if problem.layout[1] == "t":
        b = mx.contiguous(b.T).T
    exact, size = doubles(a) @ doubles(b), np.abs(doubles(a)) @ np.abs(doubles(b))
    arguments: tuple[mx.array, ...] = (a, b)
    if problem.op == "addmm":
        shape = (problem.n,) if problem.epilogue == "row" else (problem.m, problem.n)
        c = mx.array(rng.standard_normal(shape)).astype(dtype)
        exact = ALPHA * exact + beta * doubles(c)
        size = abs(ALPHA) * size + abs(beta) * np.abs(doubles(c))
        arguments = (c, a, b)
    u = UNIT_ROUNDOFF[problem.dtype]
    bound = (problem.k + 4) * UNIT_ROUNDOFF["f32"] * size + u * np.abs(exact) + 1e-30
    return Product(arguments, exact, 1.01 * bound)


def run(problem: Problem, chosen: str, arguments: tuple[mx.array, ...], beta: float = BETA) -> mx.array:
    op = GEMV.build(problem, config(GEMV, chosen))
    return op(*arguments, ALPHA, beta) if problem.op == "addmm" else op(*arguments)


def problem_of(op: str, m: int, n: int, k: int, dtype: str, layout: str) -> Problem:
    name, _, epilogue = op.partition(" ")
    return Problem.parse(f"{name} M={m} N={n} K={k} {dtype} {layout} {epilogue}")


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("chosen", CONFIGS)
def test_ragged_shapes_in_every_schedule(chosen, schedule, host):
    """Both layouts, as tuned and the other way round: a call cannot tell which one it has."""
    with host(schedule):
        for m, n, k in SHAPES:
            for layout in ("nn", "nt"):
                made = product(problem_of("matmul", m, n, k, "f32", layout))
                for tuned in ("nn", "nt"):
                    made.check(run(problem_of("matmul", m, n, k, "f32", tuned), chosen, made.arguments))


@pytest.mark.parametrize("layout", ["nn", "nt"])
@pytest.mark.parametrize("dtype", tuple(UNIT_ROUNDOFF))
@pytest.mark.parametrize("op", ["matmul", "addmm row", "addmm full"])
def test_every_dtype_and_epilogue(op, dtype, layout, host):
    with host("check"):
        for m, n, k in SHAPES:
            problem = problem_of(op, m, n, k, dtype, layout)
            made = product(problem)
            made.check(run(problem, CONFIGS[0], made.arguments))


def test_a_beta_of_zero_leaves_c_unread(host):
    problem = problem_of("addmm full", 3, 40, 50, "f16", "nt")
    made = product(problem, beta=0.0)
    nans = mx.full((3, 40), float("nan"), mx.float16)
    with host("random-1"):
        made.check(run(problem, CONFIGS[0], (nans, *made.arguments[1:]), beta=0.0))


def test_leading_axes_and_one_row_of_c_for_one_row_of_a(host):
    problem = problem_of("addmm row", 6, 40, 50, "f32", "nt")
    made = product(problem)
    c, a, b = made.arguments
    with host("check"):
        y = run(problem, CONFIGS[0], (c, mx.reshape(a, (2, 1, 3, 50)), b))
        assert y.shape == (2, 1, 3, 40)
        made.check(mx.reshape(y, (6, 40)))
        one = product(problem_of("addmm full", 1, 40, 50, "f32", "nt"))
        one.check(run(problem, CONFIGS[0], one.arguments))


def test_views_of_larger_arrays_among_nans(host):
    """Rows and columns around the operands hold NaN: nothing of them may reach the result."""
    for layout in ("nn", "nt"):
        problem = problem_of("matmul", 3, 37, 45, "f16", layout)
        made = product(problem)
        a, b = made.arguments

        def among(array: mx.array) -> mx.array:
            wide = mx.full((array.shape[0] + 5, array.shape[1] + 3), float("nan"), array.dtype)
            wide[2:-3, 1:-2] = array
            return wide[2:-3, 1:-2]

        inside = among(b.T).T if layout == "nt" else among(b)
        with host("check"):
            made.check(run(problem, CONFIGS[0], (among(a), inside)))


def test_strides_that_are_neither_layout(host):
    """B with every other column of a wider matrix, A every other row: right, if not fast."""
    problem = problem_of("matmul", 3, 20, 30, "f32", "nn")
    made = product(problem)
    a, b = made.arguments
    wide = mx.stack([b, b * float("nan")], axis=-1).reshape(30, 40)[:, ::2]
    tall = mx.stack([a, a * float("nan")], axis=1).reshape(6, 30)[::2]
    spread = mx.broadcast_to(b[:, :1], (30, 20))
    with host("check"):
        made.check(run(problem, CONFIGS[0], (tall, wide)))
        y = run(problem, CONFIGS[0], (a, spread))
    assert np.abs(doubles(y) - made.exact[:, :1]).max() <= made.bound.max()


def test_infinities_stay_in_their_rows(host):
    problem = problem_of("matmul", 4, 20, 64, "f16", "nt")
    made = product(problem)
    a, b = made.arguments
    spoiled = mx.array(a)
    spoiled[1, 5] = float("inf")
    spoiled[3, 63] = float("nan")
    with host("random-2"):
        y = doubles(run(problem, CONFIGS[0], (spoiled, b)))
    assert np.isinf(y[1]).all()
    assert np.isnan(y[3]).all()
    good = [0, 2]
    assert (np.abs(y[good] - made.exact[good]) <= made.bound[good]).all()


class TestLaunch:
    def launched(self, text, chosen):
        problem = Problem.parse(text)
        recorder = Recorder()
        with launch.through(recorder):
            run(problem, chosen, product(problem).arguments)
        return recorder.launches[-1]

    def test_the_grid_covers_the_columns_of_the_tuned_layout(self):
        # 4 simdgroups of 2 teams: nt has 2 columns for each team, nn 4 lanes of 2.
        assert self.launched("matmul M=5 N=77 K=130 f16 nt", CONFIGS[0]).grid == (32 * 20, 4, 2)
        assert self.launched("matmul M=5 N=77 K=130 f16 nn", CONFIGS[0]).grid == (32 * 5, 4, 2)

    def test_one_program_serves_every_shape(self):
        first, other = (self.launched(f"matmul M={m} N=77 K=130 f16 nt", CONFIGS[0]) for m in (2, 7))
        assert first.program is other.program
        assert first.program is not self.launched("matmul M=2 N=77 K=130 f32 nt", CONFIGS[0]).program


class TestLegality:
    @pytest.mark.parametrize("layout", ["nn", "nt"])
    def test_declared_space(self, layout):
        problem = Problem.parse(f"matmul M=4 N=4096 K=4096 f16 {layout}")
        routes = space.legal_set(GEMV, problem, "metal")
        assert 600 < len(routes) < 8000
        assert all(GEMV.threadgroup_bytes(route.config) <= THREADGROUP_BYTES for route in routes)
        assert {route.config["v"] for route in routes} == {1, 2, 3, 4, 5}

    @pytest.mark.parametrize(
        "text",
        [
            "matmul M=4 N=64 K=64 B=2 f16 nt",
            "matmul M=4 N=64 K=64 f16 tn",
            "matmul M=400 N=64 K=64 f16 nt",
        ],
    )
    def test_what_it_does_not_serve(self, text):
        assert not GEMV.accepts(Problem.parse(text), config(GEMV, CONFIGS[0]))

    def test_lanes_do_not_matter_along_k(self):
        nt, nn = (Problem.parse(f"matmul M=4 N=64 K=64 f16 {layout}") for layout in ("nt", "nn"))
        few, many = config(GEMV, "3 2 4 2 4 4"), config(GEMV, "3 2 4 2 4 8")
        assert GEMV.same(nt, few) == GEMV.same(nt, many)
        assert GEMV.same(nn, few) != GEMV.same(nn, many)
