import math
import random
from dataclasses import replace

import pytest
from report.builders import PAD, STOCK, WIDE, problem, timed

from autotune.kernels import Route
from autotune.routing import table
from autotune.search.export import derive
from autotune.search.measured import ENOUGH, Measured, luck
from autotune.search.results import FAILED


def measured(speedup=1.2, half=0.01, between=0.0):
    """A problem at which ``PAD`` is faster, by so much in the mean of two sessions."""
    row = replace(
        timed(WIDE, 3, PAD, 50, 100), speedup=speedup, low=speedup - half, high=speedup + half, between=between
    )
    quiet = replace(timed(WIDE, 3, STOCK, 100, 100), speedup=1.0, low=0.999, high=1.001)
    return Measured(problem(WIDE, 3), {Route(STOCK): quiet, Route.parse(PAD): row})


class TestLuck:
    """What one session differs from the next by."""

    def test_is_what_the_sessions_of_play_offs_were_apart(self):
        rng = random.Random(1)
        rows = [
            replace(timed(WIDE, 3, PAD, 50, 100), between=rng.gauss(0, 0.02) - rng.gauss(0, 0.02)) for _ in range(800)
        ]
        assert luck(rows) == pytest.approx(0.02, rel=0.1)

    def test_single_disturbed_routes_do_not_make_it(self):
        row = timed(WIDE, 3, PAD, 50, 100)
        rows = [replace(row, between=(-1) ** i * 0.01) for i in range(19)] + [replace(row, between=2.0)]
        assert luck(rows) == pytest.approx(1.4826 * 0.01 / math.sqrt(2))

    def test_is_not_told_from_few_or_from_what_failed(self):
        row = replace(timed(WIDE, 3, PAD, 50, 100), between=0.5)
        assert luck([row] * (ENOUGH - 1)) == 0
        assert luck([row] * (ENOUGH - 1) + [replace(row, status=FAILED)]) == 0
        assert luck([row] * (ENOUGH - 1) + [replace(row, between=0.0)]) == 0
        assert luck([row] * ENOUGH) > 0

    @pytest.mark.parametrize(("sessions", "eligible"), [(0.0, True), (0.08, True), (0.12, False)])
    def test_is_more_to_clear(self, sessions, eligible):
        """1.19 is the lower bound; the margin of 3 % times exp(1.96 * luck / sqrt(2)) has to lie below it."""
        assert bool(measured().eligible(0.03, luck=sessions)) == eligible
        assert measured().ties(0.03, luck=sessions) == [Route.parse(PAD) if eligible else Route(STOCK)]


def test_a_table_says_what_sessions_differed_by(tmp_path):
    rows = []
    for m in range(2, 2 + ENOUGH):
        quiet = replace(timed(WIDE, m, STOCK, 100, 100), speedup=1.0, low=0.999, high=1.001)
        rows += [quiet, replace(timed(WIDE, m, PAD, 50, 100), speedup=1.2, low=1.19, high=1.21, between=0.1)]
    derived = derive(rows)
    assert derived.header.sessions == pytest.approx(1.4826 * 0.1 / math.sqrt(2), rel=1e-2)
    assert {row.route for row in derived.rows(WIDE)} == {Route(STOCK)}
    table.save(derived, tmp_path / "t.json")
    assert table.load(tmp_path / "t.json").header == derived.header
    assert "sessions" not in derive([replace(row, between=0.0) for row in rows]).header.as_json()


@pytest.mark.parametrize(("between", "eligible"), [(0.0, True), (0.3, True), (0.31, False), (-0.31, False)])
def test_a_gain_has_to_hold_in_both_sessions(between, eligible):
    """1.2 in the mean: 1.2 * exp(-0.15) is 1.033 in the worse one, 1.2 * exp(-0.155) is 1.028."""
    assert bool(measured(between=between).eligible(0.03)) == eligible
