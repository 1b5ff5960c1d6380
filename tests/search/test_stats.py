import math
import random

import pytest

from autotune.search.stats import NONE, Interval, geometric_mean, noise_floor, p95, speedup, spread, t95, t_quantile


def within(t: float, degrees: int, steps: int = 4000) -> float:
    """The probability of -t..t under Student's distribution, by Simpson's rule."""
    constant = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(degrees * math.pi)
    density = [constant * (1 + (t * i / steps) ** 2 / degrees) ** (-(degrees + 1) / 2) for i in range(steps + 1)]
    return 2 * t / steps / 3 * (density[0] + 4 * sum(density[1::2]) + 2 * sum(density[2:-1:2]) + density[-1])


class TestT95:
    @pytest.mark.parametrize(
        ("degrees", "value"), [(1, 12.706), (2, 4.303), (4, 2.776), (10, 2.228), (20, 2.086), (30, 2.042)]
    )
    def test_is_what_tables_print(self, degrees, value):
        assert t95(degrees) == value

    @pytest.mark.parametrize("degrees", range(1, 31))
    def test_leaves_five_per_cent_outside(self, degrees):
        assert within(t95(degrees), degrees) == pytest.approx(0.95, abs=5e-5)

    def test_is_the_normal_quantile_beyond_the_table(self):
        assert t95(31) == t95(1000) == 1.96


class TestSpeedup:
    def test_by_hand(self):
        # mean 0.2, standard deviation 0.1, half width 4.303 * 0.1 / sqrt(3) = 0.248434
        interval = speedup([0.1, 0.2, 0.3])
        assert interval.value == pytest.approx(1.221403, abs=1e-6)
        assert interval.low == pytest.approx(0.952720, abs=1e-6)
        assert interval.high == pytest.approx(1.565858, abs=1e-6)

    def test_rounds_that_agree_leave_no_doubt(self):
        doubled = speedup([math.log(2)] * 4)
        assert (doubled.value, doubled.low, doubled.high) == pytest.approx((2, 2, 2))

    def test_is_symmetric_in_the_two_sides(self):
        ratios = [0.3, 0.1, 0.45, 0.2]
        there, back = speedup(ratios), speedup([-ratio for ratio in ratios])
        assert (back.value, back.low, back.high) == pytest.approx((1 / there.value, 1 / there.high, 1 / there.low))

    def test_one_round_bounds_nothing(self):
        assert speedup([math.log(3)]) == Interval(pytest.approx(3), 0.0, math.inf)

    def test_no_rounds(self):
        with pytest.raises(ValueError, match="no rounds"):
            speedup([])

    @pytest.mark.parametrize("rounds", [2, 3, 5, 16, 40])
    def test_the_interval_covers_the_truth(self, rounds):
        rng = random.Random(rounds)
        truth, covered = math.log(1.3), 0
        for _ in range(400):
            interval = speedup([rng.gauss(truth, 0.04) for _ in range(rounds)])
            covered += interval.low <= 1.3 <= interval.high
        assert 0.90 <= covered / 400 <= 0.99


class TestOverlaps:
    def test_both_ways(self):
        a, b, c = Interval(2, 1.8, 2.2), Interval(2.3, 2.1, 2.5), Interval(3, 2.6, 3.4)
        assert a.overlaps(b)
        assert b.overlaps(a)
        assert not a.overlaps(c)
        assert not c.overlaps(b)

    def test_touching_counts(self):
        assert Interval(1.5, 1, 2).overlaps(Interval(2.5, 2, 3))

    def test_nested(self):
        assert Interval(2, 1, 3).overlaps(Interval(2, 1.9, 2.1))
        assert Interval(2, 1.9, 2.1).overlaps(Interval(2, 1, 3))

    def test_none_is_no_speedup(self):
        assert (NONE.value, NONE.low, NONE.high) == (1, 1, 1)


class TestNoiseFloor:
    def test_is_the_farther_bound(self):
        assert noise_floor([0.1, 0.2, 0.3]) == pytest.approx(0.565858, abs=1e-6)
        assert noise_floor([-0.1, -0.2, -0.3]) == pytest.approx(0.565858, abs=1e-6)

    def test_of_a_quiet_machine_is_nothing(self):
        assert noise_floor([0.0, 0.0, 0.0]) == 0

    def test_of_one_round_is_no_bound(self):
        assert noise_floor([0.0]) > 1e6


def test_p95_interpolates():
    assert p95(range(1, 22)) == pytest.approx(20)
    assert p95([2, 1]) == pytest.approx(1.95)
    assert p95([30, 10, 20, 40]) == pytest.approx(38.5)
    assert p95([7]) == 7


def test_spread_is_deaf_to_one_outlier():
    assert spread([1, 2, 3, 4, 100]) == pytest.approx(1 / 3)
    assert spread([1, 2, 3, 4, 10_000]) == pytest.approx(1 / 3)
    assert spread([5, 5, 5]) == 0


def test_geometric_mean_favours_no_side():
    assert geometric_mean([1, 4]) == pytest.approx(2)
    assert geometric_mean([4, 0.25]) == pytest.approx(1)
    assert geometric_mean([2, 4, 8]) == pytest.approx(4)


@pytest.mark.parametrize("degrees", [4, 5, 7, 12, 30, 200])
@pytest.mark.parametrize("probability", [0.6, 0.95, 0.99, 0.995, 0.999])
def test_one_sided_quantiles(probability, degrees):
    quantile = t_quantile(probability, degrees)
    assert within(0.99 * quantile, degrees) < 2 * probability - 1 < within(1.01 * quantile, degrees)
