"""What a bench times and holds against each other, on a fake device."""

from __future__ import annotations

import math

import pytest
from fakes import FakeDevice, FakeSession

from autotune.devices.base import Accuracy
from autotune.errors import UsageError
from autotune.kernels import STOCK, Route
from autotune.problem import Problem
from autotune.search import bench
from autotune.search.bench import OWN_NOISE, UNCOMPARABLE, Bench
from autotune.search.measure import EFFORTS
from autotune.search.workloads import Chain, Workload

PAD = Route.parse("pad multiple=8 fill=zeros")
PROBLEM = Problem.parse("matmul M=1 N=64 K=64 f16 nt")
ADD = Problem.parse("addmm M=1 N=64 K=64 f16 nt row")
QUICK = EFFORTS["quick"]


class Stand:
    """Benches of chains of one product, with M from 1 up, on a fake device."""

    def __init__(self, count, routed, apart=0.0, restless=(), stray=0.0):
        self.chains = [Chain(str(m), (PROBLEM.with_m(m),)) for m in range(1, count + 1)]
        self.jolt = lambda: 1 + 0.1 * (len(self.device.timed) % 7 == 0)
        self.device = FakeDevice(
            lambda problem, route: (1e-3 if route == STOCK else 5e-4) * (self.jolt() if problem.m in restless else 1),
            accuracy={"routed": Accuracy(apart, apart, apart, stray)},
        )
        self.told = []
        self.lines, self.noise = bench.measure(
            self.chains,
            lambda product: PAD if product.m in routed else STOCK,
            lambda chain: FakeSession(self.device, chain.products[0]),
            QUICK,
            self.told.append,
        )
        self.bench = Bench("t", "fake", "0", "os", "2026-01-31", "chained", self.noise, tuple(self.lines))

    def rounds(self, m, route):
        """Evaluations of a route at an M but for its calibration, whose calls grow."""
        calls = [
            calls for problem, name, calls in self.device.timed if (problem, name) == (f"{PROBLEM.with_m(m)}", route)
        ]
        return calls.count(calls[-1]) if calls else 0

    def against_itself(self):
        """The M at which stock was timed against itself."""
        once = 4 * QUICK.final  # two evaluations a round are stock's, and as many of what it is compared with
        return [m for m in range(1, len(self.chains) + 1) if self.rounds(m, "stock") >= once]


def test_a_line_for_each_chain():
    stand = Stand(3, routed=(2,))
    assert [line.label for line in stand.lines] == ["1", "2", "3"]
    assert stand.told == stand.lines
    assert [line.routed for line in stand.lines] == [False, True, False]
    assert [line.route for line in stand.lines] == ["stock", str(PAD), "stock"]
    assert [line.speedup for line in stand.lines] == [1, 2, 1]
    assert (stand.lines[1].before_us, stand.lines[1].after_us) == (1000, 500)


@pytest.mark.parametrize(("apart", "wrong"), [(0.0, 0), (0.02, 0), (0.5, 2), (math.inf, 2), (math.nan, 2)])
def test_results_of_routed_chains_are_held_against_stocks(apart, wrong):
    stand = Stand(3, routed=(1, 3), apart=apart)
    assert [name for _, name in stand.device.checked] == ["routed"] * 2
    assert stand.lines[1].apart == 0.0
    assert [line.label for line in stand.bench.wrong] == ["1", "3"][:wrong]
    assert stand.lines[0].apart == (apart if apart < UNCOMPARABLE else UNCOMPARABLE)


class TestNoise:
    @pytest.mark.parametrize(
        ("count", "routed", "against_itself"),
        [
            (8, range(1, 9), [1, 3, 5, 6, 8]),
            (8, range(1, 8), [1, 3, 5, 7, 8]),
            (8, range(1, 5), [3, 5, 6, 7, 8]),
            (8, range(1, 3), [3, 4, 5, 6, 7, 8]),
            (3, range(1, 4), [1, 2, 3]),
            (1, [1], [1]),
            (1, [], [1]),
        ],
        ids=["none left to stock", "one", "four", "six", "all of three", "one routed", "one left to stock"],
    )
    def test_is_taken_from_five_chains_spread_over_the_list(self, count, routed, against_itself):
        stand = Stand(count, routed)
        assert stand.against_itself() == against_itself
        assert stand.noise == 0

    @pytest.mark.parametrize("restless", [(1,), (1, 3)])
    def test_is_their_median(self, restless):
        """One chain that the machine was restless at says nothing of it, though the table leaves that one to stock."""
        stand = Stand(9, range(2, 10), restless=restless)
        assert stand.against_itself() == [1, 3, 5, 7, 9]
        assert stand.lines[0].high > 1.01
        assert stand.noise == 0

    def test_is_seen_where_the_machine_is_restless_throughout(self):
        assert Stand(9, range(2, 10), restless=range(1, 10)).noise > 0.01

    def test_costs_five_chains_at_most(self):
        assert len(Stand(40, range(1, 41)).against_itself()) == OWN_NOISE


class TestChains:
    PAIR = Chain("pair", (PROBLEM, PROBLEM))
    MIXED = Chain("mixed", (PROBLEM, ADD))

    def of(self, problems, ms=(), ops=()):
        workload = Workload("w", "", (), (self.PAIR, self.MIXED), {})
        return [chain.label for chain in bench.chains_of([workload], problems, ms, ops)]

    def test_what_no_chain_has_is_a_chain_of_its_own(self):
        other = PROBLEM.with_m(3)
        assert self.of([PROBLEM, ADD, other]) == ["pair", "mixed", str(other)]
        assert self.of([PROBLEM, ADD, other], ms=[3]) == [str(other)]

    def test_an_op_keeps_chains_of_it_alone(self):
        assert self.of([PROBLEM], ops=["matmul"]) == ["pair"]
        # What a chain has that is not kept is timed by itself.
        assert self.of([ADD], ops=["addmm"]) == [str(ADD)]
        assert self.of([PROBLEM, ADD], ops=["addmm", "matmul"]) == ["pair", "mixed"]

    def test_nothing_left(self):
        with pytest.raises(UsageError, match="no problem is left to measure"):
            self.of([PROBLEM], ops=["quantized_matmul"])


def test_one_wrong_element_is_wrong_however_small_a_part_of_all():
    stand = Stand(2, routed=(1,), apart=0.01, stray=1.1)
    assert [line.stray for line in stand.lines] == [1.1, 0.0]
    assert stand.bench.wrong == [stand.lines[0]]
    assert not Stand(2, routed=(1,), apart=0.01, stray=0.9).bench.wrong


def test_a_route_that_fails_is_told_from_one_that_ran():
    """It is replaced by stock at the check, and what is timed then says nothing of it."""
    asked = []

    def routes_of(product):
        asked.append(product.m)
        return PAD if asked.count(product.m) == 1 else STOCK

    chains = [Chain(str(m), (PROBLEM.with_m(m),)) for m in (1, 2)]
    device = FakeDevice(lambda problem, route: 1e-3)
    lines, _ = bench.measure(chains, routes_of, lambda chain: FakeSession(device, PROBLEM), QUICK, lambda line: None)
    assert [(line.failed, line.route) for line in lines] == [(True, str(PAD))] * 2
    done = Bench("t", "fake", "0", "os", "2026-01-31", "chained", 0.0, tuple(lines))
    assert done.failed == lines
