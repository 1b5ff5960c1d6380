import math
import random
from dataclasses import replace

import pytest
from fakes import FakeDevice, costs

from autotune.devices.base import RouteFailed
from autotune.kernels import STOCK, Route
from autotune.problem import Problem
from autotune.search import measure
from autotune.search.measure import EFFORTS, Meter
from autotune.search.sequential import Rival
from autotune.search.stats import Interval

PROBLEM = Problem.parse("matmul M=3 N=64 K=64 f16 nt")
PAD = Route.parse("pad multiple=4 fill=zeros")
STANDARD = EFFORTS["standard"]
MS = 1e-3


class Bench:
    """A meter on a fake session. ``factor`` is what the machine multiplies each evaluation by, counted from zero at the
    first round; ``naps`` are the seconds that the meter slept."""

    def __init__(self, stock=4 * MS, pad=2 * MS, effort=STANDARD, **device):
        self.factor = lambda number: 1.0
        self.skip = math.inf
        self.naps = []
        self.device = FakeDevice(costs(stock, pad=pad), drift=self._drift, **device)
        self.meter = Meter(self.device.open(PROBLEM, 0, "chained"), effort, self.naps.append)

    def _drift(self, now):
        number = len(self.device.timed) - 1 - self.skip
        return self.factor(number) if number >= 0 else 1.0

    def compare(self):
        """A comparison of ``PAD``; factors count from here."""
        comparison = self.meter.compare(PAD)
        self.skip = len(self.device.timed)
        return comparison

    @property
    def calls(self):
        """(route, calls) of each evaluation since :meth:`compare`."""
        skip = 0 if self.skip == math.inf else self.skip
        return [(route, calls) for _, route, calls in self.device.timed[skip:]]


def calls_of(device, route):
    return [calls for _, text, calls in device.timed if text == str(route)]


class TestCalibration:
    @pytest.mark.parametrize(
        ("seconds", "calls"),
        [
            (1.0, [1, 1]),  # one call fills an evaluation
            (0.01, [1, 1, 1]),  # what may have been a moment's trouble is looked at twice
            (0.004, [1, 1, 3, 3]),
            (0.009, [1, 1, 2, 2]),
            (2e-3, [1, 1, 6, 6]),
            (1e-3, [1, 1, 8, 12, 12]),  # never more than eight times as many at once
            (1e-6, [1, 1, 8, 64, 512]),  # and never more than 512
        ],
    )
    def test_calls_fill_one_evaluation(self, seconds, calls):
        bench = Bench(stock=seconds, pad=seconds)
        comparison = bench.meter.compare(PAD)
        assert calls_of(bench.device, PAD) == calls
        assert comparison.calls == comparison.stock_calls == calls[-1]
        assert comparison.estimate == pytest.approx(seconds)
        assert (comparison.route, comparison.ratios, comparison.times, comparison.stock) == (PAD, [], [], [])

    def test_a_machine_held_up_for_a_moment_does_not_make_one_call_enough(self):
        bench = Bench(stock=100e-6, pad=100e-6)
        bench.compare()
        bench.factor = lambda number: 200.0 if number == 1 else 1.0
        bench.skip = len(bench.device.timed)
        assert bench.meter.compare(PAD).calls == 120

    @pytest.mark.parametrize(
        ("stock", "pad", "calls"),
        [
            (4e-3, 2e-3, (3, 6)),
            (4e-3, 50e-3, (12, 1)),  # one call is long: more of the other's
            (48e-3, 4e-3, (1, 12)),
            (5e-6, 50e-6, (512, 51)),  # as long as the most calls of the shorter one are
            (50e-6, 5e-6, (51, 512)),
        ],
    )
    def test_both_sides_of_a_round_last_equally_long(self, stock, pad, calls):
        comparison = Bench(stock=stock, pad=pad).meter.compare(PAD)
        assert (comparison.stock_calls, comparison.calls) == calls

    @pytest.mark.parametrize("cold", range(12))
    @pytest.mark.parametrize("kind", [STOCK, PAD])
    def test_what_an_evaluation_costs_besides_its_calls_is_on_neither_side(self, kind, cold):
        """Stock against itself, and against what is as fast: a millisecond an evaluation, and a machine that is slow
        for the first few."""
        bench = Bench(stock=53e-6, pad=53e-6)
        timed, left = bench.meter._session.time, [1.5] * cold

        def time(route, calls):
            return (1e-3 + timed(route, calls)) * (left.pop() if left else 1.0)

        bench.meter._session.time = time
        comparison = bench.meter.compare(kind)
        bench.meter.round(comparison)
        assert math.exp(comparison.ratios[0]) == pytest.approx(1.0, abs=0.004)

    def test_the_first_evaluation_warms_up_and_is_thrown_away(self):
        bench = Bench(stock=1.0, pad=0.2)
        bench.skip, bench.factor = 2, lambda number: 1000.0 if number == 0 else 1.0
        comparison = bench.meter.compare(PAD)
        assert [route for route, _ in bench.calls] == [str(PAD)] * 2 + ["stock"]
        assert comparison.estimate == pytest.approx(0.2)

    def test_stock_is_calibrated_once_for_a_session_and_looked_at_beside_each_route(self):
        bench = Bench(stock=0.2)
        for _ in range(3):
            bench.meter.compare(PAD)
        assert calls_of(bench.device, STOCK) == [1, 1] + [1] * 3

    def test_an_evaluation_is_as_long_as_the_effort_says(self):
        for effort in EFFORTS.values():
            bench = Bench(stock=37e-6, pad=53e-6, effort=effort)
            comparison = bench.meter.compare(PAD)
            assert comparison.calls * 53e-6 >= effort.seconds or comparison.stock_calls == measure.MOST_CALLS

    def test_a_failing_route_is_not_hidden(self):
        bench = Bench(failures={str(PAD): "crashed"})
        with pytest.raises(RouteFailed, match="crashed"):
            bench.meter.compare(PAD)


class TestRound:
    def test_is_stock_route_route_stock(self):
        bench = Bench(stock=4 * MS, pad=2 * MS)
        comparison = bench.compare()
        bench.meter.round(comparison)
        bench.meter.round(comparison)
        assert bench.calls == [("stock", 3), (str(PAD), 6), (str(PAD), 6), ("stock", 3)] * 2

    def test_keeps_means_and_the_log_of_their_ratio(self):
        bench = Bench(stock=4 * MS, pad=2 * MS)
        comparison = bench.compare()
        bench.factor = lambda number: [1.0, 1.15, 1.25, 1.04][number]
        bench.meter.round(comparison)
        assert comparison.stock == pytest.approx([4.08 * MS])
        assert comparison.times == pytest.approx([2.4 * MS])
        assert comparison.ratios == pytest.approx([math.log(1.7)])

    def test_a_linear_drift_cancels(self):
        bench = Bench(stock=4 * MS, pad=2 * MS)
        comparison = bench.compare()
        bench.factor = lambda number: 1 + 0.02 * number
        for _ in range(3):
            bench.meter.round(comparison)
        assert bench.meter.disturbed == bench.meter.slowed == 0
        assert comparison.ratios == pytest.approx([math.log(2)] * 3, abs=1e-12)
        # The times themselves did drift: only the ratio is immune.
        assert comparison.stock[2] > 1.1 * comparison.stock[0]

    def test_a_machine_at_half_speed_halves_both(self):
        bench = Bench(stock=4 * MS, pad=2 * MS)
        comparison = bench.compare()
        bench.factor = lambda number: 1.2
        bench.meter.round(comparison)
        assert comparison.ratios == pytest.approx([math.log(2)])


class TestDisturbance:
    @pytest.mark.parametrize(("at", "factor"), [(at, factor) for at in range(4) for factor in (1.5, 0.6)])
    def test_a_step_in_either_side_repeats_the_round(self, at, factor):
        bench = Bench()
        comparison = bench.compare()
        bench.factor = lambda number: factor if number == at else 1.0
        bench.meter.round(comparison)
        assert len(bench.calls) == 8
        assert (bench.meter.disturbed, bench.meter.slowed) == (1, 0)
        assert comparison.ratios == pytest.approx([math.log(2)])
        assert len(comparison.stock) == len(comparison.times) == 1

    def test_within_the_bound_it_does_not(self):
        bench = Bench()
        comparison = bench.compare()
        bench.factor = lambda number: 0.99 * math.exp(measure.DRIFT) if number == 3 else 1.0
        bench.meter.round(comparison)
        assert len(bench.calls) == 4
        assert bench.meter.disturbed == 0

    def test_a_machine_that_never_rests_does_not_hang_the_sweep(self):
        bench = Bench()
        comparison = bench.compare()
        bench.factor = lambda number: 1.0 if number % 4 else 3.0
        bench.meter.settle(comparison)
        assert len(comparison.ratios) == STANDARD.final
        assert len(bench.calls) == STANDARD.final * 4 * (measure.RETRIES + 1)
        assert bench.meter.disturbed == STANDARD.final * measure.RETRIES
        assert not bench.naps


class TestThrottling:
    def test_waits_and_measures_again(self):
        bench = Bench()
        comparison = bench.compare()
        bench.factor = lambda number: 1.0 if bench.naps else 2.0
        bench.meter.round(comparison)
        assert (bench.meter.slowed, bench.meter.disturbed, len(bench.naps)) == (1, 0, 1)
        assert 0 < bench.naps[0] <= 5
        assert comparison.stock == pytest.approx([4 * MS])
        assert comparison.ratios == pytest.approx([math.log(2)])

    def test_a_machine_that_stays_slow_becomes_the_new_baseline(self):
        bench = Bench()
        comparison = bench.compare()
        bench.factor = lambda number: 2.0
        bench.meter.settle(comparison)
        assert len(comparison.ratios) == STANDARD.final
        assert bench.meter.slowed == len(bench.naps) == measure.RETRIES
        assert len(bench.calls) == 4 * (STANDARD.final + measure.RETRIES)
        assert comparison.ratios == pytest.approx([math.log(2)] * STANDARD.final)

    def test_a_machine_that_gets_slower_for_ever_ends_too(self):
        bench = Bench()
        comparison = bench.compare()
        bench.factor = lambda number: 1.03**number
        bench.meter.settle(comparison)
        assert len(comparison.ratios) == STANDARD.final
        assert len(bench.calls) <= 4 * STANDARD.final * (measure.RETRIES + 1)
        assert sum(bench.naps) <= 5 * bench.meter.slowed

    def test_no_nap_is_longer_than_five_seconds(self):
        bench = Bench(stock=100.0, pad=50.0)
        comparison = bench.compare()
        bench.factor = lambda number: 2.0
        bench.meter.round(comparison)
        assert bench.naps == [5.0] * measure.RETRIES

    def test_slow_at_one_end_alone_is_no_throttling(self):
        bench = Bench()
        comparison = bench.compare()
        bench.factor = lambda number: [1.2, 1.25, 1.3, 1.35][number]
        bench.meter.round(comparison)
        assert (bench.meter.slowed, bench.meter.disturbed) == (0, 0)
        assert not bench.naps

    def test_a_faster_machine_is_no_reason_to_wait(self):
        bench = Bench()
        comparison = bench.compare()
        bench.factor = lambda number: 0.5
        bench.meter.round(comparison)
        assert len(bench.calls) == 4
        assert not bench.naps


class TestScreen:
    def screen(self, pad, incumbent=1.0, effort=STANDARD, **device):
        bench = Bench(stock=10 * MS, pad=10 * MS * pad, effort=effort, **device)
        bench.meter.compare(STOCK)
        comparison, dropped = bench.meter.screen(PAD, Interval(incumbent, incumbent, incumbent))
        return comparison, dropped, calls_of(bench.device, PAD)

    def test_what_calibration_prices_out_gets_no_round(self):
        comparison, dropped, calls = self.screen(pad=3.1)
        assert dropped
        assert calls == [1, 1, 1]
        assert comparison.ratios == pytest.approx([-math.log(3.1)])
        assert (comparison.stock, comparison.times) == (pytest.approx([10 * MS]), pytest.approx([31 * MS]))

    def test_what_is_hopeless_gets_one(self):
        comparison, dropped, calls = self.screen(pad=2.9)
        assert dropped
        assert len(comparison.ratios) == 1
        assert calls == [1, 1, 1, 1, 1]

    def test_what_is_clearly_below_gets_one_round_once_the_noise_is_known(self):
        bench = Bench(stock=10 * MS, pad=12 * MS, noise=0.01, seed=1)
        bench.meter.settle(bench.meter.compare(STOCK))
        comparison, dropped = bench.meter.screen(PAD, Interval(1, 1, 1), Rival(0.0, 8))
        assert dropped
        assert len(comparison.ratios) == 1

    def test_nothing_is_dropped_for_being_slower_while_the_noise_is_unknown(self):
        comparison, dropped, _ = self.screen(pad=1.9)
        assert not dropped
        assert len(comparison.ratios) == STANDARD.screen

    def test_what_may_be_as_fast_gets_all(self):
        comparison, dropped, _ = self.screen(pad=1.0)
        assert not dropped
        assert len(comparison.ratios) == STANDARD.screen

    def test_a_doubt_keeps_a_slower_route(self):
        bench = Bench(stock=10 * MS, pad=10.1 * MS, noise=0.02, seed=2)
        bench.meter.settle(bench.meter.compare(STOCK))
        comparison, dropped = bench.meter.screen(PAD, Interval(1, 1, 1), Rival(0.0, 8))
        assert not dropped
        assert len(comparison.ratios) == STANDARD.screen

    def test_all_rounds_done_is_not_dropped(self):
        comparison, dropped, _ = self.screen(pad=1.9, effort=replace(STANDARD, screen=2))
        assert not dropped
        assert len(comparison.ratios) == 2

    @pytest.mark.parametrize(("pad", "rounds"), [(1.1, 1), (0.7, 1), (0.6, 3), (0.3, 3)])
    def test_is_held_against_the_incumbent(self, pad, rounds):
        comparison, dropped, _ = self.screen(pad=pad, incumbent=3.0)
        assert dropped == (rounds < 3)
        assert len(comparison.ratios) == rounds

    def test_a_route_as_slow_as_stock_is_priced_out_by_a_fast_incumbent(self):
        _, dropped, calls = self.screen(pad=1.0, incumbent=3.5)
        assert dropped
        assert calls == [1, 1, 1]


def test_rounds_of_another_session_are_taken_over_with_how_far_they_lie_apart():
    one, other = (measure.Comparison(PAD, 1, 1, 1.0, [2.0], [1.0], [math.log(2 * f)]) for f in (1.0, 1.1))
    assert one.between == 0
    one.extend(other)
    assert one.ratios == [math.log(2), math.log(2.2)]
    assert one.between == pytest.approx(-math.log(1.1))
    empty = measure.Comparison(PAD, 1, 1, 1.0)
    empty.extend(other)
    assert empty.between == 0


class TestSettle:
    def test_adds_what_is_missing(self):
        bench = Bench()
        comparison = bench.compare()
        bench.meter.round(comparison)
        bench.meter.settle(comparison)
        assert len(comparison.ratios) == STANDARD.final
        assert len(bench.calls) == 4 * STANDARD.final

    def test_adds_nothing_to_what_is_settled(self):
        bench = Bench()
        comparison = bench.compare()
        bench.meter.settle(comparison)
        before = len(bench.device.timed)
        bench.meter.settle(comparison)
        assert len(bench.device.timed) == before


def test_efforts_grow():
    quick, standard, full = EFFORTS.values()
    assert list(EFFORTS) == ["quick", "standard", "full"]
    for less, more in ((quick, standard), (standard, full)):
        assert less.seconds < more.seconds
        assert less.screen < more.screen
        assert less.final < more.final
        assert less.finalists < more.finalists
    # A finalist's interval has to mean something (three rounds), and stock against itself is measured as often.
    assert quick.final >= 3


def test_the_interval_covers_the_truth_on_a_noisy_machine_that_drifts():
    rng = random.Random(5)
    effort, covered = EFFORTS["quick"], 0
    for seed in range(400):
        truth = math.exp(rng.uniform(-0.5, 1.5))
        slope = rng.uniform(-0.5, 0.5)
        device = FakeDevice(
            costs(2 * MS * truth, pad=2 * MS), noise=0.03, seed=seed, drift=lambda now, slope=slope: 1 + slope * now
        )
        meter = Meter(device.open(PROBLEM, 0, "chained"), effort, device.sleep)
        comparison = meter.compare(PAD)
        meter.settle(comparison)
        covered += comparison.interval.low <= truth <= comparison.interval.high
    assert 0.90 <= covered / 400 <= 0.99
