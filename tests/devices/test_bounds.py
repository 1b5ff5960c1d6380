"""The bounds hold for what they allow, and not for a rounding more."""

from __future__ import annotations

import numpy as np
import pytest

from autotune.devices.bounds import LARGEST, SMALLEST, UNIT_ROUNDOFF, Magnitudes, bound, shares
from autotune.devices.specimens import rounded
from autotune.problem import Problem

DENSE = Problem.parse("matmul M=4 N=16 K=300 f16 nn")


def product(problem, seed=0, dtype=None):
    """Operands, their product in float64, and its magnitudes."""
    rng = np.random.default_rng(seed)
    dtype = dtype or problem.dtype
    a = rounded(rng.standard_normal((problem.m, problem.k)), dtype)
    b = rounded(rng.standard_normal((problem.k, problem.n)) * problem.k**-0.5, dtype)
    terms = np.abs(a) @ np.abs(b)
    return a, b, a @ b, Magnitudes(terms, terms, np.zeros(1), np.zeros(1))


def test_the_constants_are_those_of_the_types():
    for dtype, kind in (("f32", np.float32), ("f16", np.float16)):
        facts = np.finfo(kind)
        assert UNIT_ROUNDOFF[dtype] == facts.eps / 2
        assert LARGEST[dtype] == float(facts.max)
        assert SMALLEST[dtype] == float(facts.smallest_subnormal)
    assert rounded(np.array([LARGEST["bf16"]]), "bf16")[0] == LARGEST["bf16"]
    assert rounded(np.array([LARGEST["bf16"] * (1 + UNIT_ROUNDOFF["bf16"])]), "bf16")[0] == np.inf
    assert rounded(np.array([SMALLEST["bf16"]]), "bf16")[0] == SMALLEST["bf16"]


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("order", ["forwards", "backwards", "pairs"])
def test_sums_in_float32_stay_within_in_any_order(dtype, order):
    problem = Problem.parse(f"matmul M=4 N=16 K=300 {dtype} nn")
    for seed in range(5):
        a, b, exact, of = product(problem, seed)
        terms = (a[:, :, None].astype(np.float32) * b[None].astype(np.float32)).swapaxes(0, 1)
        if order == "pairs":
            while len(terms) > 1:
                odd = terms[-1:] if len(terms) % 2 else terms[:0]
                terms = np.concatenate([terms[: len(terms) // 2 * 2 : 2] + terms[1::2], odd])
            total = terms[0]
        else:
            total = np.zeros_like(terms[0])
            for term in terms if order == "forwards" else terms[::-1]:
                total = total + term
        out = rounded(total.astype(np.float64), dtype)
        share = shares(out, exact, bound(problem, exact, of, (), 1.0, 0.0), problem)
        assert 0 < share.max() <= 1


def test_one_rounding_more_is_too_much():
    _, _, exact, of = product(DENSE)
    allowed = bound(DENSE, exact, of, (), 1.0, 0.0)
    u = UNIT_ROUNDOFF["f16"]
    twice = rounded(exact, "f16") * (1 + 2 * u)
    assert shares(twice, exact, allowed, DENSE).max() > 1


def test_what_a_kernel_rounds_besides_widens_the_bound():
    a, b, exact, of = product(DENSE, dtype="f32")
    out = rounded(a, "f16") @ b
    assert shares(out, exact, bound(DENSE, exact, of, (), 1.0, 0.0), DENSE).max() > 1
    assert shares(out, exact, bound(DENSE, exact, of, ("x",), 1.0, 0.0), DENSE).max() <= 1


def test_factors_and_addend_widen_it():
    _, _, exact, of = product(DENSE)
    plain = bound(DENSE, exact, of, (), 1.0, 0.0)
    assert (bound(DENSE, exact, of, (), -2.0, 0.0) > plain).all()
    addend = Magnitudes(of.terms, of.products, np.ones(16), of.tiny)
    assert (bound(DENSE, exact, addend, (), 1.0, 1.0) > plain).all()


class TestSpecials:
    ALLOWED = np.full(1, 1.0)
    PACKED = Problem.parse("quantized_matmul M=1 N=8 K=64 f16 affine-b4-g64 nt")

    def share(self, out, expected, problem=DENSE):
        return float(shares(np.array([out]), np.array([expected]), self.ALLOWED, problem)[0])

    @pytest.mark.parametrize(
        ("out", "expected"), [(np.nan, 1.0), (np.inf, 1.0), (1.0, np.nan), (1.0, np.inf), (-np.inf, np.inf)]
    )
    def test_what_is_not_finite_must_agree(self, out, expected):
        assert self.share(out, expected) == np.inf

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_and_is_right_where_it_does(self, value):
        assert self.share(value, value) == 0

    def test_a_packed_weight_may_meet_infinity_minus_infinity(self):
        assert self.share(np.nan, np.inf, self.PACKED) == 0
        assert self.share(1.0, np.inf, self.PACKED) == np.inf
        assert self.share(np.nan, 1.0, self.PACKED) == np.inf

    def test_rounding_may_carry_a_result_over_the_largest_number(self):
        assert self.share(np.inf, 65504.0) == 0
        assert self.share(-np.inf, -65504.0) == 0
        assert self.share(-np.inf, 65504.0) == np.inf
        assert self.share(np.inf, 60000.0) == np.inf
