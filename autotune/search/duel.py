"""Two camps of routes along one axis of a problem: from where on the second camp's best beats the first's.

At each point that :mod:`autotune.search.boundary` asks about, the fastest route of either camp is picked by a short
calibration, checked for its numbers, and then timed in turns with the other's (A B B A), so that no third route stands
between them and no luck of the picking enters the comparison. Spaces of searched kernels are too large to be tried
whole: a search (:mod:`autotune.search.portfolio`) tries some of each, with what the points before showed. What it may
have missed is allowed for: a camp of which a part was tried is clearly behind only where it is so by more than
``MISSED``.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from . import accuracy, boundary, record, results, sides, space
from .boundary import Boundary, Crossing, Sign
from .learned import Learned, coordinates
from .measure import Effort, Meter
from .points import Points
from .portfolio import Portfolio
from .results import Result
from .stats import Interval

SPLIT = "split"
"""A camp of its own: routes that cut K into parts and add up the results."""
KINDS = (VECTOR, MATRIX, SPLIT)
TRIES = 120
"""Routes of a searched kernel that are tried at a point, those known to be good among them."""
SEEDS = 8
"""Of these at most so many are the fastest of other points and of earlier measurements."""
AGAIN = 4
"""The fastest of a camp by one calibration that are calibrated once more, so that luck does not pick alone."""
MISSED = 0.1
"""What the best of so few may be slower by than the best of the whole space, as a log ratio: about what the worst of
13 limits on models of two chips missed (9.4 % at one point; docs/search.md)."""

GAP = 8
"""Places in a row of which one is served, where the end of what is served is looked for by bisection."""

MOST_KNOWN = 16
"""Routes of earlier measurements that enter, the fastest of the problem's class."""

PLACES = 32
"""Places at either end of a range, and as many spread over it, that are looked at for one that both camps serve."""


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
            what = "begins at 0" if axis.first < 1 <= axis.last else "is empty"
            raise UsageError(f"the range {text} {what}", "such as M=1..64 or K=512..16384:512")
        return axis


@dataclass(frozen=True)
class Tried:
    """How many of a searched kernel's routes were tried at a point, of how many."""

    kernel: str
    routes: int
    of: int


@dataclass(frozen=True)
class Duel:
    """One point of the axis: the fastest route of either camp and its microseconds a call (0 where a camp has none
    there), and how many times as fast the second one is, with the interval that the sign was judged by, after
    ``rounds`` paired rounds. ``tried`` has the kernels of which not all routes were tried."""

    value: int
    first: str
    second: str
    first_us: float
    second_us: float
    ratio: Interval
    rounds: int
    sign: Sign
    tried: tuple[Tried, ...] = ()


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
    tries: int = TRIES,
) -> Found:
    """Looks for the boundary by bisection, with ``checks`` further comparisons in the widest stretches between.

    Points at which one camp has no route are passed over, and say nothing where that only shows when its routes are
    tried.

    Raises :class:`UsageError` where no point has routes of both camps, and :class:`AutotuneError` where stock fails, or
    a route in the middle of its rounds.
    """
    axis = _contested(template, axis, camps)
    duels: dict[int, Duel] = {}
    searches = [_Search(camp, tries, seed) for camp in camps]

    def compare(place: int) -> Sign:
        problem = axis.problem(template, place)
        try:
            session = device.open(problem, seed + place, load)
            found = _fight(session, problem, axis.value(place), searches, effort, sleep)
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
        lambda place: all(camp.serves(axis.problem(template, place)) for camp in camps),
    )
    crossings = tuple(
        Crossing(axis.value(each.at), axis.value(each.low), axis.value(each.high), each.second)
        for each in found.crossings
    )
    signs = {axis.value(place): sign for place, sign in sorted(found.signs.items())}
    return Found(template, axis, tuple(duels[place] for place in sorted(duels)), Boundary(crossings, signs))


def _contested(template: Problem, axis: Axis, camps: tuple[Camp, Camp]) -> Axis:
    """The axis between the first and the last point at which both camps have routes.

    A range may have a thousand million points. Where its ends have none that both serve, some spread over it are
    looked at, and the end of what both serve is found by bisection: as if it had no gaps longer than a few points.
    """

    def near(place: int, ahead: int, most: int) -> int | None:
        """The first of so many places from here on, in steps of ``ahead``, that both camps serve."""
        for each in range(place, place + ahead * most, ahead):
            if each not in places:
                return None
            problem = axis.problem(template, each)
            if all(camp.serves(problem) for camp in camps):
                return each
        return None

    def furthest(known: int, end: int) -> int:
        """The last place from one that both serve towards an end of the range."""
        ahead = 1 if end >= known else -1
        found = near(end, -ahead, PLACES)
        if found is not None:
            return found
        while abs(end - known) > GAP:
            middle = (known + end) // 2
            found = near(middle, ahead, GAP)
            if found is None:
                end = middle
            else:
                known = found
        found = near(end, -ahead, GAP)
        return known if found is None else found

    places = axis.places
    spread = range(0, len(places), max(1, len(places) // PLACES))
    first = near(0, 1, PLACES)
    if first is None:
        inside = next((each for each in spread if near(each, 1, 1) is not None), None)
        if inside is None:
            raise UsageError(f"at no point of {axis} do both sides have a route", "name other routes or another range")
        first = furthest(inside, 0)
    return replace(axis, first=axis.value(first), last=axis.value(furthest(first, len(places) - 1)))


def _fight(
    session: Session,
    problem: Problem,
    value: int,
    searches: Sequence[_Search],
    effort: Effort,
    sleep: Callable[[float], None],
) -> Duel:
    """The duel of the two camps' fastest routes. Where one has none that runs and is right there is no sign."""
    stock = session.check(STOCK)

    def right(route: Route) -> bool:
        seen = stock if route == STOCK else session.check(route)
        return not accuracy.objection(seen, stock, problem.dtype, kernels.kernel(route.kernel).accuracy)

    meter = Meter(session, effort, sleep)
    (first, some), (second, others) = (search.fastest(meter, problem, right) for search in searches)
    tried = some + others
    if first is None and second is None:
        raise RouteFailed("nothing", "no route of either side ran and was right")
    if first is None or second is None:
        none = Sign(0, False)
        return Duel(value, str(first or ""), str(second or ""), 0.0, 0.0, Interval(1.0, 0.0, 1e6), 0, none, tried)
    meter = Meter(session, effort, sleep, against=first)
    comparison = meter.compare(second)

    def round_() -> float:
        meter.round(comparison)
        return comparison.ratios[-1]

    allowed = MISSED * bool(some), MISSED * bool(others)
    try:
        sign = boundary.sign(round_, *allowed)
    except RouteFailed as error:
        raise AutotuneError(
            f"{first} against {second} failed on {problem} ({error})", "name other routes with --first and --second"
        ) from None
    first_us, second_us = (float(f"{median(each) * 1e6:.5g}") for each in (comparison.stock, comparison.times))
    ratio = boundary.bounds(comparison.ratios, *allowed)
    return Duel(value, str(first), str(second), first_us, second_us, ratio, len(comparison.ratios), sign, tried)


class _Search:
    """One camp's fastest route at a point after the other, each search knowing what those before it found."""

    def __init__(self, camp: Camp, tries: int, seed: int) -> None:
        self._camp = camp
        self._tries = tries
        self._seed = seed
        self._learned = Learned()
        self._winners: dict[Problem, list[Route]] = {}

    def fastest(
        self, meter: Meter, problem: Problem, right: Callable[[Route], bool]
    ) -> tuple[Route | None, tuple[Tried, ...]]:
        """The camp's fastest route by calibration whose numbers are right, and of which kernels a part was tried. What
        fails on the way is left out; RouteFailed where that is stock."""
        estimates: dict[Route, float] = {}
        tried = []
        stock = meter.compare(STOCK).estimate

        def cost(route: Route) -> float:
            try:
                estimates[route] = meter.compare(route).estimate
            except RouteFailed:
                if route == STOCK:
                    raise
                return math.inf
            return estimates[route] / stock

        costs: list[tuple[Route, float]] = []
        known = self._learned.known(problem)
        for name, routes in record.by_kernel(self._camp(problem)).items():
            if not kernels.kernel(name).searched or len(routes) <= self._tries:
                costs += [(route, cost(route)) for route in routes]
                continue
            points = Points.of([route.config for route in routes])
            place = {route: number for number, route in enumerate(routes)}
            seeds = [place[route] for route in self._seeds(problem) if route in place][:SEEDS]
            portfolio = Portfolio(points, self._seed, seeds, coordinates(problem), known.get(name, ()))
            for _ in range(self._tries):
                number = portfolio.propose()
                costs.append((routes[number], cost(routes[number])))
                portfolio.tell(number, costs[-1][1])
            tried.append(Tried(name, self._tries, len(routes)))
        for route in sorted(estimates, key=estimates.__getitem__)[:AGAIN]:
            before = estimates.pop(route)
            again = cost(route) * stock
            if route in estimates:
                estimates[route] = (before + again) / 2
        ranked = sorted(estimates, key=estimates.__getitem__)
        self._learned.keep(problem, costs)
        self._winners[problem] = ranked[:AGAIN]
        for route in ranked:
            try:
                if right(route):
                    return route, tuple(tried)
            except RouteFailed:
                continue
        return None, tuple(tried)

    def _seeds(self, problem: Problem) -> list[Route]:
        """The fastest of the points that were compared, the nearest first, and those known beforehand."""
        here = coordinates(problem)
        near = sorted(self._winners, key=lambda each: math.dist(coordinates(each), here))
        return list(dict.fromkeys([route for each in near for route in self._winners[each]] + list(self._camp.known)))


def known(rows: Iterable[Result], template: Problem) -> list[Route]:
    """The routes that were fastest over stock in what was measured of the template's class, at any shape."""
    class_ = class_of(str(template))
    own = [row for row in rows if row.status == results.OK and class_of(row.problem) == class_]
    ranked = sorted(own, key=lambda row: (-row.speedup, row.route))
    return [Route.parse(text) for text in list(dict.fromkeys(row.route for row in ranked))[:MOST_KNOWN]]


Legal = Callable[[kernels.Kernel, Problem, str], Iterable[Route]]


@dataclass(frozen=True)
class Camp:
    """The routes of one side: those that ``words`` name on a chip. ``known`` are routes that earlier measurements show
    to be good; of kernels whose spaces are searched they are tried first."""

    words: tuple[str, ...]
    chip: ChipKey
    known: tuple[Route, ...] = ()

    def __call__(self, problem: Problem) -> list[Route]:
        """All routes of the camp that can serve the problem."""
        return list(dict.fromkeys(self._routes(problem)))

    def serves(self, problem: Problem) -> bool:
        """Whether there is any."""
        return next(self._routes(problem, space.some_legal), None) is not None

    def _routes(self, problem: Problem, legal: Legal = space.legal_set) -> Iterator[Route]:
        kinds = [word for word in self.words if word in KINDS]
        if problem.quantization is None:
            kinds = [kind for kind in kinds if kind == SPLIT]
        for word in self.words:
            if word not in KINDS:
                yield from self._named(word, problem, legal)
        if kinds:
            every = [*kernels.KERNELS, None]
            for name in every:
                for route in self._named(name, problem, legal) if name else _moved(problem, self.chip):
                    if any(_is(kind, route, problem, self.chip) for kind in kinds):
                        yield route

    def _named(self, word: str, problem: Problem, legal: Legal) -> Iterator[Route]:
        """A kernel's routes, or the one route that the word spells out, as far as they serve the problem there."""
        route = Route.parse(word)
        kernel = kernels.kernel(route.kernel)
        if not kernel.runs_on(self.chip.backend, self.chip.nax):
            return
        if route.items or route == STOCK:
            if kernels.accepts(route, problem):
                yield route
            return
        yield from (each for each in self.known if each.kernel == kernel.name and kernels.accepts(each, problem))
        yield from legal(kernel, problem, self.chip.backend)


def camp(words: Sequence[str], chip: ChipKey, known: Sequence[Route] = ()) -> Camp:
    """The routes that the words name: ``vector`` or ``matrix`` (a quantized product's sides), ``split``, a kernel's
    name for all of its routes, or one route's text. Raises :class:`UsageError` for any other word."""
    for word in words:
        if word not in KINDS:
            kernels.kernel(Route.parse(word).kernel)
    return Camp(tuple(words), chip, tuple(known))


def demand(words: Sequence[str], template: Problem, chip: ChipKey) -> None:
    """Raises :class:`UsageError` for words that name nothing on the chip or for the problem, whatever its sizes."""
    for word in words:
        if word in (VECTOR, MATRIX) and template.quantization is None:
            raise UsageError(
                f"a {template.op} has no {word} side", "that is for quantized_matmul; name kernels instead"
            )
        if word in KINDS:
            continue
        (kernel,) = space.demand([Route.parse(word).kernel], chip.backend, chip.nax, chip.id)
        if template.op not in kernel.ops:
            others = ", ".join(each.name for each in kernels.KERNELS.values() if template.op in each.ops)
            raise UsageError(f"{kernel.name} is no kernel for {template.op}", f"those are {others}")


def _is(kind: str, route: Route, problem: Problem, chip: ChipKey) -> bool:
    if kind == SPLIT:
        return route.kernel in ("split_k", "fold_k") or int(route.config.get("split_k", 1)) > 1
    return problem.quantization is not None and sides.side(route, problem, chip) == kind


def _moved(problem: Problem, chip: ChipKey) -> list[Route]:
    if problem.quantization is None:
        return []
    limit = stock_rules.vector_limit(chip.backend, chip.architecture, problem.n, problem.k, problem.layout == "nt")
    return [] if limit is None else sides.moved(problem, limit)
