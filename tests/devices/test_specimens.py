"""Inputs of cases: drawn as they say, laid out as they say, with a reference that agrees with the arrays."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from autotune.devices import cases
from autotune.devices.cases import Case, Kind
from autotune.devices.specimens import doubles, rounded, specimen
from autotune.problem import Problem

SEED = 11


@pytest.fixture(autouse=True)
def on_cpu():
    before = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(before)


def of(text):
    return specimen(Case.parse(text), SEED)


class TestRounding:
    @pytest.mark.parametrize(("dtype", "kind"), [("f32", mx.float32), ("f16", mx.float16), ("bf16", mx.bfloat16)])
    def test_is_to_nearest_as_in_mlx(self, dtype, kind):
        values = np.random.default_rng(SEED).standard_normal(1000).astype(np.float32)
        expected = mx.array(values).astype(kind).astype(mx.float32)
        assert (rounded(values.astype(np.float64), dtype) == np.array(expected)).all()

    def test_keeps_what_is_not_finite(self):
        values = rounded(np.array([np.inf, -np.inf, np.nan]), "bf16")
        assert (values[:2] == [np.inf, -np.inf]).all()
        assert np.isnan(values[2])

    def test_bfloat16_is_read_bit_by_bit(self):
        values = np.array([1.0, -0.5, 2.0**-133, np.inf])
        assert (doubles(mx.array(values.astype(np.float32)).astype(mx.bfloat16))[[0, 1, 3]] == values[[0, 1, 3]]).all()


class TestSameForEqualSeeds:
    def test_and_another_for_others(self):
        case = Case.parse("quantized_matmul M=3 N=5 K=64 bf16 affine-b3-g32 nt | offset")
        again = specimen.__wrapped__(case, SEED)
        assert (specimen(case, SEED).reference == again.reference).all()
        assert all(
            not isinstance(x, mx.array) or bool(mx.array_equal(x, y))
            for x, y in zip(specimen(case, SEED).arguments, again.arguments)
        )
        assert (specimen(case, SEED + 1).reference != again.reference).any()


@pytest.mark.parametrize("layout", ["nn", "nt", "tn", "tt"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("variant", [v for v in cases.VARIANTS if v != "special"])
def test_arrays_and_reference_agree(layout, batch, variant):
    kind = Kind("addmm", "f32", layout, None, batch, "full")
    made = specimen(Case(kind.problem(5, 7, 12), variant, (), 0.5, -2.0), SEED)
    c, a, b, alpha, beta = made.arguments
    exact = alpha * (doubles(a) @ doubles(b)) + beta * doubles(c)
    assert exact.shape == made.reference.shape
    assert np.allclose(exact, made.reference, rtol=1e-12, atol=1e-12 * np.abs(made.reference).max())


def test_leading_axes_are_rows():
    made = of("addmm M=12 N=7 K=12 f32 nt full | plain lead=3x1x2")
    assert [array.shape for array in made.arguments[:3]] == [(3, 1, 2, 2, 7), (3, 1, 2, 2, 12), (12, 7)]
    assert made.reference.shape == (3, 1, 2, 2, 7)


class TestVariants:
    def test_strides_are_what_they_say(self):
        def strides(text):
            return memoryview(of(text).arguments[0]).strides

        assert strides("matmul M=5 N=7 K=12 f32 nn") == (48, 4)
        assert strides("matmul M=5 N=7 K=12 f32 nn | transposed") == (4, 20)
        assert strides("matmul M=5 N=7 K=12 f32 tn") == (4, 20)
        assert strides("matmul M=5 N=7 K=12 f32 nn | strided") == (96, 8)
        assert strides("matmul M=5 N=7 K=12 f32 nn | surrounded") == (68, 4)
        assert strides("matmul M=5 N=7 K=12 f32 nn | broadcast")[0] == 0

    def test_b_is_crossed(self):
        assert memoryview(of("matmul M=5 N=7 K=12 f32 nn | crossed").arguments[1]).strides == (4, 48)
        assert memoryview(of("matmul M=5 N=7 K=12 f32 nt | crossed").arguments[1]).strides == (28, 4)

    @pytest.mark.parametrize("variant", ["offset", "surrounded"])
    @pytest.mark.parametrize(
        "text", ["matmul M=5 N=7 K=12 f32 nn", "quantized_matmul M=5 N=7 K=64 f32 nvfp4-b4-g16 nt"]
    )
    def test_views_lie_inside_their_buffers(self, variant, text):
        plain, view = of(text).arguments, of(f"{text} | {variant}").arguments
        for before, after in zip(plain, view):
            if isinstance(before, mx.array):
                assert before.shape == after.shape
        first = np.asarray(memoryview(view[0]))
        assert np.isfinite(first).all()
        assert first.ctypes.data % 16 != 0  # an allocation starts at a multiple of 16

    def test_specials_are_in_some_rows_only_and_in_the_last_column(self):
        made = of("matmul M=7 N=4 K=12 f16 nt | special")
        a = doubles(made.arguments[0])
        hit = ~np.isfinite(a).all(axis=-1)
        assert hit.any()
        assert not hit.all()
        assert not np.isfinite(a[0, -1])
        assert (np.isfinite(made.reference).all(axis=-1) == ~hit).all()

    def test_large_sums_leave_the_range_of_float16_on_the_way(self):
        for text in ("matmul M=2 N=4 K=64 f16 nt", "quantized_matmul M=2 N=4 K=256 f16 affine-b4-g64 nt"):
            made = of(f"{text} | large")
            assert made.magnitudes.terms.max() > 4 * 65504
            assert np.abs(made.reference).max() < 65504
            assert np.abs(made.reference).min() > 0

    def test_subnormal_scales_are(self):
        scales = doubles(of("quantized_matmul M=2 N=8 K=256 f16 affine-b4-g64 nt | subnormal").arguments[2])
        assert ((scales > 0) & (scales < 2.0**-14)).any()
        assert (scales > 2.0**-14).any()

    def test_an_addend_that_is_not_wanted_is_nan(self):
        made = of("addmm M=2 N=3 K=4 f32 nn row | plain alpha=1 beta=0")
        assert np.isnan(doubles(made.arguments[0])).all()
        assert np.isfinite(made.reference).all()


def test_stock_unpacks_the_weights_alike():
    """The packed arrays mean to MLX what they mean to the reference, for every mode."""
    for kind in cases.kinds(("quantized_matmul",)):
        if kind.dtype == "f32":
            made = specimen(Case(kind.problem(3, 8, 64)), SEED)
            out = doubles(mx.quantized_matmul(*made.arguments))
            assert np.abs(out - made.reference).max() < 1e-5 * made.magnitudes.terms.max(), kind


def test_the_problem_of_a_case_is_that_of_its_arrays():
    for kind in (Kind("matmul", "f16", "nt"), Kind("matmul", "f16", "tn", None, 3)):
        for case in cases.table(kind, True, False):
            a, b = specimen(case, SEED).arguments
            p: Problem = case.problem
            assert a.size == p.batch * p.m * p.k
            assert b.shape[-2:] == (p.k, p.n)
