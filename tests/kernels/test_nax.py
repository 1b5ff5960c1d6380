"""The families for the neural accelerators on the host, whose accelerators are an emulation of Apple's interface."""

from __future__ import annotations

import math
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
import pytest

from autotune.devices.msl_host.host import MslHost
from autotune.devices.msl_host.runner import Runner
from autotune.kernels import launch, program, trial
from autotune.kernels.base import Config, Kernel
from autotune.kernels.family import THREADGROUP_BYTES
from autotune.kernels.gemm_nax import GemmNax
from autotune.kernels.qmm_nax import QmmNax
from autotune.problem import Problem

from .conftest import options
from .packed import QUANTIZATIONS, SMALLEST, UNIT_ROUNDOFF, Recorder, doubles, of
from .packed import product as packed_product

GEMM, QMM = GemmNax(), QmmNax()
SCHEDULES = ("in-order", "reverse", "random-1", "random-2", "check")
LAYOUTS = ("nn", "nt", "tn", "tt")
PRODUCTS = ((16, 32, 16), (32, 16, 16), (16, 16, 32), (32, 32, 16), (16, 32, 32), (32, 16, 32), (32, 32, 32))
"""All that is reported to compile with both inputs in registers."""
SHAPES = ((64, 64, 64), (33, 65, 70), (1, 1, 1), (7, 131, 33), (50, 31, 100))
PLAIN = {
    **{"bm": 32, "bn": 64, "bk": 64, "wm": 2, "wn": 2, "fm": 16, "fn": 32, "fk": 16},
    **{"run": 4, "relaxed": 0, "split_k": 1, "swizzle": 1},
}
CONFIGS: tuple[dict[str, int], ...] = (
    {},
    {"fm": 32, "bm": 64, "bk": 32, "split_k": 3, "swizzle": 2},
    {"bm": 16, "wm": 1, "bn": 32, "wn": 1, "fk": 32, "run": 1, "split_k": 2},
    {"bm": 64, "wm": 1, "bn": 32, "fn": 16, "fk": 32, "run": 2, "relaxed": 1, "swizzle": 3},
)


def config(kernel: Kernel, changes: Config | None = None) -> Config:
    """The plain config with some values changed."""
    every = {**PLAIN, "stages": 1, **(changes or {})}
    return {name: every[name] for name in kernel.parameters}


@dataclass(frozen=True)
class Product:
    """A call's arrays, the float64 result, and the most that it may be off: K + 4 additions and multiplications in
    float32, in any order (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), and the rounding of the
    result to its dtype."""

    problem: Problem
    arguments: tuple[mx.array, ...]
    exact: np.ndarray
    bound: np.ndarray
    factors: tuple[float, float]

    def run(self, changes: Config | None = None) -> mx.array:
        op = GEMM.build(self.problem, config(GEMM, changes))
        return op(*self.arguments, *(self.factors if self.problem.op == "addmm" else ()))

    def check(self, y: mx.array) -> None:
        assert y.dtype == self.arguments[-1].dtype
        assert y.shape == self.exact.shape
        over = np.abs(doubles(y) - self.exact) / self.bound
        assert over.max() <= 1, (str(self.problem), np.unravel_index(over.argmax(), over.shape), over.max())


def product(text: str, alpha: float = 0.5, beta: float = -2.0) -> Product:
    """Random operands, laid out as the problem says; with a batch they have a leading axis."""
    problem = Problem.parse(text)
    rng = np.random.default_rng([problem.m, problem.n, problem.k])
    dtype = program.DTYPES[problem.dtype]
    lead = (problem.batch,) if problem.batch > 1 else ()

    def matrix(rows: int, columns: int, way: str) -> mx.array:
        shape = (rows, columns) if way == "n" else (columns, rows)
        stored = mx.array(rng.standard_normal((*lead, *shape))).astype(dtype)
        return stored if way == "n" else mx.swapaxes(stored, -1, -2)

    a, b = matrix(problem.m, problem.k, problem.layout[0]), matrix(problem.k, problem.n, problem.layout[1])
    if problem.op == "matmul":
        return judged(problem, (a, b), (alpha, beta))
    c = mx.array(rng.standard_normal(problem.n)).astype(dtype)
    return judged(problem, (c if problem.epilogue == "row" else matrix(problem.m, problem.n, "n"), a, b), (alpha, beta))


def judged(problem: Problem, arguments: tuple[mx.array, ...], factors: tuple[float, float] = (1.0, 0.0)) -> Product:
    """The exact result and its bound for given arrays."""
    *c, a, b = (doubles(array) for array in arguments)
    with np.errstate(invalid="ignore"):  # infinities among the operands
        exact, size = a @ b, np.abs(a) @ np.abs(b)
    if c:
        alpha, beta = factors
        exact, size = alpha * exact, abs(alpha) * size
        if beta:
            exact, size = exact + beta * c[0], size + abs(beta) * np.abs(c[0])
    u, smallest = UNIT_ROUNDOFF[problem.dtype], SMALLEST[problem.dtype]
    bound = (problem.k + 4) * UNIT_ROUNDOFF["f32"] * size + u * np.maximum(np.abs(exact), smallest)
    return Product(problem, arguments, exact, 1.01 * bound, factors)


def in_layout(layout: int, mode: str = "in-order"):
    """Sends launches to a host whose accelerators spread matrices over lanes in another way (``tensor_layouts.h``)."""
    return launch.through(Runner(MslHost(options(mode), defines=(("MSL_TENSOR_LAYOUT", layout),))))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("changes", CONFIGS, ids=str)
def test_ragged_shapes_in_every_schedule(changes, schedule, host):
    with host(schedule):
        for m, n, k in SHAPES:
            for layout in LAYOUTS:
                made = product(f"matmul M={m} N={n} K={k} f16 {layout}")
                made.check(made.run(changes))


@pytest.mark.parametrize("changes", [{}, {"split_k": 3}], ids=str)
@pytest.mark.parametrize("dtype", ["f16", "bf16"])
@pytest.mark.parametrize("op", ["matmul", "addmm row", "addmm full"])
def test_every_dtype_and_epilogue(op, dtype, changes, host):
    name, _, epilogue = op.partition(" ")
    with host("check"):
        for m, n, k in SHAPES:
            made = product(f"{name} M={m} N={n} K={k} {dtype} nt {epilogue}")
            made.check(made.run(changes))


@pytest.mark.parametrize("split", [1, 2])
@pytest.mark.parametrize("epilogue", ["row", "full"])
def test_a_beta_of_zero_leaves_c_unread(epilogue, split, host):
    made = product(f"addmm M=20 N=40 K=50 f16 nn {epilogue}", beta=0.0)
    nothing = mx.full(made.arguments[0].shape, math.nan, mx.float16)
    with host("random-1"):
        made.check(judged(made.problem, (nothing, *made.arguments[1:]), made.factors).run({"split_k": split}))


def test_an_addend_by_its_strides(host):
    """One row with its axis, and matrices of the result's shape: transposed, one for all of a batch, one column."""
    made = product("addmm M=20 N=40 K=50 B=3 f16 nn full")
    c, a, b = made.arguments
    turned = mx.swapaxes(mx.contiguous(mx.swapaxes(c, 1, 2)), 1, 2)
    with host("check"):
        for added in (c[0, :1], turned, mx.broadcast_to(turned[1:2], c.shape), mx.broadcast_to(c[:, :, :1], c.shape)):
            wanted = judged(made.problem, (added, a, b), made.factors)
            for split in (1, 2):
                wanted.check(wanted.run({"split_k": split}))


@pytest.mark.parametrize(("fm", "fn", "fk"), PRODUCTS)
def test_every_product_that_apple_takes(fm, fn, fk, host):
    made = [product(f"matmul M=70 N=65 K=97 bf16 {layout}") for layout in LAYOUTS]
    with host("random-1"):
        for each in made:
            each.check(each.run({"fm": fm, "fn": fn, "fk": fk, "bm": 64}))


class TestLayoutOfLanes:
    """Which lane holds what is Apple's to choose: a kernel is right under every layout whose runs are as it assumes,
    and else all NaN, so that no wrong number leaves it."""

    LONGEST_RUN = {0: 4, 1: 2, 2: 1, 3: 0}

    @pytest.mark.parametrize("run", [1, 2, 4])
    @pytest.mark.parametrize("layout", [0, 1, 2, 3])
    def test_right_or_nan(self, layout, run):
        made = product("matmul M=33 N=65 K=70 f16 nt")
        drawn = packed_product("quantized_matmul M=17 N=33 K=96 f16 affine-b4-g32 nt", rounds_weights=True)
        with in_layout(layout, "check"):
            y = made.run({"run": run})
            z = QMM.build(drawn.problem, config(QMM, {"run": run}))(*drawn.arguments())
        if run <= self.LONGEST_RUN[layout]:
            made.check(y)
            drawn.check(z)
        else:
            assert np.isnan(doubles(y)).all()
            assert np.isnan(doubles(z)).all()

    @pytest.mark.parametrize("layout", [0, 2])
    def test_the_first_try_sees_it(self, layout, monkeypatch):
        monkeypatch.setattr(trial, "TRIED", set())
        monkeypatch.setattr(trial, "FAILED", {})
        problems = [
            (GEMM, "matmul M=33 N=65 K=70 f16 nt"),
            (GEMM, "addmm M=33 N=65 K=70 f16 nn row"),
            (QMM, "quantized_matmul M=17 N=33 K=96 f16 affine-b4-g32 nt"),
        ]
        for kernel, text in problems:
            with in_layout(layout):
                if layout == 0:
                    kernel.probe(Problem.parse(text), config(kernel))
                else:
                    with pytest.raises(ArithmeticError, match="wrong"):
                        kernel.probe(Problem.parse(text), config(kernel))


class TestViews:
    @pytest.mark.parametrize("split", [1, 2])
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_batches(self, layout, split, host):
        made = product(f"matmul M=20 N=33 K=40 B=3 f16 {layout}")
        with host("check"):
            made.check(made.run({"split_k": split}))

    def test_leading_axes_of_both(self, host):
        rng = np.random.default_rng(3)
        a, b = (mx.array(rng.standard_normal((2, 1, 3, *s))).astype(mx.float16) for s in ((9, 40), (40, 35)))
        made = judged(Problem.parse("matmul M=9 N=35 K=40 B=6 f16 nn"), (a, b))
        with host("check"):
            made.check(made.run())

    def test_rows_over_leading_axes(self, host):
        """A with a B of two axes: however its rows lie, and with an addend."""
        rng = np.random.default_rng(4)
        large = mx.array(rng.standard_normal((3, 40, 90))).astype(mx.float16)
        b = mx.array(rng.standard_normal((70, 33))).astype(mx.float16)
        c = mx.array(rng.standard_normal(33)).astype(mx.float16)
        views = {
            "whole": mx.contiguous(large[:, :, :70]),
            "sliced": large[:, 3:36, 5:75],
            "every other row": large[:, ::2, :70],
            "swapped": mx.swapaxes(large, 0, 1)[:, :, :70],
            "turned": mx.swapaxes(mx.contiguous(mx.swapaxes(large[:, :, :70], 1, 2)), 1, 2),
            "one row of many": large[:, 7:8, :70],
            "broadcast": mx.broadcast_to(large[:1, :33, :70], (3, 33, 70)),
            "one row": mx.broadcast_to(large[0, :1, :70], (50, 70)),
        }
        with host("check"):
            for a in views.values():
                made = judged(Problem.parse("addmm M=99 N=33 K=70 f16 nn row"), (c, a, b), (1.0, 1.0))
                made.check(made.run())

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_among_nans(self, layout, host):
        """Rows and columns around the operands hold NaN: nothing of them may reach the result."""
        made = product(f"matmul M=33 N=37 K=45 f16 {layout}")

        def among(array: mx.array) -> mx.array:
            wide = mx.full((array.shape[0] + 5, array.shape[1] + 3), math.nan, array.dtype)
            wide[2:-3, 1:-2] = array
            return wide[2:-3, 1:-2]

        a, b = (
            among(array) if way == "n" else among(array.T).T for array, way in zip(made.arguments, made.problem.layout)
        )
        with host("check"):
            made.check(judged(made.problem, (a, b)).run())

    def test_strides_that_are_no_layout(self, host):
        made = product("matmul M=33 N=20 K=45 f16 nn")
        a, b = made.arguments

        def spread(array: mx.array) -> mx.array:
            """Every element followed by a NaN."""
            return mx.stack([array, array * math.nan], axis=-1).reshape(array.shape[0], -1)[:, ::2]

        with host("check"):
            for pair in ((spread(a), b), (a, spread(b)), (spread(a.T).T, spread(b.T).T)):
                made.check(judged(made.problem, pair).run())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_row_that_is_not_finite_stays_alone(value, host):
    made = product("matmul M=20 N=35 K=70 f16 nt")
    a, b = made.arguments
    spoiled = mx.where(mx.arange(20)[:, None] == 7, value, a).astype(mx.float16)
    with host("random-2"):
        y = doubles(judged(made.problem, (spoiled, b)).run())
    assert not np.isfinite(y[7]).any()
    made.check(mx.array(np.where(np.arange(20)[:, None] == 7, made.exact, y)).astype(mx.float16))


class TestQuantized:
    CONFIGS: tuple[dict[str, int], ...] = (
        {},
        {"stages": 2, "split_k": 3, "swizzle": 2},
        {"bm": 16, "wm": 1, "bn": 32, "wn": 1, "fk": 32, "bk": 32, "run": 1},
        {"bm": 64, "fm": 32, "bn": 32, "wn": 1, "bk": 128, "stages": 2},
    )

    def run(self, drawn, changes=None, x=None):
        return QMM.build(drawn.problem, config(QMM, changes))(*drawn.arguments(x))

    def drawn(self, text):
        return packed_product(f"quantized_matmul {text} nt", rounds_weights="affine" in text)

    @pytest.mark.parametrize(("number", "quantization"), list(enumerate(QUANTIZATIONS)), ids=str)
    def test_every_quantization(self, number, quantization, host):
        """Each with one dtype and one config, in turn. Floating-point weights are multiplied as they are."""
        drawn = self.drawn(f"M=19 N=37 K=384 {('f16', 'bf16')[number % 2]} {quantization}")
        with host("check"):
            drawn.check(self.run(drawn, self.CONFIGS[number % 4]))

    @pytest.mark.parametrize("schedule", SCHEDULES)
    @pytest.mark.parametrize("changes", CONFIGS, ids=str)
    def test_ragged_shapes_in_every_schedule(self, changes, schedule, host):
        """M around a tile, prime N, K of one group, and K that ends within a tile of weights and within a product."""
        with host(schedule):
            for m, n, k in ((1, 8, 32), (16, 3, 64), (17, 67, 96), (33, 31, 416), (70, 130, 192)):
                drawn = self.drawn(f"M={m} N={n} K={k} f16 affine-b4-g32")
                drawn.check(self.run(drawn, changes))

    @pytest.mark.parametrize("quantization", ["affine-b3-g64", "mxfp4-b4-g32", "nvfp4-b4-g16", "mxfp8-b8-g32"])
    @pytest.mark.parametrize("dtype", ["f16", "bf16"])
    def test_every_dtype(self, dtype, quantization, host):
        drawn = self.drawn(f"M=9 N=33 K=192 {dtype} {quantization}")
        with host("random-1"):
            drawn.check(self.run(drawn))

    @pytest.mark.parametrize("lead", [(6,), (1, 6), (2, 3), (3, 1, 2)])
    def test_leading_axes(self, lead, host):
        drawn = self.drawn("M=6 N=7 K=128 f16 affine-b4-g64")
        with host("in-order"):
            drawn.check(self.run(drawn, x=drawn.x.reshape(*lead, 128)), lead)
            drawn.check(self.run(drawn, {"split_k": 2}, drawn.x.reshape(*lead, 128)), lead)

    def test_slices_and_strides(self, host):
        """Rows of x and of w that begin and end within larger arrays, and x with a stride along K."""
        problem = Problem.parse("quantized_matmul M=4 N=9 K=128 f16 affine-b4-g64 nt")
        larger = self.drawn("M=9 N=16 K=128 f16 affine-b4-g64")
        weights = tuple(array[3:12] for array in larger.weights)
        for x in (larger.x[2:6], larger.x[1:9:2], mx.concatenate([larger.x] * 2, axis=1)[2:6, 1::2]):
            drawn = of(problem, x, weights, rounds_weights=True)
            with host("check"):
                drawn.check(self.run(drawn))

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_a_row_that_is_not_finite_stays_alone(self, value, host):
        drawn = self.drawn("M=20 N=5 K=96 f16 affine-b4-g32")
        x = mx.where(mx.arange(20)[:, None] == 2, value, drawn.x).astype(mx.float16)
        with host("in-order"):
            y = doubles(self.run(drawn, x=x))
        assert not np.isfinite(y[2]).any()
        drawn.check(mx.array(np.where(np.arange(20)[:, None] == 2, drawn.exact, y)).astype(mx.float16))

    @pytest.mark.parametrize(("code", "power"), [(90, 12), (143, -12)])
    @pytest.mark.parametrize("quantization", ["mxfp4-b4-g32", "mxfp8-b8-g32"])
    def test_scales_beyond_float16(self, quantization, code, power, host):
        """Weights of about 2^-37 and up to 2^25, and an x that brings the results back: float16 would lose them."""
        drawn = self.drawn(f"M=4 N=6 K=64 f16 {quantization}")
        w, old = drawn.weights
        inputs = of(drawn.problem, drawn.x * 2.0**power, (w, mx.full(old.shape, code, mx.uint8)))
        assert inputs.x.dtype == mx.float16
        with host("in-order"):
            inputs.check(self.run(inputs))


class TestLegality:
    @pytest.mark.parametrize(
        ("text", "changes"),
        [
            ("matmul M=64 N=64 K=256 f32 nt", {}),  # the accelerators would round it
            ("matmul M=64 N=64 K=256 f16 nt", {"fn": 16}),  # none of 16 x 16 x 16 is 32
            ("matmul M=64 N=64 K=256 f16 nt", {"fm": 24}),
            ("matmul M=64 N=64 K=256 f16 nt", {"run": 3}),
            ("matmul M=64 N=64 K=256 f16 nt", {"bk": 48}),
            ("matmul M=64 N=64 K=256 f16 nt", {"bn": 32}),  # a simdgroup's 16 columns are half a product
            ("matmul M=64 N=64 K=256 f16 nt", {"bm": 128, "wm": 1}),  # 128 x 32 sums for 32 lanes
            ("matmul M=64 N=64 K=256 f16 nt", {"bm": 128, "wm": 8}),  # four of the eight would have nothing to do
            ("matmul M=64 N=64 K=256 f16 nt", {"split_k": 8}),
            ("matmul M=64 N=64 K=256 f16 nt", {"swizzle": 4}),
            ("matmul M=2048 N=2048 K=4096 f16 nt", {"split_k": 4}),  # more threadgroups than any GPU needs
        ],
    )
    def test_what_it_refuses(self, text, changes):
        problem = Problem.parse(text)
        assert GEMM.accepts(problem, config(GEMM)) == (problem.dtype != "f32")
        assert not GEMM.accepts(problem, config(GEMM, changes))

    def test_a_long_k_may_be_split_however_many_threadgroups_there_are(self):
        """As MLX does on an M5, where that was measured to pay (ml-explore/mlx #3018)."""
        tile = {"bm": 128, "bn": 128, "wm": 4, "wn": 4}
        assert GEMM.accepts(Problem.parse("matmul M=4096 N=4096 K=14336 bf16 nn"), config(GEMM, {**tile, "split_k": 4}))
        assert not GEMM.accepts(
            Problem.parse("matmul M=4096 N=4096 K=4096 bf16 nn"), config(GEMM, {**tile, "split_k": 2})
        )

    @pytest.mark.parametrize(
        ("text", "changes"),
        [
            ("quantized_matmul M=64 N=64 K=256 f32 affine-b4-g64 nt", {}),
            ("quantized_matmul M=64 N=64 K=256 f16 affine-b4-g64 nn", {}),
            ("quantized_matmul M=64 N=64 K=256 f16 affine-b1-g64 nt", {}),
            ("quantized_matmul M=64 N=64 K=256 B=2 f16 affine-b4-g64 nt", {}),
            ("quantized_matmul M=64 N=1 K=32 f16 affine-b4-g32 nt", {"bn": 32, "wn": 1}),  # four words of weights
            ("quantized_matmul M=64 N=512 K=512 f16 affine-b4-g64 nt", {"bn": 128, "wn": 4, "bk": 128}),
            ("quantized_matmul M=64 N=64 K=256 f16 affine-b4-g64 nt", {"stages": 3}),
        ],
    )
    def test_what_the_quantized_one_refuses(self, text, changes):
        assert QMM.accepts(Problem.parse("quantized_matmul M=64 N=64 K=256 f16 affine-b4-g64 nt"), config(QMM))
        assert not QMM.accepts(Problem.parse(text), config(QMM, changes))

    def test_threadgroup_memory_is_what_the_kernel_declares(self):
        assert QMM.threadgroup_bytes(config(QMM)) == 64 * (64 + 8) * 2
        assert QMM.threadgroup_bytes(config(QMM, {"stages": 2})) == 2 * 64 * (64 + 8) * 2
        assert QMM.threadgroup_bytes(config(QMM, {"bn": 128, "bk": 128})) > THREADGROUP_BYTES

    def test_nobody_waits_for_itself(self):
        problem = Problem.parse("matmul M=64 N=64 K=256 f16 nt")
        near, far = ({"bm": 32, "bn": 32, "wm": 1, "wn": 1, "bk": bk} for bk in (64, 128))
        assert GEMM.same(problem, config(GEMM, near)) == GEMM.same(problem, config(GEMM, far))
        assert GEMM.same(problem, config(GEMM)) != GEMM.same(problem, config(GEMM, {"bk": 128}))


class TestLaunch:
    def test_one_program_serves_every_shape_split_and_order(self):
        seen = Recorder()
        with launch.through(seen):
            for m, n, k in ((64, 64, 64), (7, 333, 1000)):
                made = product(f"matmul M={m} N={n} K={k} f16 nt")
                for changes in ({"split_k": 2}, {"split_k": 4, "swizzle": 2, "bk": 128}):
                    made.run(changes)
        products = [asked for asked in seen.launches if "partials" not in asked.program.inputs]
        assert len(products) == 4
        assert len({asked.program for asked in products}) == 1
        assert products[-1].grid == (32 * 6, 4, 4)
        assert products[-1].shapes == ((4, 7, 333),)

    def test_one_program_serves_every_quantized_shape(self):
        seen = Recorder()
        with launch.through(seen):
            for m, n, k in ((1, 8, 64), (40, 333, 1024)):
                drawn = packed_product(f"quantized_matmul M={m} N={n} K={k} f16 affine-b4-g64 nt")
                QMM.build(drawn.problem, config(QMM))(*drawn.arguments())
        assert len({asked.program for asked in seen.launches}) == 1
        assert seen.launches[-1].grid == (32 * 6, 4 * 2, 1)

    def test_texts_are_short_enough_to_be_hashed_at_every_call(self):
        seen = Recorder()
        with launch.through(seen):
            product("addmm M=33 N=65 K=70 f16 nt full").run()
            drawn = packed_product("quantized_matmul M=3 N=8 K=64 f16 affine-b4-g64 nt")
            QMM.build(drawn.problem, config(QMM))(*drawn.arguments())
        for asked in seen.launches:
            assert len(asked.program.header) + len(asked.program.body) < 10000

    def test_only_where_there_are_accelerators(self):
        for kernel in (GEMM, QMM):
            assert kernel.runs_on("metal", nax=True)
            assert not kernel.runs_on("metal", nax=False)
            assert not kernel.runs_on("cuda", nax=True)
