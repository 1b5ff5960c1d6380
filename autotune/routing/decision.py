"""What the tables hold for a problem, and why: the one rule that routed calls follow and that reports put in words.

Pure functions of tables that were read. The router keeps what :func:`answer` finds by family, so that a look-up is a
dictionary and a bisection.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Optional

from .. import kernels
from ..errors import TableError
from ..kernels import STOCK, Route
from ..problem import Family, Problem
from . import freshness
from .freshness import Grade
from .neighbours import Neighbour, speaks
from .table import Row, Table

CALLED = ("nt", "nn")
"""Layouts under which a dense call is looked up: both, since it cannot tell them apart."""


class Reason(Enum):
    """Why a problem has its route. All but ``FOLLOWED`` mean stock."""

    FOLLOWED = "the row that covers M"
    UNTUNED = "no table has the family, and no neighbour speaks for it"
    UNREADABLE = "the rows that would answer cannot be read"
    UNCOVERED = "no row covers M"
    STALE = "the row's evidence is stale"
    LARGER = "the neighbour's route writes the weights, which are larger here"
    ILLEGAL = "the row's route is not legal for this very problem"
    LAYOUTS = "the routes of the two layouts that a call cannot tell apart do not agree"
    TRANSPOSED = "calls are looked up under other layouts"


@dataclass(frozen=True)
class Decision:
    """The route of a problem and why.

    ``row`` is the row that covers M, also where it is not followed, with its ``grade``; ``table`` the one in which it
    stands, None where no table answers for the family; ``neighbour`` the tuned family whose rows speak for this one,
    None where the table has its own. ``fault`` says why rows cannot be read.
    """

    problem: Problem
    route: Route
    reason: Reason
    row: Optional[Row] = None
    grade: Optional[Grade] = None
    table: Optional[Table] = None
    neighbour: Optional[Neighbour] = None
    fault: str = ""

    @property
    def followed(self) -> bool:
        """Whether the row decides, be its route stock or another; else it is stock for want of one."""
        return self.reason is Reason.FOLLOWED

    @property
    def tuned(self) -> bool:
        """Whether a table has the problem's own family, with a route for this M or without."""
        return self.table is not None and self.neighbour is None

    @property
    def path(self) -> str:
        """The table's file, empty where none answers."""
        return self.table.path if self.table else ""


@dataclass(frozen=True)
class Answer:
    """What the tables have for a family: its rows or its neighbour's, graded, with the table that they stand in.

    ``faults`` are the errors of tables whose rows for it cannot be read, which are passed over.
    """

    starts: list[int]
    rows: tuple[Row, ...]
    grades: tuple[Grade, ...]
    table: Optional[Table] = None
    neighbour: Optional[Neighbour] = None
    faults: tuple[str, ...] = ()


def answer(tables: Sequence[Table], family: Family) -> Answer:
    """The family's own rows in the first table that has them, else its neighbour's in the first that allows one.

    A table with rows for the family decides alone, also where they are stale or do not cover an M.
    """
    faults: list[str] = []
    for table in tables:
        rows = _rows(table, family, faults)
        if rows:
            return _graded(rows, table, None, faults)
    for table in tables:
        neighbour = table.neighbour(family)
        rows = _rows(table, neighbour.family, faults) if neighbour else ()
        if rows:
            return _graded(rows, table, neighbour, faults)
    return Answer([], (), (), faults=tuple(faults))


def _rows(table: Table, family: Family, faults: list[str]) -> tuple[Row, ...]:
    try:
        return table.rows(str(family))
    except TableError as error:
        faults.append(str(error))
        return ()


def _graded(rows: tuple[Row, ...], table: Table, neighbour: Neighbour | None, faults: Sequence[str]) -> Answer:
    grades = tuple(map(freshness.grade, rows))
    return Answer([row.first for row in rows], rows, grades, table, neighbour, tuple(faults))


def decide(found: Answer, problem: Problem) -> Decision:
    """The route of a problem from what the tables have for its family: that of the row which covers its M, else stock.

    A route has to be legal for this very problem: the ends of an interval are checked when a table is read, and a
    neighbour's shape is another one.
    """
    at = bisect_right(found.starts, problem.m) - 1
    if at < 0 or found.rows[at].last < problem.m:
        reason = Reason.UNCOVERED if found.table else Reason.UNREADABLE if found.faults else Reason.UNTUNED
        fault = "; ".join(found.faults)
        return Decision(problem, STOCK, reason, table=found.table, neighbour=found.neighbour, fault=fault)
    row, grade, neighbour = found.rows[at], found.grades[at], found.neighbour
    reason = Reason.FOLLOWED
    if not grade.usable:
        reason = Reason.STALE
    elif neighbour and not speaks(row.route.kernel, problem.family, neighbour.family):
        reason = Reason.LARGER
    elif not kernels.accepts(row.route, problem):
        reason = Reason.ILLEGAL
    route = row.route if reason is Reason.FOLLOWED else STOCK
    return Decision(problem, route, reason, row, grade, found.table, neighbour)


def of_call(find: Callable[[Problem], Decision], problem: Problem) -> Decision:
    """What a routed call of the problem takes, where ``find`` decides on one layout; ``problem`` in the result is the
    one whose route that is.

    MLX does not tell Python an array's strides, so a dense call cannot say whether B is a transposed view. A dense
    route is used where the layouts that were tuned for its (K, N) agree. One that only a single layout was tuned for
    is used for both: it is right for both, and linear layers, which are most of what is tuned, are all of one layout.
    Where neither was tuned, both layouts need a neighbour, and the two have to agree: a neighbour speaks for many
    shapes, and what it gains was measured in its own layout alone. The layouts may stand in different tables.
    """
    own = find(problem)
    if problem.quantization is not None:
        return own
    if problem.layout not in CALLED:
        return replace(own, route=STOCK, reason=Reason.TRANSPOSED)
    both = (own, find(other_layout(problem)))
    tuned = [each for each in both if each.tuned]
    followed = [each for each in tuned or both if each.followed]
    if len({each.route for each in followed}) == 1 and (tuned or len(followed) == len(both)):
        return followed[0]
    return own if own.route == STOCK else replace(own, route=STOCK, reason=Reason.LAYOUTS)


def other_layout(problem: Problem) -> Problem:
    """The problem under the other one of the layouts that a call cannot tell apart."""
    return problem.with_layout("nn" if problem.layout == "nt" else "nt")
