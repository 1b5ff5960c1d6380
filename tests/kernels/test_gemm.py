"""The dense tiled family on the host, against float64."""

from __future__ import annotations

import itertools
import math
import zlib
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
import pytest

from autotune.kernels import launch
from autotune.kernels.family import THREADGROUP_BYTES
from autotune.kernels.gemm import Gemm, spill_bytes
from autotune.kernels.program import Launch
from autotune.problem import Problem

from .packed import SMALLEST, UNIT_ROUNDOFF, Recorder, config, doubles

GEMM = Gemm()
DTYPES = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}
SCHEDULES = ("in-order", "reverse", "random-1", "random-2", "check")
LAYOUTS = ("nn", "nt", "tn", "tt")
# bm, bn, bk, wm, wn, wk, split_k, swizzle, stages
PLAIN, SPLIT = "16 32 16 1 2 1 1 1 1", "16 16 16 1 1 1 3 1 2"
CONFIGS = (
    PLAIN,
    SPLIT,
    "8 8 8 1 1 1 1 1 2",
    "32 16 16 2 2 1 1 2 2",
    "16 16 32 1 1 4 1 1 1",
    "16 32 32 2 1 2 2 1 2",
    "24 40 24 3 1 1 4 1 1",
)
# The first are small enough for constant memory; the last have several bands of tiles and a tail in all directions.
SHAPES = ((1, 1, 1), (3, 2, 2), (1, 7, 5), (2, 3, 67), (17, 31, 16), (67, 53, 43))
ALPHA, BETA = 0.5, -2.0


@dataclass(frozen=True)
class Product:
    """A call's arrays, the float64 result, and the most that it may be off.

    With S = |alpha| |a| |b| + |beta c|: sums of K products in float32, in any order and in slices, and the few
    operations after them, no more than 16, are off by at most (K + 16) 2^-24 S (Higham, Accuracy and Stability of
    Numerical Algorithms, section 3.1). Rounding the result to the dtype adds its unit roundoff.
    """

    arguments: tuple[mx.array, ...]
    exact: np.ndarray
    bound: np.ndarray

    def check(self, y: mx.array) -> None:
        assert y.dtype == self.arguments[-1].dtype
        assert y.shape == self.exact.shape
        over = np.abs(doubles(y) - self.exact) / self.bound
        assert over.max() <= 1, (np.unravel_index(over.argmax(), over.shape), over.max())


def product_of(*arguments: mx.array, alpha: float = ALPHA, beta: float = BETA) -> Product:
    """The product of given arrays: a and b, or c, a and b."""
    *c, a, b = (doubles(array) for array in arguments)
    exact, size = a @ b, np.abs(a) @ np.abs(b)
    if c:
        exact, size = alpha * exact, abs(alpha) * size
        if beta != 0:
            exact, size = exact + beta * c[0], size + np.abs(beta * c[0])
    name = next(name for name, dtype in DTYPES.items() if dtype == arguments[-1].dtype)
    single = (a.shape[-1] + 16) * UNIT_ROUNDOFF["f32"] * size
    return Product(arguments, exact, 1.01 * (single + UNIT_ROUNDOFF[name] * np.maximum(np.abs(exact), SMALLEST[name])))


def drawn(*shape: int, dtype: str = "f32") -> mx.array:
    """Normal numbers, the same for the same shape and dtype."""
    rng = np.random.default_rng(zlib.crc32(str((shape, dtype)).encode()))
    return mx.array(rng.standard_normal(shape).astype(np.float32)).astype(DTYPES[dtype])


def laid(array: mx.array, letter: str) -> mx.array:
    """The same matrices, each the transpose of a row-major one where the letter is ``t``."""
    return array if letter == "n" else mx.swapaxes(mx.contiguous(mx.swapaxes(array, -1, -2)), -1, -2)


def operands(m: int, n: int, k: int, dtype: str = "f32", layout: str = "nn") -> tuple[mx.array, mx.array]:
    return laid(drawn(m, k, dtype=dtype), layout[0]), laid(drawn(k, n, dtype=dtype), layout[1])


def run(chosen: str, *arguments: mx.array, alpha: float = ALPHA, beta: float = BETA) -> mx.array:
    """``matmul`` of two arrays or ``addmm`` of three. The problem's sizes and layout decide nothing."""
    dtype = next(name for name, each in DTYPES.items() if each == arguments[-1].dtype)
    if len(arguments) == 2:
        return GEMM.build(Problem.parse(f"matmul M=1 N=1 K=1 {dtype} nn"), config(GEMM, chosen))(*arguments)
    return GEMM.build(Problem.parse(f"addmm M=1 N=1 K=1 {dtype} nn"), config(GEMM, chosen))(*arguments, alpha, beta)


def among_nans(array: mx.array) -> mx.array:
    """The same matrices as a view of larger ones whose other elements are NaN."""
    *lead, rows, columns = array.shape
    wide = mx.full((*lead, rows + 5, columns + 3), math.nan, array.dtype)
    wide[..., 2:-3, 1:-2] = array
    return wide[..., 2:-3, 1:-2]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("chosen", CONFIGS)
def test_ragged_shapes_in_every_schedule(chosen, schedule, host):
    with host(schedule):
        for shape in SHAPES:
            made = product_of(*operands(*shape))
            made.check(run(chosen, *made.arguments))


@pytest.mark.parametrize("dtype", tuple(DTYPES))
@pytest.mark.parametrize("chosen", [PLAIN, SPLIT])
def test_every_layout_and_epilogue(chosen, dtype, host):
    """All layouts of A and B; nothing added, a row of one or two axes, a matrix, and a transposed matrix."""
    with host("check"):
        for layout, (m, n, k) in itertools.product(LAYOUTS, ((19, 37, 45), (1, 40, 33), (33, 1, 20))):
            a, b = operands(m, n, k, dtype, layout)
            product_of(a, b).check(run(chosen, a, b))
        a, b = operands(19, 37, 45, dtype, "nt")
        for c in (drawn(37), drawn(1, 37), drawn(19, 37), drawn(37, 19).T, drawn(19, 74)[:, ::2], drawn(19, 1)):
            made = product_of(mx.broadcast_to(c, (19, 37)).astype(a.dtype) if c.ndim == 2 else c.astype(a.dtype), a, b)
            made.check(run(chosen, *made.arguments))
        for c in (drawn(1, 37, dtype=dtype), drawn(2, dtype=dtype), drawn(3, 2, dtype=dtype)):
            a, b = operands(3, c.shape[-1], 9, dtype)
            made = product_of(c, a, b)
            made.check(run(chosen, *made.arguments))


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (-0.75, 0.0), (0.0, 3.0), (2.0, -0.5)])
@pytest.mark.parametrize("chosen", [PLAIN, SPLIT])
def test_alpha_and_beta(chosen, alpha, beta, host):
    """A c whose factor is zero is not read: it holds NaN here."""
    a, b = operands(18, 35, 40, "f16")
    c = drawn(18, 35, dtype="f16") if beta else mx.full((18, 35), math.nan, mx.float16)
    made = product_of(c, a, b, alpha=alpha, beta=beta)
    with host("random-1"):
        made.check(run(chosen, c, a, b, alpha=alpha, beta=beta))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_views_among_nans(layout, host):
    """Operands that are slices of arrays full of NaN, at odd offsets: what lies around them leaves no trace."""
    a, b = operands(18, 35, 37, "f16")
    c = among_nans(drawn(18, 35, dtype="f16"))
    a = among_nans(a) if layout[0] == "n" else among_nans(a.T).T
    b = among_nans(b) if layout[1] == "n" else among_nans(b.T).T
    made = product_of(c, a, b)
    with host("check"):
        for chosen in (PLAIN, SPLIT):
            made.check(run(chosen, c, a, b))


@pytest.mark.parametrize("chosen", [PLAIN, SPLIT])
def test_strides_of_no_layout(chosen, host):
    a, b = operands(20, 34, 38)
    spread = mx.stack([b, b * math.nan], axis=-1).reshape(38, 68)[:, ::2]
    twice = mx.stack([a.T, a.T * math.nan], axis=-1).reshape(38, 40)[:, ::2].T
    pairs = (
        (a, spread),
        (twice, b),
        (a[::3], b),
        (mx.broadcast_to(a[:1], a.shape), mx.broadcast_to(b[:, :1], b.shape)),
        (mx.broadcast_to(a[:, :1], a.shape), mx.broadcast_to(b[:1], b.shape)),
    )
    with host("check"):
        for pair in pairs:
            made = product_of(*pair)
            made.check(run(chosen, *made.arguments))


@pytest.mark.parametrize("chosen", [PLAIN, SPLIT])
def test_leading_axes_are_rows(chosen, host):
    """Rows at one stride and rows that are not: a part of each sequence, axes swapped, one position of each."""
    b, x = drawn(21, 26), drawn(3, 7, 21)
    lefts = (
        x.reshape(1, 3, 7, 21),
        x[:, :-1],
        mx.swapaxes(x, 0, 1),
        x[:, -1:],
        x[1:2],
        mx.broadcast_to(x[:, :1], (3, 7, 21)),
        mx.swapaxes(drawn(3, 21, 7), 1, 2),
        drawn(2, 2, 3, 3, 21)[:, 1:, ::2, :2],
    )
    with host("check"):
        for a in lefts:
            product_of(a, b).check(run(chosen, a, b))
            rows = a.shape[:-1]
            for c in (drawn(26), drawn(*rows, 26), mx.swapaxes(drawn(*rows[:-2], rows[-1], rows[-2], 26), -2, -3)):
                made = product_of(c, a, b)
                made.check(run(chosen, *made.arguments))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("chosen", [PLAIN, SPLIT])
def test_batches(chosen, layout, host):
    """Several products in one launch; heads next to positions in memory; one matrix for all, without a copy."""
    a, b = laid(drawn(2, 3, 9, 20), layout[0]), laid(drawn(2, 3, 20, 35), layout[1])
    heads = mx.swapaxes(drawn(2, 9, 3, 20), 1, 2)
    one = mx.broadcast_to(laid(drawn(20, 35), layout[1]), (2, 3, 20, 35))
    with host("check"):
        for pair in ((a, b), (heads, b), (a, one), (a[1:], b[:1]), (among_nans(a), among_nans(b)), (a[0], b[0])):
            product_of(*pair).check(run(chosen, *pair))
        for c in (drawn(35), drawn(2, 3, 9, 35), mx.broadcast_to(drawn(9, 35), (2, 3, 9, 35))):
            made = product_of(c, a, b)
            made.check(run(chosen, *made.arguments))


@pytest.mark.parametrize("chosen", CONFIGS)
@pytest.mark.parametrize("strided", [False, True])
def test_what_is_not_finite_stays_in_its_row_and_column(chosen, strided, host):
    """And is the same there as in the reference: an infinity that met padding would be NaN."""
    a, b = (mx.array(array) for array in operands(37, 41, 50, "f16", "nt"))
    a[33, 49], a[5, 0], b[20, 40], b[3, 0] = math.nan, math.inf, math.inf, -math.inf
    if strided:
        a, b = (mx.stack([array, array * math.nan], axis=-1).reshape(array.shape[0], -1)[:, ::2] for array in (a, b))
    with np.errstate(invalid="ignore"):
        made = product_of(a, b)
    with host("in-order"):
        y = doubles(run(chosen, a, b))
    finite = np.isfinite(made.exact)
    assert finite.sum() == 35 * 39
    assert (np.abs(y[finite] - made.exact[finite]) <= made.bound[finite]).all()
    np.testing.assert_array_equal(y[~finite], made.exact[~finite])


@pytest.mark.parametrize("chosen", [PLAIN, SPLIT])
def test_partial_sums_beyond_float16(chosen, host):
    """Products that overflow float16 and cancel: everything before the result is in float32."""
    a, b = mx.full((4, 64), 240.0, mx.float16), mx.full((64, 5), 1000.0, mx.float16)
    b[32:] = -999.0
    made = product_of(a, b)
    with host("in-order"):
        made.check(run(chosen, a, b))


@pytest.mark.parametrize("problem", ["matmul M=64 N=96 K=256 bf16 nt", "addmm M=64 N=96 K=256 B=2 f16 nn full"])
def test_the_first_try_passes(problem, host):
    with host("in-order"):
        GEMM.probe(Problem.parse(problem), config(GEMM, "32 32 16 2 2 1 1 1 1"))


class TestLaunch:
    def launched(self, chosen: str, *arguments: mx.array) -> list[Launch]:
        recorder = Recorder()
        with launch.through(recorder):
            run(chosen, *arguments)
        return recorder.launches

    def test_the_grid_covers_the_result(self):
        a, b = drawn(2, 33, 40), drawn(2, 40, 65)
        asked, reduction = self.launched("16 32 16 2 1 2 3 1 1", a, b)
        assert (asked.grid, asked.threadgroup) == ((3 * 32, 3 * 4, 2 * 3), (32, 4, 1))
        assert (asked.shapes, asked.dtypes) == (((3, 66, 65),), (mx.float32,))
        assert reduction.grid == (65, 66, 1)
        assert reduction.shapes == ((2, 33, 65),)

    def test_one_program_serves_every_shape_layout_order_and_number_of_slices(self):
        shapes, layouts = ((1, 1, 1), (40, 333, 1024)), LAYOUTS
        asked = [
            self.launched(f"16 32 16 1 2 1 1 {swizzle} 1", *operands(*shape, "f16", layout))[0]
            for shape, layout, swizzle in itertools.product(shapes, layouts, (1, 4))
        ]
        split = [self.launched(f"16 32 16 1 2 1 {slices} 1 1", *operands(8, 8, 8, "f16")) for slices in (2, 3)]
        assert len({each.program for each in asked}) == 1
        assert len({each.program for both in split for each in both}) == 2

    def test_c_goes_to_whichever_launch_rounds_the_result(self):
        arguments = (drawn(8), *operands(8, 8, 8))
        assert [len(each.inputs) for each in self.launched(PLAIN, *arguments)] == [5]
        assert [len(each.inputs) for each in self.launched(SPLIT, *arguments)] == [3, 4]


def served(text: str, chosen: str) -> bool:
    return GEMM.accepts(Problem.parse(text), config(GEMM, chosen))


class TestLegality:
    @pytest.mark.parametrize("dtype", tuple(DTYPES))
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("op", ["matmul", "addmm"])
    def test_what_is_served(self, op, layout, dtype):
        assert served(f"{op} M=100 N=1000 K=1000 {dtype} {layout}", "32 32 16 2 2 1 4 1 2")
        assert served(f"{op} M=100 N=1000 K=1000 B=7 {dtype} {layout}", "32 32 16 2 2 1 1 1 2")

    @pytest.mark.parametrize(
        "chosen",
        [
            "64 64 16 2 2 1 1 1 1",
            "64 64 16 1 2 1 1 1 1",
            "64 32 32 2 2 1 1 2 1",
            "32 64 16 1 2 1 1 4 1",
            "64 32 8 4 1 1 1 1 1",
            "16 16 16 2 2 1 2 1 1",
            "32 32 16 2 2 1 4 1 1",
        ],
    )
    def test_tiles_of_mlx_are_legal(self, chosen):
        split = int(chosen.split()[6]) > 1
        assert served("matmul M=64 N=128 K=4096 f32 nt" if split else "matmul M=256 N=1024 K=4096 f32 nt", chosen)

    @pytest.mark.parametrize(
        ("shape", "chosen"),
        [
            ("M=256 N=256 K=256", "20 32 16 1 1 1 1 1 1"),  # no whole fragments
            ("M=256 N=256 K=256", "32 32 16 3 1 1 1 1 1"),
            ("M=256 N=256 K=256", "16 32 16 1 1 4 1 1 1"),
            ("M=256 N=256 K=256", "128 128 16 8 8 1 1 1 1"),  # 2048 threads
            ("M=256 N=256 K=256", "128 64 16 1 2 1 1 1 1"),  # 64 fragments in a simdgroup
            ("M=256 N=256 K=256", "24 128 8 1 8 1 1 1 1"),  # some threads would have nothing to load
            ("M=256 N=256 K=256", "64 64 64 2 2 1 1 1 2"),  # threadgroup memory
            ("M=256 N=256 K=256", "32 32 16 4 2 1 1 1 1"),  # too few results for its simdgroups
            ("M=256 N=256 K=256", "32 64 32 2 2 2 1 1 1"),  # results enough to leave K alone
            ("M=16 N=256 K=256", "32 32 16 2 2 1 1 1 1"),  # tiles beyond the matrix
            ("M=256 N=16 K=256", "32 32 16 2 2 1 1 1 1"),
            ("M=256 N=256 K=16", "32 32 32 2 2 1 1 1 1"),
            ("M=256 N=256 K=256", "32 32 16 2 2 1 8 1 1"),  # slices of 32
            ("M=4096 N=4096 K=4096", "32 32 16 2 2 1 2 1 1"),  # a grid that is full without
            ("M=64 N=256 K=256", "32 32 16 2 2 1 1 4 1"),  # two rows of tiles
            ("M=256 N=256 K=256", "32 32 16 2 2 1 2 2 1"),  # few tiles
        ],
    )
    def test_what_is_not(self, shape, chosen):
        assert not served(f"matmul {shape} f32 nt", chosen)

    def test_threadgroup_memory_holds_tiles_either_way_and_then_results(self):
        one, two = config(GEMM, "16 32 16 1 2 1 1 1 1"), config(GEMM, "16 32 16 1 2 1 1 1 2")
        assert GEMM.threadgroup_bytes(one, 2) == 16 * (16 + 8) * 2 + 32 * (16 + 8) * 2
        assert GEMM.threadgroup_bytes(two, 2) == 2 * GEMM.threadgroup_bytes(one, 2)
        results = config(GEMM, "8 128 8 1 1 1 1 1 1")
        assert GEMM.threadgroup_bytes(results, 2) == 128 * (8 + 8) * 2 + 8 * (8 + 8) * 2
        shared = config(GEMM, "8 64 32 1 1 4 1 1 1")
        assert GEMM.threadgroup_bytes(shared, 2) == spill_bytes(shared) == 4 * 4 * 8 * (64 + 4)

    @pytest.mark.parametrize("dtype", ["f32", "f16"])
    def test_no_legal_config_has_too_much(self, dtype):
        problem = Problem.parse(f"matmul M=300 N=300 K=4096 {dtype} nt")
        values = (
            (8, 16, 32, 64, 128),
            (16, 64, 128),
            (16, 32, 64),
            (1, 2, 4),
            (1, 2, 4),
            (1, 2, 4),
            (1, 4),
            (1,),
            (1, 2),
        )
        points = [dict(zip(GEMM.parameters, point)) for point in itertools.product(*values)]
        legal = [point for point in points if GEMM.accepts(problem, point)]
        item = 4 if dtype == "f32" else 2
        assert len(legal) > 100
        assert all(GEMM.threadgroup_bytes(point, item) <= THREADGROUP_BYTES for point in legal)
