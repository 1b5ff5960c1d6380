import math
from dataclasses import replace

import pytest
from report.builders import PAD, STOCK, WIDE, timed

from autotune.kernels import Route
from autotune.search import between, export
from autotune.search.export import derive
from autotune.search.measured import MARGIN, by_family
from autotune.search.results import FAILED, INACCURATE, OK, PRUNED

UPCAST, NATIVE = "upcast", "dequantize compute=native"
TWO, FOUR, EIGHT = (f"fold_k parts={parts} sum=native" for parts in (2, 4, 8))
PLAY_OFF, SCREENED = 8, 2


def row(m, route, speedup=1.0, half=0.02, rounds=PLAY_OFF, **fields):
    """A row of a play-off, whose call costs the program 1 us; stock takes 100."""
    bounds = {"speedup": speedup, "low": round(speedup - half, 9), "high": round(speedup + half, 9), "rounds": rounds}
    return replace(timed(WIDE, m, route, 50, 100), **{**bounds, "host_us": 1.0, **fields})


def dropped(m, route, speedup, half=0.02, **fields):
    """A row of screening, which does not find out what a call costs."""
    return row(m, route, speedup, half, SCREENED, **{"status": PRUNED, "host_us": 0.0, **fields})


def stock(m, us=100.0):
    return replace(timed(WIDE, m, STOCK, us, us), low=0.99, high=1.01)


def across(rows, ends=(UPCAST, NATIVE), gpu_bound=False, luck=0.0, held=None, stocks=(100.0, 100.0)):
    """The route between the two M of the rows, as text."""
    rows = [*rows, *map(stock, ms(rows), stocks)]
    ((before, after),) = by_family(rows).values()
    first, last = (Route.parse(end) for end in ends)
    found = between.route(before, after, (first, last), MARGIN, gpu_bound, luck, held and Route.parse(held))
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

    def test_equal_ends_that_are_not_smooth_leave_it_to_another(self):
        rows = [row(9, PAD, 3.0), row(15, PAD, 3.0), row(9, UPCAST, 2.9), row(15, UPCAST, 2.9)]
        assert across(rows, ends=(PAD, PAD)) == UPCAST

    def test_what_screening_found_good_serves_too(self):
        assert across([*winners(), dropped(16, UPCAST, 1.5, status=OK)]) == UPCAST

    def test_a_bound_counts_and_not_an_estimate(self):
        rows = [*winners(), dropped(8, TWO, 2.5, low=1.2), dropped(16, TWO, 2.5, low=1.2)]
        rows += [dropped(m, FOUR, 1.6) for m in (8, 16)]
        assert across(rows, gpu_bound=True) == FOUR

    @pytest.mark.parametrize("m", [9, 15])
    def test_it_has_to_be_legal_for_all_of_them(self, m, monkeypatch):
        rows = [*winners(), dropped(16, UPCAST, 1.5)]
        monkeypatch.setattr("autotune.kernels.accepts", lambda _, problem: problem.m != m)
        assert across(rows) is None

    def test_a_kernel_that_this_code_lacks_is_passed_over(self):
        gone = "newer a=1"
        assert across([*winners(), dropped(16, UPCAST, 1.5), row(8, gone, 4.0), row(16, gone, 4.0)]) == UPCAST

    @pytest.mark.parametrize("field", ["mlx", "kernel", "space"])
    def test_rows_of_two_ages_are_no_evidence_together(self, field):
        assert across([*winners(), dropped(16, UPCAST, 1.5, **{field: "another"})]) is None
        rows = [row(8, UPCAST, 3.0), row(16, UPCAST, 2.0, **{field: "another"})]
        assert across(rows, ends=(UPCAST, UPCAST)) is None

    def test_the_route_that_a_table_held_stays_where_it_comes_close(self):
        rows = [*winners(), *(dropped(m, TWO, 2.0) for m in (8, 16)), *(dropped(m, FOUR, 1.95) for m in (8, 16))]
        assert across(rows, gpu_bound=True) == TWO
        assert across(rows, gpu_bound=True, held=FOUR) == FOUR
        assert across(rows, gpu_bound=True, held=PAD) == TWO
        rows += [dropped(m, EIGHT, 2.2) for m in (8, 16)]
        assert across(rows, gpu_bound=True, held=FOUR) == EIGHT


class TestLeastGain:
    """Stock takes 40 us at one end and 100 at the other, and may take 40 anywhere between; a route that gains twice at
    both ends takes 20 and 50, and may take 50 anywhere."""

    @pytest.mark.parametrize("stocks", [(40.0, 100.0), (100.0, 40.0)])
    def test_gains_at_both_ends_are_none_between(self, stocks):
        rows = [row(m, UPCAST, 2.0, 0.0, stock_us=us) for m, us in zip((8, 16), stocks)]
        assert across(rows, ends=(UPCAST, UPCAST), stocks=stocks) is None
        even = [row(m, UPCAST, 2.0, 0.0) for m in (8, 16)]
        assert across(even, ends=(UPCAST, UPCAST)) == UPCAST

    @pytest.mark.parametrize(("gain", "used"), [(2.58, True), (2.57, False)])
    def test_it_has_to_clear_the_margin(self, gain, used):
        """40 us over 100 / 2.575 is 1.03."""
        rows = [row(m, UPCAST, each, 0.0, stock_us=us) for m, each, us in ((8, 2.0, 40.0), (16, gain, 100.0))]
        assert (across(rows, ends=(UPCAST, UPCAST), stocks=(40.0, 100.0)) == UPCAST) == used

    @pytest.mark.parametrize(("plain", "used"), [((), True), ((8,), False), ((16,), True), ((8, 16), True)])
    def test_a_plain_time_of_stock_beside_a_gpus_own_counts_for_less(self, plain, used):
        """40 us of stock over 35 of the route are 1.14; if the 40 are plain and the 35 are not, they may be 29."""
        rows = [row(8, UPCAST, 2.0, 0.0, stock_us=40.0), row(16, UPCAST, 100 / 35, 0.0, stock_us=100.0)]
        rows = [replace(each, clock="plain" if m in plain else "stamped") for m, each in zip((8, 16), rows)]
        stocks = [replace(stock(m, us), clock=each.clock) for m, us, each in zip((8, 16), (40.0, 100.0), rows)]
        ((before, after),) = by_family([*stocks, *rows]).values()
        ends = (Route.parse(UPCAST),) * 2
        assert (between.route(before, after, ends, MARGIN) == ends[0]) == used

    def test_the_largest_is_taken(self):
        """Of 4 and 4 times, and 2.5 and 6, with stock at 100 and 200: 100 over 50, and 100 over 40."""
        rows = winners()
        rows += [dropped(m, TWO, 4.0, 0.0, stock_us=us) for m, us in ((8, 100.0), (16, 200.0))]
        rows += [dropped(m, FOUR, each, 0.0, stock_us=us) for m, each, us in ((8, 2.5, 100.0), (16, 6.0, 200.0))]
        assert across(rows, gpu_bound=True, stocks=(100.0, 200.0)) == FOUR


class TestWhatACallCosts:
    """Stock takes 100 us in these rows: a speedup of 1.25 saves 20. What a call costs only play-offs find out."""

    @pytest.mark.parametrize(("cost", "used"), [(19.0, True), (21.0, False)])
    def test_of_the_same_kernel_at_the_other_end(self, cost, used):
        rows = [row(8, UPCAST, 3.0, host_us=cost), row(16, NATIVE, 2.0), dropped(16, UPCAST, 1.25)]
        assert (across(rows) == UPCAST) == used
        assert across(rows, gpu_bound=True) == UPCAST

    @pytest.mark.parametrize("costs", [(1.0, 21.0), (21.0, 1.0)])
    def test_the_most_of_them(self, costs):
        rows = [*winners(), dropped(8, TWO, 1.25), dropped(16, TWO, 1.25), row(8, FOUR, 1.1, host_us=1.0)]
        assert across(rows) == TWO
        rows = [*rows[:4], *(row(m, FOUR, 1.1, host_us=cost) for m, cost in zip((8, 16), costs))]
        assert across(rows) is None

    def test_what_the_other_end_knows_holds_for_a_play_off_too(self):
        """A play-off of plain times may not have looked; the kernel's at the other end has."""
        rows = [row(8, UPCAST, 1.25, host_us=0.0), row(16, UPCAST, 3.0, host_us=21.0)]
        assert across(rows, ends=(UPCAST, UPCAST)) is None
        assert across([rows[0], row(16, UPCAST, 3.0, host_us=0.0)], ends=(UPCAST, UPCAST)) == UPCAST

    def test_its_own_where_it_was_measured(self):
        """Another route of the kernel may cost more: calls of large results do."""
        rows = [row(m, UPCAST, 1.25, host_us=1.0) for m in (8, 16)]
        rows = [*rows, *(row(m, TWO, 1.25, host_us=1.0) for m in (8, 16)), row(8, FOUR, 1.1, host_us=21.0)]
        assert across(rows, ends=(TWO, TWO)) == TWO

    @pytest.mark.parametrize("fields", [{"backend": "cpu"}, {"source": "simulated"}])
    def test_nothing_where_there_is_nothing_to_find_out(self, fields):
        rows = [*(replace(each, host_us=0.0) for each in winners()), dropped(16, UPCAST, 1.25)]
        assert across(rows) is None
        assert across([replace(each, **fields) for each in rows]) == UPCAST

    def test_a_kernel_whose_cost_nobody_knows_does_not_serve(self):
        rows = [*winners(), dropped(8, TWO, 2.0), dropped(16, TWO, 2.0)]
        assert across(rows) is None
        assert across(rows, gpu_bound=True) == TWO


class TestInATable:
    def rows(self):
        return [*map(stock, (8, 16)), *winners(), dropped(16, UPCAST, 1.5, error=7e-4)]

    def shown(self, rows, **options):
        found = derive(rows, **options).rows(WIDE)
        return [(each.first, each.last, str(each.route), each.at) for each in found]

    def test_it_has_an_interval_of_its_own(self):
        """Also where it is an end's: what was measured at an M is the evidence for that M."""
        assert self.shown(self.rows()) == [(8, 8, UPCAST, 8), (9, 15, UPCAST, 16), (16, 16, NATIVE, 16)]

    @pytest.mark.parametrize("ends", [(8, 16), (16, 8)])
    def test_unless_the_weaker_end_has_it(self, ends):
        """Then both have the same evidence."""
        own, other = ends
        rows = [*map(stock, (8, 16)), row(own, UPCAST, 1.5), row(other, NATIVE, 5.0), dropped(other, UPCAST, 2.0)]
        with_it = (8, 15, UPCAST, 8) if own == 8 else (9, 16, UPCAST, 16)
        assert sorted(self.shown(rows)) == sorted([with_it, (other, other, NATIVE, other)])

    def test_its_evidence_is_of_the_weaker_end(self):
        row = derive(self.rows()).rows(WIDE)[1]
        assert (row.at, row.speedup, row.samples, row.error) == (16, 1.5, SCREENED, 7e-4)

    def test_the_ends_own_makes_one_interval_with_them(self):
        rows = [*map(stock, (8, 16)), row(8, UPCAST, 3.0), row(16, UPCAST, 2.0)]
        assert self.shown(rows) == [(8, 16, UPCAST, 16)]

    def test_a_third_route(self):
        rows = [each for each in self.rows() if each.rounds != SCREENED]
        rows += [row(m, TWO, speedup) for m, speedup in ((8, 1.7), (16, 1.9))]
        assert self.shown(rows) == [(8, 8, UPCAST, 8), (9, 15, TWO, 8), (16, 16, NATIVE, 16)]

    @pytest.mark.parametrize("after", [9, 16])
    def test_what_was_measured_with_another_mlx_stays_apart(self, after):
        """One of a table's rows is stale where its MLX or its kernel is, and the other is not."""
        rows = [*map(stock, (8, after)), row(8, UPCAST, 3.0, mlx="0.29.0"), row(after, UPCAST, 2.0)]
        assert self.shown(rows) == [(8, 8, UPCAST, 8), (after, after, UPCAST, after)]
        assert [each.mlx for each in derive(rows).rows(WIDE)] == ["0.29.0", rows[-1].mlx]

    def test_the_rules_of_the_export_hold(self):
        rows = [*map(stock, (8, 16)), *winners(), dropped(16, UPCAST, 1.25)]
        assert len(self.shown(rows)) == 3
        dear = [replace(each, host_us=21.0) if each.route == UPCAST and each.host_us else each for each in rows]
        assert len(self.shown(dear)) == 2
        assert len(self.shown(dear, gpu_bound=True)) == 3
        families = by_family(rows)
        counts = {luck: len(*export.routes(families, luck=luck).values()) for luck in (0.0, 0.1)}
        assert counts == {0.0: 3, 0.1: 2}

    def test_a_table_holds_its_route_between_too(self):
        rows = [*map(stock, (8, 16)), *winners(), *(row(m, TWO, 1.7) for m in (8, 16))]
        before = derive(rows)
        rows += [row(m, FOUR, 1.72) for m in (8, 16)]
        assert self.shown(rows)[1][:3] == (9, 15, FOUR)
        assert self.shown(rows, incumbent=before)[1][:3] == (9, 15, TWO)
