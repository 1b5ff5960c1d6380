"""Two camps of routes along one axis of a problem: from where on the second camp's best beats the first's.

At each point that :mod:`autotune.search.boundary` asks about, the fastest route of either camp is picked by a short
calibration, checked for its numbers, and then timed in turns with the other's (A B B A), so that no third route stands
between them and no luck of the picking enters the comparison.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from .. import kernels, stock_rules
from ..devices.base import Device, RouteFailed, Session
from ..errors import AutotuneError, UsageError
from ..kernels import STOCK, Route
from ..problem import Problem
from ..routing.neighbours import class_of
from ..routing.table import ChipKey
from ..stock_rules import MATRIX, VECTOR
from . import accuracy, boundary, results, sides, space
from .boundary import Boundary, Crossing, Sign
from .measure import Effort, Meter
from .results import Result
from .stats import Interval

SPLIT = "split"
"""A camp of its own: routes that cut K into parts and add up the results."""
SPREAD = 16
"""Routes of a searched kernel that stand for its space, evenly spaced in it, besides those known to be good."""

MOST_KNOWN = 16
"""Routes of earlier measurements that enter, the fastest of the problem's class."""

Camp = Callable[[Problem], Sequence[Route]]
"""The routes of one side that can serve a problem."""


@dataclass(frozen=True)
class Axis:
    """Where along ``name`` (``m``, ``n`` or ``k``) a boundary is looked for: from ``first`` to ``last`` by ``step``."""

    name: str
    first: int
    last: int
    step: int = 1

    def __str__(self) -> str:
        by = f":{self.step}" if self.step > 1 else ""
        return f"{self.name.upper()}={self.first}..{self.last}{by}"

    @property
    def places(self) -> range:
        return range((self.last - self.first) // self.step + 1)

    def value(self, place: int) -> int:
        return self.first + place * self.step

    def problem(self, template: Problem, place: int) -> Problem:
        value: Any = {self.name: self.value(place)}
        return replace(template, **value)

    @classmethod
    def parse(cls, text: str) -> Axis:
        """Reads ``M=1..64`` or ``K=512..16384:512``. Raises :class:`UsageError`."""
        match = re.fullmatch(r"([mnk])=(\d+)\.\.(\d+)(?::(\d+))?", text.strip().lower())
        if not match:
            raise UsageError(f"{text!r} is no range", "such as M=1..64 or K=512..16384:512")
        axis = cls(match[1], int(match[2]), int(match[3]), int(match[4] or 1))
        if not (1 <= axis.first <= axis.last and axis.step >= 1):
            raise UsageError(f"the range {text} is empty", "such as M=1..64 or K=512..16384:512")
        return axis


@dataclass(frozen=True)
class Duel:
    """One point of the axis: the fastest route of either camp and its microseconds a call (0 where a camp has none
    there), and how many times as fast the second one is, with the 95 % interval of ``rounds`` paired rounds."""

    value: int
    first: str
    second: str
    first_us: float
    second_us: float
    ratio: Interval
    rounds: int
    sign: Sign


@dataclass(frozen=True)
class Found:
    """What was measured, by the axis' value, and the boundary in the same values.

    ``axis`` is what was left of the range that was asked for: its ends are points at which both camps have routes.
    """

    template: Problem
    axis: Axis
    duels: tuple[Duel, ...]
    boundary: Boundary


def find(
    device: Device,
    template: Problem,
    axis: Axis,
    camps: tuple[Camp, Camp],
    effort: Effort,
    load: str = "chained",
    checks: int = 0,
    seed: int = 0,
    tell: Callable[[Duel], None] = lambda duel: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Found:
    """Looks for the boundary by bisection, with ``checks`` further comparisons in the widest stretches between.

    Points at which one camp has no route are passed over, and say nothing where that only shows when its routes are
    tried.

    Raises :class:`UsageError` where no point has routes of both camps, and :class:`AutotuneError` where stock fails, or
    a route in the middle of its rounds.
    """
    axis = _contested(template, axis, camps)
    duels: dict[int, Duel] = {}

    def compare(place: int) -> Sign:
        problem = axis.problem(template, place)
        try:
            session = device.open(problem, seed + place, load)
            found = _fight(session, problem, axis.value(place), [camp(problem) for camp in camps], effort, sleep)
        except RouteFailed as error:
            raise AutotuneError(f"{problem} cannot be measured ({error})", "choose another range") from None
        duels[place] = found
        tell(found)
        return found.sign

    found = boundary.find(
        compare,
        axis.places[0],
        axis.places[-1],
        checks,
        lambda place: all(camp(axis.problem(template, place)) for camp in camps),
    )
    crossings = tuple(
        Crossing(axis.value(each.at), axis.value(each.low), axis.value(each.high), each.second)
        for each in found.crossings
    )
    signs = {axis.value(place): sign for place, sign in sorted(found.signs.items())}
    return Found(template, axis, tuple(duels[place] for place in sorted(duels)), Boundary(crossings, signs))


def _contested(template: Problem, axis: Axis, camps: tuple[Camp, Camp]) -> Axis:
    """The axis between the first and the last point at which both camps have routes."""

    def both(place: int) -> bool:
        problem = axis.problem(template, place)
        return all(camp(problem) for camp in camps)

    first = next((place for place in axis.places if both(place)), None)
    if first is None:
        raise UsageError(f"at no point of {axis} do both sides have a route", "name other routes or another range")
    last = next(place for place in reversed(axis.places) if both(place))
    return replace(axis, first=axis.value(first), last=axis.value(last))


def _fight(
    session: Session,
    problem: Problem,
    value: int,
    camps: Sequence[Sequence[Route]],
    effort: Effort,
    sleep: Callable[[float], None],
) -> Duel:
    """The duel of the two camps' fastest routes. Where one has none that runs and is right there is no sign."""
    stock = session.check(STOCK)

    def right(route: Route) -> bool:
        seen = stock if route == STOCK else session.check(route)
        return not accuracy.objection(seen, stock, problem.dtype, kernels.kernel(route.kernel).accuracy)

    meter = Meter(session, effort, sleep)
    first, second = (_fastest(meter, camp, right) for camp in camps)
    if first is None and second is None:
        raise RouteFailed("nothing", "no route of either side ran and was right")
    if first is None or second is None:
        none = Sign(0, False)
        return Duel(value, str(first or ""), str(second or ""), 0.0, 0.0, Interval(1.0, 0.0, 1e6), 0, none)
    meter = Meter(session, effort, sleep, against=first)
    comparison = meter.compare(second)

    def round_() -> float:
        meter.round(comparison)
        return comparison.ratios[-1]

    try:
        sign = boundary.sign(round_)
    except RouteFailed as error:
        raise AutotuneError(
            f"{first} against {second} failed on {problem} ({error})", "name other routes with --first and --second"
        ) from None
    first_us, second_us = (float(f"{median(each) * 1e6:.5g}") for each in (comparison.stock, comparison.times))
    return Duel(value, str(first), str(second), first_us, second_us, comparison.interval, len(comparison.ratios), sign)


def _fastest(meter: Meter, camp: Iterable[Route], right: Callable[[Route], bool]) -> Route | None:
    """The camp's fastest route by calibration whose numbers are right; what fails on the way is left out."""
    estimates: list[tuple[float, Route]] = []
    for route in camp:
        try:
            estimates.append((meter.compare(route).estimate, route))
        except RouteFailed:
            if route == STOCK:
                raise
    for _, route in sorted(estimates, key=lambda each: each[0]):
        try:
            if right(route):
                return route
        except RouteFailed:
            continue
    return None


def known(rows: Iterable[Result], template: Problem) -> list[Route]:
    """The routes that were fastest over stock in what was measured of the template's class, at any shape."""
    class_ = class_of(str(template))
    own = [row for row in rows if row.status == results.OK and class_of(row.problem) == class_]
    ranked = sorted(own, key=lambda row: (-row.speedup, row.route))
    return [Route.parse(text) for text in list(dict.fromkeys(row.route for row in ranked))[:MOST_KNOWN]]


def camp(words: Sequence[str], chip: ChipKey, known: Sequence[Route] = ()) -> Camp:
    """The routes that the words name: ``vector`` or ``matrix`` (a quantized product's sides), ``split``, a kernel's
    name for all of its routes, or one route's text. Raises :class:`UsageError` for any other word.

    Of kernels whose spaces are searched come those of the ``known`` routes and :data:`SPREAD` others.
    """
    kinds = [word for word in words if word in (VECTOR, MATRIX, SPLIT)]
    named = [word for word in words if word not in kinds]
    for word in named:
        kernels.kernel(Route.parse(word).kernel)

    def routes(problem: Problem) -> list[Route]:
        found = [route for word in named for route in _named(word, problem, chip, known)]
        if kinds:
            every = [route for name in kernels.KERNELS for route in _named(name, problem, chip, known)]
            every += _moved(problem, chip)
            found += [route for route in every if any(_is(kind, route, problem, chip) for kind in kinds)]
        return list(dict.fromkeys(found))

    return routes


def _is(kind: str, route: Route, problem: Problem, chip: ChipKey) -> bool:
    if kind == SPLIT:
        return route.kernel in ("split_k", "fold_k") or int(route.config.get("split_k", 1)) > 1
    return problem.quantization is not None and sides.side(route, problem, chip) == kind


def _named(word: str, problem: Problem, chip: ChipKey, known: Sequence[Route]) -> list[Route]:
    """A kernel's routes, or the one route that the word spells out, as far as they serve the problem on that chip."""
    route = Route.parse(word)
    kernel = kernels.kernel(route.kernel)
    if not kernel.runs_on(chip.backend, chip.nax):
        return []
    if route.items or route == STOCK:
        return [route] if kernels.accepts(route, problem) else []
    legal = list(space.legal_set(kernel, problem, chip.backend))
    if kernel.searched:
        good = [each for each in known if each.kernel == kernel.name and kernels.accepts(each, problem)]
        legal = good + legal[:: max(1, -(-len(legal) // SPREAD))]
    return legal


def _moved(problem: Problem, chip: ChipKey) -> list[Route]:
    if problem.quantization is None:
        return []
    limit = stock_rules.vector_limit(chip.backend, chip.architecture, problem.n, problem.k, problem.layout == "nt")
    return [] if limit is None else sides.moved(problem, limit)
