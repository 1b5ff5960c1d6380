"""One problem of a sweep: which routes get how many rounds, and what a call costs the program."""

import math
import random
from collections import Counter
from dataclasses import replace

import pytest
from fakes import FakeDevice, FakeSession

from autotune.kernels import STOCK, Route
from autotune.problem import Problem
from autotune.search import tuner
from autotune.search.measure import EFFORTS
from autotune.search.results import FAILED, OK, PRUNED
from search.lab import CHUNK, NEXT, ORIGIN, PAD, PROBLEM, QUICK, REPEAT, ROUTES, UPCAST, planted


class TestRounds:
    def test_finalists_get_more_rounds(self, lab):
        _, device = lab.sweep(planted(**{PAD: 4e-4, REPEAT: 4.001e-4, UPCAST: 8e-4}), noise=0.002)
        assert len(device.opened) == 2
        rounds = {route: row.rounds for route, row in lab.rows().items()}
        assert rounds[PAD] == rounds[REPEAT] == rounds["stock"] == QUICK.final
        assert rounds[UPCAST] <= QUICK.screen
        assert {row.status for row in lab.rows().values()} <= {OK, PRUNED}

    @pytest.mark.parametrize("effort", ["quick", "standard"])
    def test_luck_of_sessions_is_no_gain(self, lab, effort):
        """Every route is as fast as stock, and by chance 2 % faster or slower in all rounds of a session."""
        rng, drawn = random.Random(3), {}

        def seconds(problem, route):
            session = len(device.opened)
            return 1e-3 * math.exp(0.0 if route == STOCK else drawn.setdefault((session, route), rng.gauss(0, 0.02)))

        device = FakeDevice(seconds, noise=0.01)
        text = "quantized_matmul M={} N=512 K=4096 f16 affine-b4-g64 nt"
        lab.sweep(device=device, problems=[Problem.parse(text.format(m)) for m in range(2, 16)], effort=EFFORTS[effort])
        routes = {str(row.route) for family in lab.table().families for row in lab.table().rows(family)}
        assert routes == {"stock"}

    def test_what_made_a_finalist_does_not_count_in_its_number(self, lab, monkeypatch):
        """A route that was twice as fast while it was screened, and no faster in the play-off."""
        settle, settled = tuner.Meter.settle, []

        def play(meter, comparison, rounds=0):
            settled.append(str(comparison.route))
            settle(meter, comparison, rounds)

        monkeypatch.setattr(tuner.Meter, "settle", play)
        lucky = lambda problem, route: 5e-4 if str(route) == PAD and PAD not in settled else 1e-3  # noqa: E731
        lab.sweep(device=FakeDevice(lucky))
        assert (lab.rows()[PAD].rounds, lab.rows()[PAD].speedup) == (QUICK.final, pytest.approx(1.0))

    def test_a_gain_has_to_hold_for_other_inputs_too(self, lab):
        """Rounds of one session share its luck: a route that is lucky in the first one alone is no winner."""

        def seconds(problem, route):
            lucky = str(route) == PAD and len(device.opened) == 1
            return 5e-4 if lucky else 8e-4 if str(route) == UPCAST else 1e-3

        device = FakeDevice(seconds, noise=0.005)
        lab.sweep(device=device)
        assert lab.rows()[PAD].low < 1.03
        # The one that comes up behind it is played in turn.
        assert [str(row.route) for row in lab.table().rows(str(PROBLEM.family))] == [UPCAST]

    def test_slow_routes_cost_little(self, lab):
        seconds = planted(**{PAD: 2e-4, **{str(route): 9e-3 for route in ROUTES if route.kernel == "chunk"}})
        lab.sweep(seconds)
        assert lab.rows()[CHUNK].status == PRUNED
        assert lab.rows()[CHUNK].rounds == 1

    def test_what_a_fast_incumbent_makes_hopeless_gets_no_round(self, lab):
        lab.sweep(planted(**{PAD: 2e-4}), problems=(PROBLEM, NEXT))
        others = {route: row for route, row in lab.rows(NEXT).items() if route not in ("stock", PAD)}
        assert {(row.status, row.rounds) for row in others.values()} == {(PRUNED, 1)}


class TestHost:
    """What a call costs the program, beside what it costs the device."""

    GPU = replace(ORIGIN, backend="metal")

    def swept(self, lab, origin, **host):
        lab.origin = origin
        device = FakeDevice(planted(**{PAD: 4e-4}))
        device.host = host
        lab.sweep(device=device)
        return lab.rows()

    def test_is_measured_against_stocks_for_those_of_the_play_off(self, lab):
        rows = self.swept(lab, self.GPU, stock=2e-6, pad=9e-6)
        assert rows[PAD].host_us == pytest.approx(7.0)
        assert rows["stock"].host_us == 0

    def test_less_than_stocks_is_nothing(self, lab):
        assert self.swept(lab, self.GPU, stock=9e-6, pad=2e-6)[PAD].host_us == 0

    def test_decides_what_the_table_has(self, lab):
        self.swept(lab, self.GPU, stock=0.0, pad=1.0)
        assert {row["route"] for rows in lab.table().families.values() for row in rows} == {"stock"}

    def test_is_no_question_on_a_cpu(self, lab):
        rows = self.swept(lab, replace(ORIGIN, backend="cpu"), stock=0.0, pad=1.0)
        assert rows[PAD].host_us == 0

    def test_large_results_are_few_at_once(self, lab, monkeypatch):
        monkeypatch.setattr(tuner, "HOST_BYTES", 3 * 4 * PROBLEM.n * (PROBLEM.m + PROBLEM.k))
        lab.origin = self.GPU
        device, asked = FakeDevice(planted(**{PAD: 4e-4})), []
        monkeypatch.setattr(FakeSession, "host", lambda self, route, calls: asked.append(calls) or 0.0)
        lab.sweep(device=device)
        assert set(asked) == {3}

    @pytest.mark.parametrize(("seconds", "takes"), [(0.0, 3), (1e9, 7)])
    def test_is_taken_as_often_as_its_time_allows_and_no_less_than_it_takes(self, seconds, takes, lab, monkeypatch):
        for name, value in {"HOST_TAKES": 3, "HOST_MOST": 7, "HOST_SECONDS": seconds}.items():
            monkeypatch.setattr(tuner, name, value)
        lab.origin = self.GPU
        device, asked = FakeDevice(planted(**{PAD: 4e-4})), []
        monkeypatch.setattr(FakeSession, "host", lambda self, route, calls: asked.append(route) or 0.0)
        lab.sweep(device=device)
        assert Counter(asked)[Route.parse(PAD)] == takes

    def test_a_route_that_fails_there_is_refused(self, lab):
        lab.origin = self.GPU
        device = FakeDevice(planted(**{PAD: 4e-4}), failures={PAD: "crashed"}, fail_in=("host",))
        lab.sweep(device=device)
        assert lab.rows()[PAD].status == FAILED
