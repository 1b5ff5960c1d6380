import math
from dataclasses import replace

import pytest
from report.builders import PAD, STOCK, WIDE, timed

from autotune.kernels import Route
from autotune.search import between
from autotune.search.export import derive
from autotune.search.measured import MARGIN, by_family
from autotune.search.results import FAILED, INACCURATE, OK, PRUNED

UPCAST, NATIVE = "upcast", "dequantize compute=native"
TWO, FOUR = "fold_k parts=2 sum=native", "fold_k parts=4 sum=native"
PLAY_OFF, SCREENED = 8, 2


def row(m, route, speedup=1.0, half=0.02, rounds=PLAY_OFF, **fields):
    bounds = {"speedup": speedup, "low": round(speedup - half, 9), "high": round(speedup + half, 9), "rounds": rounds}
    return replace(timed(WIDE, m, route, 50, 100), **{**bounds, **fields})


def dropped(m, route, speedup, half=0.02, **fields):
    return row(m, route, speedup, half, SCREENED, status=PRUNED, **fields)


def across(rows, ends=(UPCAST, NATIVE), gpu_bound=False, luck=0.0):
    """The route between the two M of the rows, as text."""
    measured = {row.problem for row in rows}
    rows = [*rows, *(replace(timed(WIDE, m, STOCK, 100, 100), low=0.99, high=1.01) for m in ms(rows))]
    ((before, after),) = by_family(rows).values()
    assert len(measured) == 2
    first, last = (Route.parse(end) for end in ends)
    found = between.route(before, after, (first, last), MARGIN, gpu_bound, luck)
    return found and str(found)


def ms(rows):
    return sorted({int(each.problem.split("M=")[1].split()[0]) for each in rows})


def winners(m=8, then=16):
    return [row(m, UPCAST, 3.0), row(then, NATIVE, 2.0)]


class TestEndsThatDiffer:
    def test_one_that_was_dropped_at_the_other_end_serves(self):
        assert across([*winners(), dropped(16, UPCAST, 1.5)]) == UPCAST
        assert across([*winners(), dropped(8, NATIVE, 2.5)]) == NATIVE

    def test_without_a_time_at_both_ends_none_does(self):
        assert across(winners()) is None
        assert across([*winners(), row(16, UPCAST, 1.5, status=FAILED)]) is None

    def test_what_is_refused_at_an_end_does_not_serve(self):
        assert across([*winners(), row(16, UPCAST, 1.9, status=INACCURATE)]) is None

    def test_a_third_one_where_the_ends_are_far_behind(self):
        rows = [*winners(), dropped(16, UPCAST, 1.2), dropped(8, TWO, 2.0), dropped(16, TWO, 1.8)]
        assert across(rows, gpu_bound=True) == TWO

    def test_an_end_that_comes_close_goes_before_it(self):
        rows = [*winners(), dropped(16, UPCAST, 1.75), dropped(8, TWO, 2.0), dropped(16, TWO, 1.8)]
        assert across(rows, gpu_bound=True) == UPCAST

    def test_the_weaker_bound_counts(self):
        rows = [*winners(), dropped(8, TWO, 2.9), dropped(16, TWO, 1.1)]
        rows += [dropped(8, FOUR, 1.4), dropped(16, FOUR, 1.4)]
        assert across(rows, gpu_bound=True) == FOUR

    @pytest.mark.parametrize(("low", "used"), [(1.031, True), (1.029, False)])
    def test_its_bound_has_to_clear_the_margin(self, low, used):
        rows = [*winners(), dropped(16, UPCAST, 2.0, low=low)]
        assert (across(rows) == UPCAST) == used

    def test_and_what_one_session_differs_by(self):
        """More than the mean of two, which a play-off has."""
        luck = 0.05
        two, one = (1.03 * math.exp(1.96 * luck / math.sqrt(sessions)) for sessions in (2, 1))
        at_both = [*winners(), dropped(16, UPCAST, 2.0, low=(one + two) / 2)]
        assert across(at_both, luck=luck) is None
        assert across([replace(each, rounds=PLAY_OFF, status=OK) for each in at_both], luck=luck) == UPCAST
        assert across([*winners(), dropped(16, UPCAST, 2.0, low=one + 0.001)], luck=luck) == UPCAST

    def test_a_play_off_that_differs_from_session_to_session_does_not_serve(self):
        assert across([*winners(), row(16, UPCAST, 1.2, between=0.5)]) is None
        assert across([*winners(), row(16, UPCAST, 1.2, between=0.01)]) == UPCAST

    def test_a_kernel_that_is_not_smooth_does_not_serve(self):
        rows = [row(9, PAD, 3.0), row(15, UPCAST, 2.0), row(15, PAD, 1.9)]
        assert across(rows, ends=(PAD, UPCAST)) is None

    def test_ends_that_are_equal_need_nothing_else(self):
        rows = [row(8, UPCAST, 3.0), row(16, UPCAST, 2.0), row(8, NATIVE, 2.9), row(16, NATIVE, 2.9)]
        assert across(rows, ends=(UPCAST, UPCAST)) == UPCAST

    def test_not_beside_stock(self):
        rows = [*winners(), row(16, UPCAST, 1.9)]
        assert across(rows, ends=(STOCK, NATIVE)) is None
        assert across(rows, ends=(UPCAST, STOCK)) is None
        assert across(rows, ends=(STOCK, STOCK)) is None

    @pytest.mark.parametrize(("then", "used"), [(16, True), (17, False)])
    def test_not_over_more_than_a_factor_of_two(self, then, used):
        assert (across([*winners(8, then), dropped(then, UPCAST, 1.5)]) == UPCAST) == used


class TestWhatACallCosts:
    """Stock takes 100 us in these rows: a speedup of 1.25 saves 20. What a call costs only play-offs find out."""

    @pytest.mark.parametrize(("cost", "used"), [(19.0, True), (21.0, False)])
    def test_of_the_same_kernel_at_the_other_end(self, cost, used):
        rows = [row(8, UPCAST, 3.0, host_us=cost), row(16, NATIVE, 2.0), dropped(16, UPCAST, 1.25)]
        assert (across(rows) == UPCAST) == used
        assert across(rows, gpu_bound=True) == UPCAST

    def test_the_most_of_them(self):
        rows = [*winners(), dropped(8, TWO, 1.25), dropped(16, TWO, 1.25), row(8, FOUR, 1.1, host_us=1.0)]
        assert across(rows) == TWO
        assert across([*rows, row(16, FOUR, 1.1, host_us=21.0)]) is None

    def test_a_kernel_whose_cost_nobody_knows_does_not_serve(self):
        rows = [*winners(), dropped(8, TWO, 2.0), dropped(16, TWO, 2.0)]
        assert across(rows) is None
        assert across(rows, gpu_bound=True) == TWO


class TestInATable:
    def rows(self):
        stock = [replace(timed(WIDE, m, STOCK, 100, 100), low=0.99, high=1.01) for m in (8, 16)]
        return [*stock, *winners(), dropped(16, UPCAST, 1.5, error=7e-4)]

    def test_it_goes_on_with_the_end_that_it_is(self):
        first, second = derive(self.rows()).rows(WIDE)
        assert (first.first, first.last, str(first.route)) == (8, 15, UPCAST)
        assert (second.first, second.last, str(second.route)) == (16, 16, NATIVE)

    def test_its_evidence_is_of_the_weaker_end(self):
        """Which may lie beside the interval: nobody measured what is in it."""
        row = derive(self.rows()).rows(WIDE)[0]
        assert (row.at, row.speedup, row.samples, row.error) == (16, 1.5, SCREENED, 7e-4)

    def test_a_third_route_has_an_interval_of_its_own(self):
        rows = [each for each in self.rows() if each.rounds != SCREENED]
        rows += [row(m, TWO, speedup) for m, speedup in ((8, 1.7), (16, 1.9))]
        found = [(each.first, each.last, str(each.route), each.at) for each in derive(rows).rows(WIDE)]
        assert found == [(8, 8, UPCAST, 8), (9, 15, TWO, 8), (16, 16, NATIVE, 16)]
