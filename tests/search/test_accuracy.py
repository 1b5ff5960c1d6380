import math

import pytest

from autotune.devices.base import Accuracy
from autotune.search.accuracy import SLACK, UNIT_ROUNDOFF, objection

INF, NAN = math.inf, math.nan


def judged(error=1e-3, worst=4e-3, apart=0.0, stray=0.0, stock=(1e-3, 4e-3), dtype="f16", factor=2.0):
    return objection(Accuracy(error, worst, apart, stray), Accuracy(*stock, 0.0), dtype, factor)


def test_stock_itself_passes():
    for dtype in UNIT_ROUNDOFF:
        for size in (1e-8, 1e-4, 0.1):
            stock = Accuracy(size, 5 * size, 0.0)
            assert objection(stock, stock, dtype, 1.0) == ""


class TestError:
    def test_up_to_the_factor(self):
        assert judged(error=SLACK * 2 * 1e-3 * 0.999) == ""
        assert judged(error=SLACK * 2 * 1e-3 * 1.001).startswith("error 0.0021 is above 0.0021 (stock's is 0.001)")

    def test_the_limit_itself_passes(self):
        u = UNIT_ROUNDOFF["f32"]
        assert judged(error=SLACK * (u / 2), worst=0.0, stock=(0.0, 0.0), dtype="f32", factor=1.0) == ""

    def test_the_factor_is_the_kernels(self):
        assert judged(error=1.5e-3, factor=2.0) == ""
        assert judged(error=1.5e-3, factor=1.0)
        assert judged(error=1.04e-3, factor=1.0) == ""

    @pytest.mark.parametrize(("dtype", "u"), [("f32", 2**-24), ("f16", 2**-11), ("bf16", 2**-8)])
    def test_rounding_the_result_is_no_error(self, dtype, u):
        assert UNIT_ROUNDOFF[dtype] == u
        exact = (0.0, 0.0)
        assert judged(error=u / 2, worst=u, apart=u / 2, stock=exact, dtype=dtype, factor=1.0) == ""
        assert judged(error=u, worst=u, stock=exact, dtype=dtype, factor=1.0)

    def test_a_better_route_than_stock_passes(self):
        assert judged(error=1e-5, worst=1e-4, apart=1e-3) == ""


class TestLargestError:
    def test_may_be_twice_as_far_off(self):
        assert judged(worst=2 * SLACK * 2 * 4e-3 * 0.999) == ""
        assert judged(worst=2 * SLACK * 2 * 4e-3 * 1.001).startswith("largest error")

    def test_has_a_floor(self):
        u = UNIT_ROUNDOFF["f16"]
        assert judged(worst=8 * u, stock=(1e-3, 0.0), factor=1.0) == ""
        assert judged(worst=8 * SLACK * u * 1.001, stock=(1e-3, 0.0), factor=1.0).startswith("largest error")


class TestDistanceFromStock:
    def test_is_bounded_by_both_errors(self):
        u = UNIT_ROUNDOFF["f16"]
        assert judged(apart=2 * (1e-3 + 1e-3) + 0.999 * u) == ""
        assert judged(apart=2 * (1e-3 + 1e-3) + 1.001 * u).startswith("distance from stock")

    def test_finds_what_the_sample_of_columns_misses(self):
        # Right on every sampled column, and one column of hundreds left unwritten.
        assert judged(error=1e-3, worst=4e-3, apart=0.05).startswith("distance from stock 0.05 is above")


class TestLargestDistanceFromStock:
    def test_is_bounded_by_both_largest_errors(self):
        limit = 2 * SLACK * (4e-3 + 6e-3)
        assert judged(worst=6e-3, stray=0.999 * limit) == ""
        assert judged(worst=6e-3, stray=1.001 * limit).startswith("largest distance from stock 0.021 is above 0.021")

    @pytest.mark.parametrize("dtype", UNIT_ROUNDOFF)
    def test_has_a_floor(self, dtype):
        limit = 2 * SLACK * (4 + 4) * UNIT_ROUNDOFF[dtype]
        exact = {"error": 0.0, "worst": 0.0, "stock": (0.0, 0.0), "dtype": dtype}
        assert judged(stray=0.999 * limit, **exact) == ""
        assert judged(stray=1.001 * limit, **exact).startswith("largest distance from stock")

    def test_finds_one_wrong_element_among_millions(self):
        # Too little to show in any mean, and outside the sample.
        assert judged(apart=1e-4, stray=1.0).startswith("largest distance from stock 1 is above")


@pytest.mark.parametrize("value", [INF, NAN])
@pytest.mark.parametrize("field", ["error", "worst", "apart", "stray"])
def test_what_is_not_finite_is_refused(field, value):
    assert judged(**{field: value})


def test_the_device_says_infinite_for_all_three():
    for dtype in UNIT_ROUNDOFF:
        assert judged(INF, INF, INF, dtype=dtype)
        assert judged(NAN, NAN, NAN, dtype=dtype, factor=1e9)
