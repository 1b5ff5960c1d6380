"""What rows say of themselves."""

import math

import pytest

from autotune import kernels
from autotune.kernels import Route
from autotune.search import space
from autotune.search.ledger import Ledger
from autotune.search.measure import Comparison
from autotune.search.results import FAILED, OK
from search.lab import NEXT, ORIGIN, PAD, PROBLEM

LEDGER = Ledger(ORIGIN, 7, lambda: "2026-01-31")
ROUTE = Route.parse(PAD)


def seen():
    return Comparison(ROUTE, 1, 1, 2e-6, [4e-6, 4e-6], [2e-6, 2e-6], [math.log(2)] * 2, 0.25)


def test_inputs_differ_from_problem_to_problem_and_from_seed_to_seed():
    others = {LEDGER.seed_of(PROBLEM), LEDGER.seed_of(NEXT), Ledger(ORIGIN, 8, str).seed_of(PROBLEM)}
    assert len(others) == 3
    assert LEDGER.seed_of(PROBLEM) == Ledger(ORIGIN, 7, str).seed_of(PROBLEM)
    assert all(0 <= each < 2**31 for each in others)


@pytest.mark.parametrize("row", [
    LEDGER.timed(PROBLEM, seen(), OK, error=0.1, stock_error=0.2),
    LEDGER.untimed(PROBLEM, ROUTE, FAILED, "crashed"),
])  # fmt: skip
def test_a_row_says_with_what_when_and_from_which_inputs(row):
    pad = kernels.kernel("pad")
    assert (row.kernel, row.space) == (kernels.fingerprint.of(pad), space.fingerprint(pad))
    assert (row.origin, row.date, row.seed) == (ORIGIN, "2026-01-31", LEDGER.seed_of(PROBLEM))
    assert (row.problem, row.route) == (str(PROBLEM), PAD)


def test_what_was_seen_of_a_route_is_in_its_row():
    row = LEDGER.timed(PROBLEM, seen(), OK, error=0.1, stock_error=0.2, host_us=3.0)
    assert (row.stock_us, row.time_us, row.speedup, row.rounds, row.between) == (4.0, 2.0, 2.0, 2, 0.25)
    assert (row.error, row.stock_error, row.host_us) == (0.1, 0.2, 3.0)


def test_a_route_that_did_not_run_has_no_error_unless_it_is_told():
    assert LEDGER.untimed(PROBLEM, ROUTE, FAILED, "crashed").error == 0
    assert LEDGER.untimed(PROBLEM, ROUTE, FAILED, "crashed", error=0.5).error == 0.5
