import itertools
import math
import random
from dataclasses import replace

import pytest
from report.builders import PAD, REPEAT, STOCK, WIDE, timed

from autotune.errors import AutotuneError
from autotune.kernels import Route
from autotune.problem import Problem
from autotune.routing import table
from autotune.search import between, export, measured
from autotune.search.export import choose, derive
from autotune.search.measured import Measured
from autotune.search.results import FAILED, INACCURATE, OK, PRUNED

DENSE = "matmul N=4096 K=4096 bf16 nt"
SMOOTH, OTHER_SMOOTH, ROUGH = "upcast", "dequantize compute=native", "chunk rows=1"


def row(m, route, speedup=1.0, half=0.02, family=WIDE, **fields):
    """A row whose interval is ``speedup`` ± ``half``; ``low`` and ``high`` may be given instead."""
    bounds = {"speedup": speedup, "low": round(speedup - half, 9), "high": round(speedup + half, 9), "rounds": 8}
    return replace(timed(family, m, route, 50, 100), **{**bounds, **fields})


def stock(m, half=0.01, **fields):
    return row(m, STOCK, 1.0, half, **fields)


def routes(rows, **options):
    """(first M, last M, route) of the derived table's only family."""
    derived = derive(rows, **options)
    (family,) = derived.families
    return [(each.first, each.last, str(each.route)) for each in derived.rows(family)]


def one(*rows, **options):
    """The route that the rows give for M=3."""
    ((first, last, route),) = routes([stock(3), *rows], **options)
    assert first == last == 3
    return route


def some(seed, ms=(1, 2, 3, 4, 5, 6, 8, 12, 16, 32)):
    """Rows of a plausible sweep of two families: winners, ties, losers and refused routes."""
    rng = random.Random(seed)
    names = [PAD, REPEAT, SMOOTH, OTHER_SMOOTH, ROUGH]
    rows = []
    for family, own in ((WIDE, names), (DENSE, names[:3])):
        for m in ms:
            rows.append(stock(m, half=rng.uniform(0.001, 0.05), family=family))
            best = rng.choice([1.0, 1.5, 2.0])
            for route in own:
                if (route != ROUGH or 1 < m <= 8) and (not route.startswith("pad") or m % 8):
                    speedup = round(best * rng.choice([1.0, 0.98, 0.7]) * rng.uniform(1, 1.01), 9)
                    status = rng.choice([OK] * 6 + [PRUNED, INACCURATE, FAILED])
                    half = rng.uniform(0.001, 0.1)
                    rows.append(
                        row(m, route, speedup, half, family, status=status, date=f"2026-01-{rng.randint(10, 28)}")
                    )
    return rows


class TestEligibility:
    @pytest.mark.parametrize(("low", "route"), [(1.031, PAD), (1.03, STOCK), (1.029, STOCK), (0.9, STOCK)])
    def test_the_lower_bound_has_to_clear_the_margin(self, low, route):
        assert one(row(3, PAD, 1.5, low=low, high=2.0)) == route

    def test_the_margin_can_be_another(self):
        fast = row(3, PAD, 1.2, low=1.1, high=1.3)
        assert one(fast, margin=0.09) == PAD
        assert one(fast, margin=0.11) == STOCK

    @pytest.mark.parametrize(
        ("bounds", "floor"), [({"low": 0.99, "high": 1.1}, 1.1), ({"low": 0.8, "high": 1.01}, 1.25)]
    )
    def test_the_lower_bound_has_to_clear_the_noise(self, bounds, floor):
        for low, route in ((floor - 0.001, STOCK), (floor + 0.001, PAD)):
            noisy = stock(3, **bounds)
            assert routes([noisy, row(3, PAD, 2.0, low=low, high=3.0)]) == [(3, 3, route)]

    @pytest.mark.parametrize(("rounds", "route"), [(1, STOCK), (3, STOCK), (4, STOCK), (5, PAD)])
    def test_a_few_rounds_are_no_evidence(self, rounds, route):
        assert one(row(3, PAD, 2.0, rounds=rounds)) == route

    @pytest.mark.parametrize("status", [PRUNED, INACCURATE, FAILED])
    def test_what_was_refused_is_never_chosen(self, status):
        assert one(row(3, PAD, 9.0, status=status)) == STOCK
        assert one(row(3, PAD, 9.0, status=status), row(3, REPEAT, 1.5)) == REPEAT

    def test_the_noise_of_one_m_does_not_bind_another(self):
        rows = [stock(3, half=0.5), row(3, PAD, 1.4), stock(4), row(4, PAD, 1.4)]
        assert routes(rows) == [(3, 3, STOCK), (4, 4, PAD)]

    def test_a_problem_without_stock_is_left_out(self):
        rows = [row(2, PAD, 2.0), stock(3, status=FAILED), row(3, PAD, 2.0), stock(4), row(4, PAD, 2.0)]
        assert routes(rows) == [(4, 4, PAD)]

    def test_the_latest_of_two_rows_counts(self):
        assert one(row(3, PAD, 2.0), row(3, PAD, 1.0)) == STOCK


class TestTies:
    def test_without_anything_else_the_faster_one(self):
        assert one(row(3, PAD, 1.95, 0.1), row(3, REPEAT, 2.0, 0.1)) == REPEAT

    def test_the_incumbent_stays(self):
        rows = [row(3, PAD, 1.95, 0.1), row(3, REPEAT, 2.0, 0.1)]
        before = derive([stock(3), row(3, PAD, 2.0)])
        assert one(*rows, incumbent=before) == PAD

    def test_an_incumbent_that_is_slower_for_certain_goes(self):
        before = derive([stock(3), row(3, PAD, 2.0)])
        assert one(row(3, PAD, 1.7, 0.1), row(3, REPEAT, 2.0, 0.1), incumbent=before) == REPEAT

    def test_an_incumbent_goes_only_where_the_intervals_are_apart(self):
        """By a hundredth: rounds of two sessions share the luck of these."""
        before = derive([stock(3), row(3, PAD, 2.0)])
        assert (
            one(row(3, PAD, 1.95, low=1.93, high=1.97), row(3, REPEAT, 2.0, low=1.98, high=2.02), incumbent=before)
            == PAD
        )
        assert (
            one(row(3, PAD, 1.93, low=1.91, high=1.95), row(3, REPEAT, 2.0, low=1.98, high=2.02), incumbent=before)
            == REPEAT
        )

    def test_a_tie_goes_to_what_ties_at_the_most_problems_of_the_class(self):
        other = WIDE.replace("13824", "6912")
        tied = [stock(3), row(3, PAD, 2.0, 0.1), row(3, REPEAT, 2.02, 0.1)]
        assert routes(tied) == [(3, 3, REPEAT)]
        rows = [*tied, stock(3, family=other), row(3, PAD, 1.5, family=other)]
        assert [str(each.route) for each in derive(rows).rows(WIDE)] == [PAD]

    def test_an_incumbent_keeps_its_own_evidence(self):
        rows = [stock(3), row(3, PAD, 1.95, 0.1), row(3, REPEAT, 2.0, 0.1)]
        (found,) = derive(rows, derive([stock(3), row(3, PAD, 2.0)])).rows(WIDE)
        assert (str(found.route), found.speedup, found.low) == (PAD, 1.95, 1.85)

    def test_an_incumbent_holds_no_farther_than_its_interval(self):
        before = derive([each for m in (3, 4) for each in (stock(m), row(m, PAD, 2.0))])
        rows = [each for m in (2, 5) for each in (stock(m), row(m, PAD, 1.95, 0.1), row(m, REPEAT, 2.0, 0.1))]
        assert routes(rows, incumbent=before) == [(2, 2, REPEAT), (5, 5, REPEAT)]

    def test_a_wide_interval_alone_is_no_tie(self):
        before = derive([stock(3), row(3, PAD, 2.0)])
        for speedup, kept in ((1.91, PAD), (1.89, REPEAT)):
            assert one(row(3, PAD, speedup, 0.5), row(3, REPEAT, 2.0, 0.1), incumbent=before) == kept

    def test_an_incumbent_that_no_longer_gains_goes(self):
        before = derive([stock(3), row(3, PAD, 2.0)])
        assert one(row(3, PAD, 1.0), incumbent=before) == STOCK
        assert one(row(3, PAD, 9.0, status=INACCURATE), row(3, REPEAT, 1.5), incumbent=before) == REPEAT

    def test_stock_as_incumbent_does_not_keep_a_gain_away(self):
        before = derive([stock(3), row(3, PAD, 1.0)])
        assert one(row(3, PAD, 2.0), incumbent=before) == PAD

    def test_an_incumbent_holds_between_the_m_it_was_measured_at(self):
        before = derive([stock(8), row(8, SMOOTH, 2.0), stock(16), row(16, SMOOTH, 2.0)])
        rows = [stock(12), row(12, SMOOTH, 1.95, 0.1), row(12, PAD, 2.0, 0.1)]
        assert routes(rows, incumbent=before) == [(12, 12, SMOOTH)]

    def test_the_incumbent_of_another_family_says_nothing(self):
        before = derive([stock(3, family=DENSE), row(3, PAD, 2.0, family=DENSE)])
        assert one(row(3, PAD, 1.95, 0.1), row(3, REPEAT, 2.0, 0.1), incumbent=before) == REPEAT

    def test_fewest_changes_then(self):
        rows = [
            *(stock(m) for m in (3, 4, 5)),
            row(3, PAD, 2.0, 0.1), row(3, REPEAT, 1.95, 0.1),
            row(4, REPEAT, 2.0),
            row(5, PAD, 2.0, 0.1), row(5, REPEAT, 1.95, 0.1),
        ]  # fmt: skip
        assert routes(rows) == [(3, 5, REPEAT)]

    def test_then_the_larger_gain_over_all(self):
        rows = [
            *(stock(m) for m in (3, 4)),
            row(3, PAD, 2.0, 0.2), row(3, REPEAT, 1.95, 0.2),
            row(4, PAD, 1.93, 0.2), row(4, REPEAT, 2.0, 0.2),
        ]  # fmt: skip
        assert routes(rows) == [(3, 4, REPEAT)]

    def test_changes_do_not_matter_where_the_evidence_is_clear(self):
        rows = [stock(3), row(3, PAD, 2.0), stock(4), row(4, REPEAT, 2.0), row(4, PAD, 1.5), stock(5), row(5, PAD, 2.0)]
        assert routes(rows) == [(3, 3, PAD), (4, 4, REPEAT), (5, 5, PAD)]

    def test_the_incumbent_comes_before_fewer_changes(self):
        before = derive([stock(4), row(4, REPEAT, 2.0)])
        rows = [
            *(stock(m) for m in (3, 4, 5)),
            row(3, PAD, 2.0),
            row(4, PAD, 2.0, 0.1), row(4, REPEAT, 1.95, 0.1),
            row(5, PAD, 2.0),
        ]  # fmt: skip
        assert routes(rows) == [(3, 5, PAD)]
        assert routes(rows, incumbent=before) == [(3, 3, PAD), (4, 4, REPEAT), (5, 5, PAD)]

    def test_equal_to_the_last_digit(self):
        rows = [row(3, PAD, 2.0), row(3, REPEAT, 2.0)]
        assert one(*rows) == one(*reversed(rows))

    def test_equal_to_the_last_digit_at_every_m(self):
        rows = [each for m in (3, 4, 5) for each in (stock(m), row(m, PAD, 2.0), row(m, REPEAT, 2.0))]
        ((first, last, _),) = routes(rows)
        assert (first, last) == (3, 5)


class TestChoose:
    @pytest.mark.parametrize("seed", range(20))
    def test_is_the_best_of_all_choices(self, seed):
        rng = random.Random(seed)
        names = [Route.parse(text) for text in (PAD, REPEAT, SMOOTH, ROUGH)]
        measured, ties = [], []
        for m in range(1, 6):
            among = rng.sample(names, rng.randint(1, 4))
            rows = {route: row(m, str(route), rng.uniform(1.1, 3.0)) for route in among}
            measured.append(Measured(Problem.parse(rows[among[0]].problem), rows))
            ties.append(among)

        def cost(path):
            changes = sum(a != b for a, b in itertools.pairwise(path))
            return changes, -sum(math.log(each.rows[route].speedup) for each, route in zip(measured, path))

        assert cost(choose(ties, measured)) == pytest.approx(min(cost(path) for path in itertools.product(*ties)))

    def test_nothing_to_choose(self):
        assert choose([], []) == []


class TestIntervals:
    def test_one_m_after_another_join(self):
        rows = [each for m in (3, 4, 5) for each in (stock(m), row(m, PAD, 2.0))]
        assert routes([*rows, stock(6), stock(7)]) == [(3, 5, PAD), (6, 7, STOCK)]

    @pytest.mark.parametrize(("after", "joined"), [(9, True), (16, True), (17, False), (64, False)])
    def test_a_smooth_kernel_reaches_over_a_small_gap(self, after, joined):
        rows = [stock(8), row(8, SMOOTH, 2.0), stock(after), row(after, SMOOTH, 2.0)]
        assert routes(rows) == ([(8, after, SMOOTH)] if joined else [(8, 8, SMOOTH), (after, after, SMOOTH)])

    @pytest.mark.parametrize("route", [PAD, ROUGH])
    def test_one_that_is_not_smooth_never_does(self, route):
        rows = [stock(3), row(3, route, 2.0), stock(5), row(5, route, 2.0)]
        assert routes(rows) == [(3, 3, route), (5, 5, route)]

    def test_nor_does_stock(self):
        assert routes([stock(3), stock(5), stock(6)]) == [(3, 3, STOCK), (5, 6, STOCK)]

    def test_another_winner_between_parts_an_interval(self):
        rows = [stock(8), row(8, SMOOTH, 2.0), stock(9), row(9, PAD, 2.0), stock(10), row(10, SMOOTH, 2.0)]
        assert routes(rows) == [(8, 8, SMOOTH), (9, 9, PAD), (10, 10, SMOOTH)]

    def test_of_m_that_were_not_measured_only_smooth_routes_are_used(self):
        for seed in range(20):
            rows = some(seed)
            derived = derive(rows)
            for family, found in derived:
                measured = {
                    Problem.parse(each.problem).m for each in rows if each.problem.startswith(family.split()[0])
                }
                covered = [m for each in found for m in range(each.first, each.last + 1)]
                assert set(covered) >= measured
                assert len(covered) == len(set(covered))
                for each in found:
                    assert each.at in measured
                    assert (
                        each.route.kernel in (SMOOTH, "dequantize") or set(range(each.first, each.last + 1)) <= measured
                    )

    def test_the_evidence_is_that_of_the_weakest_m(self):
        rows = [
            stock(3), row(3, PAD, 2.0, 0.1, date="2026-01-03", error=3e-4),
            stock(4), row(4, PAD, 1.5, 0.1, date="2026-01-01", error=4e-4, rounds=5),
            stock(5), row(5, PAD, 1.8, 0.1, date="2026-01-02"),
        ]  # fmt: skip
        (found,) = derive(rows).rows(WIDE)
        assert (found.first, found.last, found.at) == (3, 5, 4)
        assert (found.speedup, found.low, found.high, found.samples, found.error) == (1.5, 1.4, 1.6, 5, 4e-4)
        assert found.date == "2026-01-03"

    def test_of_stock_the_strongest_rival(self):
        rows = [
            stock(3), row(3, PAD, 1.01, 0.1), row(3, REPEAT, 0.9, 0.1),
            stock(4, error=5e-4, date="2026-02-01"), row(4, PAD, 1.02, 0.2), row(4, REPEAT, 1.1, 0.1, rounds=6),
            row(4, SMOOTH, 3.0, 0.1, status=INACCURATE),
        ]  # fmt: skip
        (found,) = derive(rows).rows(WIDE)
        assert (found.first, found.last, str(found.route), found.at) == (3, 4, STOCK, 4)
        assert (found.speedup, found.low, found.high, found.samples) == (1.1, 1.0, 1.2, 6)
        assert (found.error, found.date, found.kernel) == (5e-4, "2026-02-01", "kernel of stock")

    def test_of_stock_without_a_rival_its_own(self):
        (found,) = derive([stock(3, half=0.02)]).rows(WIDE)
        assert (found.speedup, found.low, found.high) == (1.0, 0.98, 1.02)


class TestDeterminism:
    @pytest.mark.parametrize("seed", range(8))
    def test_the_order_of_rows_does_not_matter(self, seed):
        rows = some(seed)
        text = table.dumps(derive(rows))
        for again in range(3):
            random.Random(again).shuffle(rows)
            assert table.dumps(derive(rows)) == text

    def test_nor_where_rivals_are_equal(self):
        rows = [stock(3), row(3, PAD, 1.01, 0.1, rounds=5), row(3, REPEAT, 1.01, 0.2, rounds=8)]
        assert table.dumps(derive(rows)) == table.dumps(derive(rows[::-1]))

    @pytest.mark.parametrize("seed", range(8))
    def test_an_export_is_its_own_fixed_point(self, seed):
        rows = some(seed)
        first = derive(rows)
        assert table.dumps(derive(rows, incumbent=first)) == table.dumps(first)

    def test_also_after_another_incumbent(self):
        changed = 0
        for seed in range(8):
            rows = some(seed)
            second = derive(rows, incumbent=derive(some(seed + 100)))
            assert table.dumps(derive(rows, incumbent=second)) == table.dumps(second)
            changed += table.dumps(second) != table.dumps(derive(rows))
        assert changed

    def test_a_derived_table_can_be_read(self, tmp_path):
        for seed in range(8):
            derived = derive(some(seed))
            table.save(derived, tmp_path / "x.json")
            loaded = table.load(tmp_path / "x.json")
            assert dict(loaded) == dict(derived)
            assert table.dumps(loaded) == table.dumps(derived)


class TestHeader:
    def test_says_whose_numbers(self):
        derived = derive([stock(3, half=0.02), stock(4, half=0.04)], workloads=("small-batch", "quick"), margin=0.05)
        head = derived.header
        assert (head.chip.id, head.chip.device_name, head.chip.cores) == ("h100", "NVIDIA H100 80GB HBM3", 132)
        assert (head.source, head.load, head.margin, head.workloads) == (
            "measured",
            "chained",
            0.05,
            ("quick", "small-batch"),
        )
        # 1/0.98 - 1 and 1/0.96 - 1: the median of their farther bounds
        assert head.noise == 0.031

    def test_the_version_is_the_newest_of_the_rows(self):
        rows = [stock(3, autotune="0.9.0"), stock(4, autotune="0.10.0"), stock(5, autotune="0.2.0")]
        assert derive(rows).header.autotune == "0.10.0"

    def test_families_are_in_order(self):
        rows = [stock(3), stock(3, family=DENSE), stock(3, family="matmul N=512 K=4096 bf16 nt")]
        assert list(derive(rows).families) == ["matmul N=512 K=4096 bf16 nt", DENSE, WIDE]


class TestRefused:
    def test_no_rows(self):
        with pytest.raises(AutotuneError, match="no results to export: run: autotune sweep"):
            derive([])

    @pytest.mark.parametrize(
        "other",
        [{"chip": "h200"}, {"cores": 114}, {"device_name": "NVIDIA H100 PCIe"}, {"nax": True}, {"load": "queued"}],
    )
    def test_rows_of_two_machines_or_loads(self, other):
        with pytest.raises(AutotuneError, match="two machines or loads"):
            derive([stock(3), stock(4, **other)])

    def test_measured_and_simulated_rows(self):
        with pytest.raises(AutotuneError, match="measured and simulated"):
            derive([stock(3), stock(4, source="simulated")])

    def test_another_os_or_mlx_is_the_same_machine(self):
        rows = [stock(3), row(3, PAD, 2.0, mlx="0.31.0", os="Linux 6.1"), stock(4), row(4, REPEAT, 2.0, mlx="0.32.4")]
        found = derive(rows).rows(WIDE)
        assert [(each.mlx, each.os) for each in found] == [("0.31.0", "Linux 6.1"), ("0.32.4", "Linux 6.8.0")]


def test_the_bounds_of_the_rule():
    assert (measured.MARGIN, measured.NEARLY, measured.LEAST_ROUNDS, between.GAP) == (0.03, 0.05, 5, 2.0)


class TestHost:
    """Stock takes 100 us in these rows: a speedup of 1.25 saves 20."""

    @pytest.mark.parametrize(("costs", "route"), [(0.0, PAD), (19.9, PAD), (20.1, STOCK)])
    def test_a_route_has_to_save_more_than_its_call_costs(self, costs, route):
        assert one(row(3, PAD, 1.25, host_us=costs)) == route

    def test_the_next_one_comes_up(self):
        assert one(row(3, PAD, 1.25, host_us=50.0), row(3, REPEAT, 1.2, host_us=1.0)) == REPEAT

    def test_a_table_for_programs_that_wait_for_the_gpu_has_it_all_the_same(self):
        rows = [stock(3), row(3, PAD, 1.25, host_us=50.0)]
        derived = derive(rows, gpu_bound=True)
        assert derived.header.gpu_bound
        assert routes(rows, gpu_bound=True) == [(3, 3, PAD)]
        assert not derive(rows).header.gpu_bound


def test_a_problem_has_the_rows_of_one_clock():
    """That of its newest stock row: the other's times have other things in them."""
    plain = [stock(3, date="2026-01-10"), row(3, PAD, 1.5, date="2026-01-10")]
    gated = [stock(3, date="2026-01-11", clock="gated"), row(3, REPEAT, 1.0, date="2026-01-11", clock="gated")]
    assert [(each.route, each.clock) for each in export.newest(plain + gated)] == [
        (STOCK, "gated"),
        (REPEAT, "gated"),
    ]
    assert export.newest(plain) == plain
    same_day = [replace(each, date="2026-01-10") for each in gated]
    assert export.newest(plain + same_day) == same_day


def test_the_newest_mlx_is_that_by_its_numbers():
    """Stock was measured with two of them on one day: 0.32.10 is newer than 0.32.9."""
    old = [stock(3, mlx="0.32.9"), row(3, PAD, 2.0, mlx="0.32.9")]
    new = [stock(3, mlx="0.32.10"), row(3, PAD, 1.5, mlx="0.32.10")]
    for rows in (old + new, new + old):
        assert {each.mlx for each in export.newest(rows)} == {"0.32.10"}
