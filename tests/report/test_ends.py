"""Between two measured M: which ends count, what the route gains at least, why a faster one is not taken."""

from __future__ import annotations

import json

import pytest

from autotune.report import ends as report
from autotune.report.explain import by_problem
from autotune.search import between
from autotune.search.results import INACCURATE, PRUNED
from report.builders import STOCK, WIDE, header, problem, refused, row, timed

UPCAST, NATIVE, FOLD = "upcast", "dequantize compute=native", "fold_k parts=2 sum=native"
BETWEEN, WHOLE = row(9, 15, UPCAST, 2.0, at=16), row(8, 16, UPCAST, 2.0)


def stock(m, us=100.0, **fields):
    return timed(WIDE, m, STOCK, us, us, low=0.99, high=1.01, **fields)


def at(m, route, us, **fields):
    """A route of a play-off whose call costs the program 1 us; stock takes 100."""
    return timed(WIDE, m, route, us, 100, **{"host_us": 1.0, **fields})


ENDS = [stock(8), at(8, UPCAST, 40), stock(16), at(16, UPCAST, 50)]


def around(results, m=12, taken=BETWEEN):
    return report.around(by_problem(results, problem(WIDE, 1).family, "chained"), m, taken)


def why(*others, m=16, taken=BETWEEN, **of_header):
    found = report.faster(around([*ENDS, *others], taken=taken), m, header(**of_header))
    return found and found.why


def test_the_nearest_m_on_both_sides_are_the_ends():
    farther = [stock(4), at(4, UPCAST, 40), stock(32), at(32, UPCAST, 40), stock(11), at(11, NATIVE, 40)]
    found = around([*ENDS, *farther])
    assert [each.problem.m for each in found.both] == [8, 16]
    assert [each.time_us for each in found.rows] == [40, 50]
    assert (found.same, around(ENDS, taken=WHOLE).same) == (False, True)


@pytest.mark.parametrize(
    ("results", "m"),
    [
        (ENDS, 8),
        (ENDS, 20),
        (ENDS[:2], 12),
        (ENDS[:3], 12),
        ([*ENDS[:3], refused(WIDE, 16, UPCAST, INACCURATE, "wrong")], 12),
        ([*ENDS[:2], ENDS[3]], 12),
    ],
    ids=["measured", "beyond", "one end", "without the route", "refused", "without stock"],
)
def test_without_the_route_on_both_sides_there_are_none(results, m):
    assert around(results, m) is None


def test_the_least_gain_is_that_of_an_export():
    found = around(ENDS)
    assert found.least == between.least(found.before, found.after, found.route) == pytest.approx(2.0, rel=0.02)
    assert around([*ENDS[:3], at(16, UPCAST, 50, low=0.0, high=1e6, status=PRUNED)]).least is None


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ([], "not measured at M=8"),
        ([refused(WIDE, 8, NATIVE, INACCURATE, "wrong")], "inaccurate at M=8"),
        ([at(8, NATIVE, 200)], "slower than stock at M=8, 0.50x [0.50, 0.50]"),
        ([at(8, NATIVE, 99, low=0.8, high=1.2)], "no sure gain at M=8, 1.01x [0.80, 1.20]"),
        ([at(8, NATIVE, 90, host_us=30.0)], "saves the GPU less than it costs the CPU at M=8"),
        ([at(8, NATIVE, 60)], "its least gain between is 1.66x"),
        ([at(8, NATIVE, 30, mlx="0.1.0")], "measured with another kernel, space or MLX at M=8"),
        ([at(8, NATIVE, 40, between=2.0)], "no gain in both sessions at M=8"),
        ([at(8, NATIVE, 30)], report.UNKNOWN),
    ],
)
def test_why_a_faster_route_is_not_taken(others, said):
    assert why(at(16, NATIVE, 40), *others) == said


def test_what_is_as_good_as_the_route_taken_may_not_be():
    nearly = [at(8, NATIVE, 49), at(16, NATIVE, 49)]
    assert why(*nearly) == "its least gain between is 2.03x, no more than 5 % better"
    assert why(*nearly, taken=WHOLE) == "the route that both M have goes first"


def test_a_cost_that_is_not_known_is_a_reason_where_it_counts():
    screened = [at(m, NATIVE, 30, host_us=0.0, rounds=2) for m in (8, 16)]
    assert why(*screened) == "what it costs the CPU was not measured"
    assert why(*screened, gpu_bound=True) == report.UNKNOWN


def test_what_another_route_of_the_kernel_costs_stands_for_it():
    screened = [at(m, FOLD, 30, host_us=0.0, rounds=2) for m in (8, 16)]
    other = at(8, "fold_k parts=4 sum=native", 80, host_us=75.0)
    assert why(*screened, other) == "saves the GPU less than it costs the CPU at M=8"


def test_between_a_route_has_to_be_legal_and_of_a_smooth_kernel():
    fives, chunks = ([at(m, route, 20) for m in (8, 16)] for route in ("pad multiple=5 fill=zeros", "chunk rows=2"))
    assert why(*fives) == "not legal at every M between"
    assert why(*chunks) == "chunk may change abruptly from one M to the next"


def test_the_fastest_that_gains_more_is_named():
    slower, dropped = at(16, NATIVE, 60), at(16, FOLD, 30, status=PRUNED)
    assert why(slower, dropped) is None
    found = report.faster(around([*ENDS, at(8, NATIVE, 35), at(8, FOLD, 30)]), 8, header())
    assert (found.m, found.result.route, found.why) == (8, FOLD, "not measured at M=16")


def test_the_document_survives_json():
    ends = around([*ENDS, at(16, NATIVE, 40)])
    found = json.loads(json.dumps(report.document(ends, report.faster(ends, 16, header()))))
    assert [each["time_us"] for each in found["ends"]] == [40, 50]
    assert found["faster"] == {"at": 16, "route": NATIVE, "why": "not measured at M=8"}
    assert report.document(ends, None)["faster"] is None
