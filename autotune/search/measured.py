"""What was measured for a problem, and which of it may become a route.

A route is eligible where the lower bound of its speedup clears the margin and the noise floor of that problem, and
where a call saves the device more than it costs the program that makes it: a decoding step is as long as the slower of
the two, and nobody knows beforehand which one that will be (docs/h100.md has a model that became slower). Eligible
routes whose intervals overlap with the best one's, and which are nearly as fast, are a tie.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from statistics import median

from ..kernels import STOCK, Route
from ..problem import Family, Problem
from . import results
from .results import Result
from .stats import t95

MARGIN = 0.03
"""Least gain for which stock is left: threads on MLX's tracker put run-to-run noise at 2 to 3 %."""
NEARLY = 0.05
"""A tie is no slower than the best by more than this: a wide interval alone does not make a route as good."""
CLEAR = 0.01
"""By how much more than their intervals say a route has to beat the one that the table holds: rounds of two sessions
share the luck of these, and their intervals do not show what a third one would."""
NORMAL = 1 << 30
"""Degrees of freedom of a normal distribution."""
MAD, ENOUGH = 1.4826, 10
"""From the median of absolute differences to the standard deviation of normal ones; differences to take it of."""
LEAST_ROUNDS = 5
"""More rounds than screening gives at any effort: what has fewer was not in a play-off, which spans two sessions."""


@dataclass(frozen=True)
class Measured:
    """All rows of one problem."""

    problem: Problem
    rows: Mapping[Route, Result]

    @property
    def noise(self) -> float:
        return noise_of(self.rows[STOCK])

    def eligible(self, margin: float, gpu_bound: bool = False, luck: float = 0.0) -> list[tuple[Route, Result]]:
        """Routes that may be used here, fastest first: those that were in a play-off and are faster than stock beyond
        the margin and the noise; unless ``gpu_bound``, only those that save more than their calls cost the program.
        ``luck`` is that of :func:`luck`, of which a row's interval knows nothing; a gain has to hold in both sessions
        of the play-off."""
        found = [
            (route, row)
            for route, row in self.rows.items()
            if route != STOCK and played_off(row) and self.clears(row, margin, row.host_us, gpu_bound, luck)
        ]
        return sorted(found, key=lambda each: (-each[1].speedup, each[1].route))

    def clears(self, row: Result, margin: float, host_us: float, gpu_bound: bool = False, luck: float = 0.0) -> bool:
        """Whether a row's gain clears the margin, the noise, what its sessions may differ by, and ``host_us``."""
        floor = bar(max(margin, self.noise), luck, 2 if played_off(row) else 1)
        worse = row.speedup * math.exp(-abs(row.between) / 2)
        return row.low > floor and worse > floor and (gpu_bound or saved_us(row) > host_us)

    def ties(self, margin: float, held: Route | None = None, gpu_bound: bool = False, luck: float = 0.0) -> list[Route]:
        """The eligible routes that cannot be told from the best one; stock alone where none is eligible. Where the
        route that the table holds is one of them it is the only one: it keeps its place."""
        eligible = self.eligible(margin, gpu_bound, luck)
        if not eligible:
            return [STOCK]
        (first, best), *rest = eligible
        nearly = best.speedup * (1 - NEARLY)
        for route, row in eligible:
            if route == held and row.high * (1 + CLEAR) >= best.low and row.speedup >= nearly:
                return [route]
        return [first, *(route for route, row in rest if row.high >= best.low and row.speedup >= nearly)]


def bar(margin: float, luck: float, sessions: int = 2) -> float:
    """The speedup that a lower bound has to clear: the margin, and what the mean of so many sessions differs by."""
    return (1 + margin) * math.exp(t95(NORMAL) * luck / math.sqrt(sessions))


def played_off(row: Result) -> bool:
    """Whether a row was measured to the end, in two sessions."""
    return row.status == results.OK and row.rounds >= LEAST_ROUNDS


def luck(rows: Iterable[Result]) -> float:
    """How far a route's ratio to stock is from one session to the next, as the standard deviation of its log: from what
    the two sessions of all play-offs saw, noise of their rounds included. 0 where they are too few to tell.

    Where buffers lie and which of MLX's cached graphs are met is one draw a session. Stock against itself cannot show
    it, since both sides have the same. The median of all, since single routes may be disturbed."""
    apart = [abs(row.between) for row in rows if row.status == results.OK and row.between]
    return MAD * median(apart) / math.sqrt(2) if len(apart) >= ENOUGH else 0.0


def saved_us(row: Result) -> float:
    """Microseconds that a call saves the device."""
    return row.stock_us * (1 - 1 / row.speedup)


def noise_of(stock: Result) -> float:
    """Stock against itself: how far from 1 the protocol put it, as a ratio minus one."""
    return max(stock.high, 1 / max(stock.low, 1e-9)) - 1


def by_family(rows: Iterable[Result]) -> dict[Family, list[Measured]]:
    """The rows of each problem whose stock was timed, by family and in order of M; of a route's rows the last."""
    by_problem: dict[str, dict[Route, Result]] = defaultdict(dict)
    for row in rows:
        by_problem[row.problem][_route(row.route)] = row
    found: dict[Family, list[Measured]] = defaultdict(list)
    for text, by_route in by_problem.items():
        if STOCK in by_route and by_route[STOCK].status == results.OK:
            problem = _problem(text)
            found[problem.family].append(Measured(problem, by_route))
    return {family: sorted(found[family], key=lambda each: each.problem.m) for family in sorted(found)}


@lru_cache(maxsize=1 << 16)
def _problem(text: str) -> Problem:
    return Problem.parse(text)


@lru_cache(maxsize=1 << 16)
def _route(text: str) -> Route:
    return Route.parse(text)
