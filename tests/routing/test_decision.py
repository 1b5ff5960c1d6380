"""The rule of look-ups: a reason for each outcome, and what the layouts of a dense call have to agree on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from report.builders import DENSE, PAD, STOCK, WIDE, header, make, problem, row

from autotune.routing.decision import Decision, Reason, answer, decide, of_call, other_layout
from autotune.routing.neighbours import Bound

NN = DENSE.replace("nt", "nn")
ONE, OTHER = "chunk rows=2", "chunk rows=1"


def find(tables):
    return lambda asked: decide(answer(tables, asked.family), asked)


def one(family, m, *tables) -> Decision:
    return find(tables)(problem(family, m))


@pytest.mark.parametrize(
    ("m", "route", "reason"),
    [
        (1, STOCK, Reason.FOLLOWED),
        (3, PAD, Reason.FOLLOWED),
        (8, STOCK, Reason.ILLEGAL),
        (10, STOCK, Reason.UNCOVERED),
        (12, STOCK, Reason.STALE),
        (99, STOCK, Reason.UNCOVERED),
    ],
)
def test_a_rows_outcome_has_its_reason(m, route, reason):
    rows = [row(1, 2), row(3, 5, PAD), row(7, 9, PAD), row(11, 12, "upcast", kernel="old")]
    table = make({WIDE: rows})
    found = one(WIDE, m, table)
    assert (str(found.route), found.reason) == (route, reason)
    assert (found.table, found.tuned, found.followed) == (table, True, reason is Reason.FOLLOWED)
    covering = [each for each in rows if each.first <= m <= each.last]
    assert ([found.row] if found.row else []) == covering
    assert (found.grade is not None) == bool(covering)


def test_without_rows_there_are_two_reasons():
    torn = make({WIDE: [row(3, 7, "pad multiple=1 fill=zeros")]})
    assert one(WIDE, 3).reason is one(WIDE, 3, make({DENSE: [row(1, 8)]})).reason is Reason.UNTUNED
    found = one(WIDE, 3, torn)
    assert (found.reason, found.table, found.tuned, found.path) == (Reason.UNREADABLE, None, False, "")
    assert "outside its kernel's space" in found.fault
    assert one(WIDE, 3, torn, make({WIDE: [row(3, 7, PAD)]})).followed


def test_a_neighbours_route_may_write_no_larger_weights():
    bound = Bound(WIDE.replace("N=13824 K=5120 ", ""), 0.03, 2.0, 20, 40, 1, 0)
    rows = [row(3, 7, "dequantize compute=native")]
    table = make({WIDE.replace("13824", n): rows for n in ("4096", "10240", "20480")}, header(neighbours=(bound,)))
    smaller, larger = (one(WIDE.replace("13824", n), 3, table) for n in ("8192", "12288"))
    assert (smaller.reason, larger.reason) == (Reason.FOLLOWED, Reason.LARGER)
    assert (smaller.tuned, smaller.neighbour.family.n, larger.neighbour.family.n) == (False, 10240, 10240)


def called(asked, *tables) -> Decision:
    return of_call(find(tables), problem(asked, 4))


@pytest.mark.parametrize("asked", [DENSE, NN])
@pytest.mark.parametrize(
    ("nt", "nn", "route"),
    [
        (ONE, ONE, ONE),
        (ONE, None, ONE),
        (None, ONE, ONE),
        (ONE, OTHER, STOCK),
        (ONE, STOCK, STOCK),
        (STOCK, None, STOCK),
        (None, None, STOCK),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_a_dense_call_takes_what_its_layouts_agree_on(asked, nt, nn, route, apart):
    """In one table or in two."""
    families = {family: [row(3, 8, name)] for family, name in ((DENSE, nt), (NN, nn)) if name}
    tables = [make({family: rows}) for family, rows in families.items()] if apart else [make(families)]
    assert str(called(asked, *tables).route) == route
    assert called(asked, *tables).route == called(other(asked), *tables).route


def other(family):
    return str(other_layout(problem(family, 1)).family)


def test_where_layouts_differ_the_row_is_kept_as_evidence():
    table = make({DENSE: [row(3, 8, ONE)], NN: [row(3, 8, OTHER)]})
    found = called(DENSE, table)
    assert (found.reason, str(found.row.route), found.followed) == (Reason.LAYOUTS, ONE, False)
    taken = called(NN, make({DENSE: [row(3, 8, ONE)]}))
    assert (taken.problem, taken.followed) == (problem(DENSE, 4), True)


def test_neighbours_have_to_speak_for_both_layouts():
    def table(**by_layout):
        families = {
            f"matmul N={n} K=4096 bf16 {layout}": [row(3, 8, name)] for layout, name in by_layout.items()
            for n in (2048, 8192)
        }  # fmt: skip
        bound = Bound("", 0.03, 2.0, 20, 40, 1, 0)
        bounds = tuple(replace(bound, class_=f"matmul bf16 {layout}") for layout in ("nt", "nn"))
        return make(families, header(neighbours=bounds))

    assert str(called(DENSE, table(nt=ONE, nn=ONE)).route) == ONE
    assert called(DENSE, table(nt=ONE, nn=OTHER)).reason is Reason.LAYOUTS
    assert called(DENSE, table(nt=ONE)).reason is Reason.LAYOUTS


def test_no_call_is_looked_up_with_a_transposed_a():
    turned = DENSE.replace("nt", "tn")
    found = called(turned, make({turned: [row(3, 8, ONE)]}))
    assert (str(found.route), found.reason, str(found.row.route)) == (STOCK, Reason.TRANSPOSED, ONE)
