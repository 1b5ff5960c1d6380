"""From results to a routing table: a pure function of the rows, so that the same results give the same bytes.

Which routes are eligible, and which of them tie, ``measured.py`` says. A tie is broken the same way every time: for the
route that the table already has, then for the one that makes the fewest changes along M, then for the one that ties at
the most problems of the class, then for the larger gain. Two sweeps of one machine then agree wherever it matters.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from statistics import median
from typing import Optional

from ..errors import AutotuneError
from ..kernels import STOCK, Route
from ..problem import Family
from ..routing.neighbours import class_of
from ..routing.table import Header, Row, Table, route_at
from . import between, generalize, results
from .measured import MARGIN, Measured, by_family, luck
from .results import Origin, Result

Path = tuple[int, int, float, tuple[Route, ...]]
"""A choice for the M so far: its changes, minus its votes, its loss (minus the sum of log speedups) and its routes."""
Across = Callable[..., Optional[Route]]
""":func:`between.route` under the rules of an export."""


def newest(rows: Iterable[Result]) -> list[Result]:
    """For each problem the rows that were measured with the MLX and by the clock of its newest stock row, the last of
    each route.

    Rows of an older MLX were compared with another stock, those of another clock with more or less besides the calls in
    both times; ``rows`` come oldest first.
    """
    how: dict[str, tuple[str, list[int], str, str]] = {}
    never: tuple[str, list[int], str, str] = ("", [], "", "")
    latest: dict[tuple[str, str, str, str], Result] = {}
    for row in rows:
        latest[row.problem, row.route, row.mlx, row.clock] = row
        if row.route == STOCK.kernel and row.status == results.OK:
            mine = (row.date, _numbers(row.mlx), row.mlx, row.clock)
            before = how.get(row.problem, never)
            how[row.problem] = mine if mine[:3] >= before[:3] else before
    return [row for (problem, _, *mlx), row in latest.items() if list(how.get(problem, never)[2:]) == mlx]


def current(rows: Sequence[Result]) -> list[Result]:
    """Of results of one origin, in any order, those that a table is derived from: the :func:`newest`, and the rows of
    problems whose stock failed, which say why. Raises :class:`AutotuneError` as :func:`one_origin` does."""
    one_origin(rows)
    found = newest(sorted(rows, key=attrgetter("date")))
    compared = {row.problem for row in found}
    return found + [row for row in rows if row.problem not in compared]


def one_origin(rows: Iterable[Result]) -> Origin | None:
    """Where the rows come from, None where there are none. Raises :class:`AutotuneError` for rows of two machines,
    loads or sources."""
    origin: Origin | None = None
    for row in rows:
        if origin is None:
            origin = row.origin
        elif row.source != origin.source:
            raise AutotuneError(
                f"the results are {origin.source} and {row.source} ones: no table has both", "keep them in two files"
            )
        elif _device(row) != _device(origin):
            raise AutotuneError(
                f"the results are of two machines or loads ({origin.chip}, {origin.load} and {row.chip}, {row.load})",
                "name one with --chip",
            )
    return origin


def derive(
    rows: Iterable[Result],
    incumbent: Table | None = None,
    workloads: Sequence[str] = (),
    margin: float = MARGIN,
    gpu_bound: bool = False,
) -> Table:
    """The table that the rows support. Raises :class:`AutotuneError` for no rows, or for rows of two machines, loads
    or sources."""
    rows = list(rows)
    origin = one_origin(rows)
    if origin is None:
        raise AutotuneError("there are no results to export", "run: autotune sweep")
    families = by_family(rows)
    sessions = float(f"{luck(rows):.3g}")
    routed = routes(families, incumbent, margin, gpu_bound, sessions)
    noises = [each.noise for family in families.values() for each in family]
    header = Header(
        origin.key,
        origin.source,
        max({row.autotune for row in rows}, key=lambda version: (_numbers(version), version)),
        origin.load,
        margin,
        float(f"{median(noises):.3g}") if noises else 0.0,
        tuple(sorted(workloads)),
        generalize.bounds(families, routed),
        gpu_bound,
        sessions,
    )
    return Table(header, {str(family): [row.as_json() for row in found] for family, found in routed.items()})


def routes(
    families: Mapping[Family, Sequence[Measured]],
    incumbent: Table | None = None,
    margin: float = MARGIN,
    gpu_bound: bool = False,
    luck: float = 0.0,
) -> dict[Family, list[Row]]:
    """The table's rows for each family."""
    ties = {}
    votes: dict[str, Counter[Route]] = defaultdict(Counter)
    held = {family: incumbent.rows(str(family)) if incumbent else () for family in families}
    for family, measured in families.items():
        ties[family] = [each.ties(margin, route_at(held[family], each.problem.m), gpu_bound, luck) for each in measured]
        votes[class_of(str(family))].update(route for each in ties[family] for route in each)
    across = partial(between.route, margin=margin, gpu_bound=gpu_bound, luck=luck)
    return {
        family: _rows(measured, choose(ties[family], measured, votes[class_of(str(family))]), across, held[family])
        for family, measured in families.items()
    }


def choose(
    ties: Sequence[Sequence[Route]], measured: Sequence[Measured], votes: Mapping[Route, int] | None = None
) -> list[Route]:
    """One route of each tie set, with the fewest changes from M to M, among those the most ``votes``, and among those
    the largest total gain.

    Dynamic programming from left to right; exact, and linear in the number of M.
    """
    if not ties:
        return []
    best: dict[Route, Path] = {}
    for number, routes in enumerate(ties):
        step: dict[Route, Path] = {}
        for route in routes:
            gain = math.log(measured[number].rows[route].speedup) if route != STOCK else 0.0
            for_it = (votes or {}).get(route, 0)
            if not best:
                step[route] = (0, -for_it, -gain, (route,))
                continue
            step[route] = _least(
                [
                    (changes + (last != route), against - for_it, loss - gain, (*path, route))
                    for last, (changes, against, loss, path) in best.items()
                ]
            )
        best = step
    return list(_least(list(best.values()))[3])


def _least(paths: list[Path]) -> Path:
    """Fewest changes, then most votes, then least loss, then by name: never by the order in which rows were read."""
    if len(paths) == 1:
        return paths[0]
    least = min(path[:3] for path in paths)
    equal = [path for path in paths if path[:3] == least]
    return equal[0] if len(equal) == 1 else min(equal, key=lambda path: [str(route) for route in path[3]])


def _rows(measured: Sequence[Measured], choice: Sequence[Route], across: Across, held: Sequence[Row]) -> list[Row]:
    """Intervals of M from the routes at measured M and those between them, each with the evidence of its weakest M.

    A route between two M makes one interval with these where both have it, or with the one that has it where that one
    is the weaker. Else it has an interval of its own: what was measured at an M is the evidence for that M.
    """
    stretches: list[_Stretch] = []
    for number, (each, route) in enumerate(zip(measured, choice)):
        m = each.problem.m
        if stretches:
            before, last, ends = measured[number - 1], stretches[-1], (choice[number - 1], route)
            gap = last.last + 1
            bridge = across(before, each, ends, held=route_at(held, gap)) if gap < m else route
            if ends[0] == route == bridge and between.one_evidence(before.rows[route], each.rows[route]):
                last.last = m
                last.evidence.append(each)
                continue
            if gap < m and bridge is not None:
                weaker, _ = _weakest(bridge, [before, each])
                if bridge == route and weaker is each:
                    stretches.append(_Stretch(gap, m, route, [each]))
                    continue
                if bridge == ends[0] and weaker is before:
                    last.last = m - 1
                else:
                    stretches.append(_Stretch(gap, m - 1, bridge, [before, each]))
        stretches.append(_Stretch(m, m, route, [each]))
    return [_row(each) for each in stretches]


@dataclass
class _Stretch:
    """Neighbouring M with one route, and what was measured of it."""

    first: int
    last: int
    route: Route
    evidence: list[Measured]


def _weakest(route: Route, evidence: Sequence[Measured]) -> tuple[Measured, Result]:
    """The M at which the route gains least, and its row there; for stock that at which its strongest rival gains
    most, and that one's row."""

    def shown(each: Measured) -> Result:
        if route != STOCK:
            return each.rows[route]
        rivals = [row for other, row in each.rows.items() if other != STOCK and row.status == results.OK]
        return max(rivals, key=lambda row: (row.speedup, row.low, row.route), default=each.rows[STOCK])

    pick = max if route == STOCK else min
    weakest = pick(evidence, key=lambda each: (shown(each).low, -each.problem.m))
    return weakest, shown(weakest)


def _row(stretch: _Stretch) -> Row:
    weakest, row = _weakest(stretch.route, stretch.evidence)
    own = weakest.rows[stretch.route]
    return Row(
        stretch.first,
        stretch.last,
        stretch.route,
        weakest.problem.m,
        row.speedup,
        row.low,
        row.high,
        row.rounds,
        own.error,
        own.kernel,
        own.space,
        own.mlx,
        own.os,
        max(each.rows[stretch.route].date for each in stretch.evidence),
    )


# What rows of one table share; MLX's version and the system's may differ from row to row.
_device = attrgetter("chip", "backend", "device_name", "architecture", "cores", "nax", "load", "source")


def _numbers(version: str) -> list[int]:
    """A version's numbers, for comparing: 0.10 is newer than 0.9."""
    return [int(digits) for digits in re.findall(r"\d+", version)]
