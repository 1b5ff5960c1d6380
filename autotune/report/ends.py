"""What an M between two measured ones rests on: its route at both of these, and why a faster one is not taken.

The rule is that of an export (:mod:`autotune.search.between`); here it is put in words, as far as results tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .. import kernels
from ..kernels import STOCK, Route
from ..problem import Problem
from ..routing.table import Header, Row
from ..search import between
from ..search.measured import NEARLY, Measured
from ..search.results import OK, PRUNED, Result
from . import tables

ByRoute = Mapping[str, Result]
"""What was measured of a problem, by the routes' texts."""
UNKNOWN = "these results do not say why"


@dataclass(frozen=True)
class Ends:
    """The measured M on both sides of one at which nothing was, and the route that is taken there; ``same`` where it is
    that of both ends too."""

    route: Route
    before: Measured
    after: Measured
    same: bool = False

    @property
    def both(self) -> tuple[Measured, Measured]:
        return self.before, self.after

    @property
    def rows(self) -> tuple[Result, Result]:
        """The route's own at both."""
        return self.before.rows[self.route], self.after.rows[self.route]

    @property
    def least(self) -> float | None:
        """The least that the route gains between them (:func:`autotune.search.between.least`)."""
        return self.gain(self.route)

    def gain(self, route: Route) -> float | None:
        """The least gain of a route that was timed at both; None where a single round has no bound."""
        if any(end.rows[route].low <= 0 for end in self.both):
            return None
        return between.least(self.before, self.after, route)

    def at(self, m: int) -> tuple[Measured, Measured]:
        """The end of that M, and the other one."""
        return (self.before, self.after) if m == self.before.problem.m else (self.after, self.before)


def around(alike: Mapping[Problem, ByRoute], m: int, row: Row) -> Ends | None:
    """The nearest M on both sides at which the route of the row that holds an M was timed, of what was measured of one
    family; None where it was timed at this very M, or not on both sides."""
    timed = {each.m: found for each, rows in alike.items() if (found := _timed(each, rows, row.route))}
    below, above = [each for each in timed if each < m], [each for each in timed if each > m]
    if m in timed or not below or not above:
        return None
    first, last = max(below), min(above)
    return Ends(row.route, timed[first], timed[last], row.first <= first and last <= row.last)


def _timed(problem: Problem, rows: ByRoute, route: Route) -> Measured | None:
    own, stock = rows.get(str(route)), rows.get(str(STOCK))
    if own is None or own.status not in (OK, PRUNED) or stock is None or stock.status != OK:
        return None
    return Measured(problem, {Route.parse(text): row for text, row in rows.items()})


@dataclass(frozen=True)
class Faster:
    """A route that is faster than the one taken at one of the ends, ``m``, and why it is not taken all the same."""

    m: int
    result: Result
    why: str


def faster(ends: Ends, m: int, header: Header) -> Faster | None:
    """The fastest at an end of those that were not dropped there and gain more than the route taken."""
    here, _ = ends.at(m)
    taken = here.rows[ends.route]
    rivals = {
        route: row
        for route, row in here.rows.items()
        if route not in (STOCK, ends.route) and row.status == OK and row.speedup > taken.speedup
    }
    if not rivals:
        return None
    route = min(rivals, key=lambda each: (rivals[each].time_us, str(each)))
    return Faster(m, rivals[route], _why(ends, m, route, header))


def _why(ends: Ends, m: int, route: Route, header: Header) -> str:
    here, there = ends.at(m)
    row, other = here.rows[route], there.rows.get(route)
    at_other = f"at M={there.problem.m}"
    if other is None:
        return f"not measured {at_other}"
    if other.status not in (OK, PRUNED):
        return f"{other.status} {at_other}"
    if not between.legal_between(ends.before, ends.after, route):
        return "not legal at every M between"
    if not kernels.kernel(route.kernel).smooth:
        return f"{route.kernel} may change abruptly from one M to the next"
    if not between.one_evidence(row, other):
        return f"measured with another kernel, space or MLX {at_other}"
    for end in (there, here):
        short = _short(ends, end, route, header)
        if short:
            return short
    return _no_better(ends, route, header)


def _short(ends: Ends, end: Measured, route: Route, header: Header) -> str:
    """What a route lacks to be used at an end, nothing where it lacks nothing there."""
    row, at = end.rows[route], f"at M={end.problem.m}"
    cost = 0.0 if header.gpu_bound else between.cost_of(row, route, between.costs(*ends.both))

    def clears(row: Result, gpu_bound: bool) -> bool:
        return end.clears(row, header.margin, cost or 0.0, gpu_bound, header.sessions)

    if row.high < 1:
        return f"slower than stock {at}, {tables.speedup(row.interval)}"
    if not clears(replace(row, between=0.0), gpu_bound=True):
        return f"no sure gain {at}, {tables.speedup(row.interval)}"
    if not clears(row, gpu_bound=True):
        return f"no gain in both sessions {at}"
    if cost is None:
        return "what it costs the CPU was not measured"
    if not clears(row, gpu_bound=header.gpu_bound):
        return f"saves the GPU less than it costs the CPU {at}"
    return ""


def _no_better(ends: Ends, route: Route, header: Header) -> str:
    """Why a route that might be used at both ends is not; an export takes that of both ends first of all, and one of
    those that are nearly as good as the best."""
    gain, own = ends.gain(route), ends.least
    if ends.same:
        return "the route that both M have goes first"
    if gain is None or own is None:
        return UNKNOWN
    least = f"its least gain between is {gain:.2f}x"
    if gain <= own:
        return least
    if (1 - NEARLY) * gain <= own:
        return f"{least}, no more than {tables.per_cent(NEARLY)} better"
    return UNKNOWN


def document(ends: Ends, rival: Faster | None) -> dict[str, Any]:
    """The ends as part of a JSON document."""
    return {
        "ends": [
            {
                "problem": row.problem,
                "stock_us": row.stock_us,
                "time_us": row.time_us,
                "speedup": [row.speedup, row.low, row.high],
                "rounds": row.rounds,
                "clock": row.clock,
            }
            for row in ends.rows
        ],
        "least": None if ends.least is None else round(ends.least, 4),
        "faster": {"at": rival.m, "route": rival.result.route, "why": rival.why} if rival else None,
    }
