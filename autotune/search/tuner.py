"""One problem of a sweep, from its open study to its last play-off.

Order of work: stock against itself (the noise floor), the route that this chip's table has (it has to be beaten, so
that it is measured in any case), the legal set as the sampler deals it, then a play-off between the few best with more
rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from .. import kernels
from ..devices.base import Accuracy, RouteFailed, Session
from ..kernels import STOCK, Route
from ..problem import Problem
from . import accuracy, results
from .learned import Learned
from .ledger import Ledger
from .measure import Comparison, Meter
from .plan import Plan
from .results import Result
from .sampler import Exhausted
from .sequential import Rival, rival
from .stats import NONE, Interval
from .studies import ProblemStudy

PLAY_OFFS = 2
"""Play-offs at most: finalists that fall back in one let others come up, which have to be played in turn."""
HOST_CALLS = 4
"""Calls of a take of what a call costs the program. Few: MLX makes a program wait once more than ten of its command
buffers are under way, of which a call with much to read can fill one or two."""
HOST_TAKES, HOST_MOST, HOST_SECONDS = 25, 200, 0.1
"""Takes at least, and at most as many as these seconds hold. With 25 the least of them was 3.2 to 5.6 us for the middle
half of the routes to ``qmv`` on an H100's host, where it costs 2 to 3; at large products, whose takes are long, more of
them would change no route."""
HOST_BYTES = 1 << 30
"""Most memory for a take: its results all live at once, and with them, at worst, as many copies of the weights in
float32."""
WINNERS = 3
"""A problem's fastest routes that others start from: the family's next problem, and the same M of a near shape."""


class Told(Protocol):
    """Who is told of each row."""

    def __call__(
        self, problem: Problem, result: Result, best: Result | None, seconds: float, play_off: bool
    ) -> None: ...


@dataclass(frozen=True)
class Shared:
    """What the problems of a sweep have in common.

    ``open`` opens a session on a problem with inputs of a seed; ``stopped`` says whether to end, and is asked between
    measurements; ``learned`` is what the problems before showed.
    """

    plan: Plan
    ledger: Ledger
    learned: Learned
    open: Callable[[Problem, int], Session]
    stopped: Callable[[], bool]
    told: Told
    clock: Callable[[], float]
    sleep: Callable[[float], None]


class Tuner:
    """The work on one problem. ``disturbed`` and ``slowed`` count what its meters met (:class:`Meter`)."""

    def __init__(
        self, shared: Shared, problem: Problem, study: ProblemStudy, held: Route | None, seeds: Sequence[Route]
    ) -> None:
        """``held`` is the table's route, ``seeds`` are those that a search begins from."""
        self._shared = shared
        self._plan, self._ledger, self._clock, self._stopped = shared.plan, shared.ledger, shared.clock, shared.stopped
        self._problem = problem
        self._study = study
        self._held = held
        self._seeds = seeds
        self._effort = shared.plan.effort
        self._comparisons: dict[Route, Comparison] = {}
        self._stock: Accuracy | None = None
        self.disturbed = self.slowed = 0

    def run(self) -> bool:
        """Measures until the set is dealt and the play-off is over; False where the user stopped it. Raises
        :class:`RouteFailed` where the problem's inputs cannot be had, or stock does not run."""
        self._open(self._ledger.seed_of(self._problem))
        dealt = 0
        while not self._plan.trials or dealt < self._plan.trials:
            if self._stopped():
                return False
            try:
                trial, route = self._study.deal(
                    self._seeds, self._plan.seed, self._effort.searched, self._shared.learned
                )
            except Exhausted:
                break
            began = self._clock()
            result = self._measure(route)
            seconds = self._clock() - began
            self._study.tell(trial, result, self._comparisons.get(route))
            dealt += 1
            self._tell(result, seconds)
            if route == STOCK and result.status != results.OK:
                return True
        self._try_held()
        self._finals()
        return not self._stopped() or self._settled()

    def _open(self, seed: int) -> None:
        """A session with inputs of that seed."""
        self._session = self._shared.open(self._problem, seed)
        self._meter = Meter(self._session, self._effort, self._shared.sleep)

    def _try_held(self) -> None:
        """Measures the table's route where nothing dealt it: a search was over, or had dropped it, before it was the
        table's."""
        row = self._study.rows().get(self._held) if self._held is not None else None
        if self._held is None or self._stopped() or (row is not None and row.status != results.PRUNED):
            return
        began = self._clock()
        result = self._measure(self._held)
        seconds = self._clock() - began
        self._study.add(self._held, result, self._comparisons.get(self._held))
        self._tell(result, seconds)

    def _measure(self, route: Route) -> Result:
        error: dict[str, float] = {}
        try:
            if self._stock is None:
                self._stock = self._session.check(STOCK)
            seen = self._stock if route == STOCK else self._session.check(route)
            error = {"error": seen.error, "stock_error": self._stock.error}
            kernel = kernels.kernel(route.kernel)
            objection = accuracy.objection(seen, self._stock, self._problem.dtype, kernel.accuracy)
            if objection and route != STOCK:
                return self._ledger.untimed(self._problem, route, results.INACCURATE, objection, **_finite(error))
            if route == STOCK:
                comparison, dropped = self._meter.compare(STOCK), False
                self._meter.settle(comparison)
            elif route == self._held:
                comparison, dropped = self._meter.compare(route), False
                self._meter.settle(comparison, self._effort.screen)
            else:
                comparison, dropped = self._meter.screen(route, self._incumbent(), self._rival())
        except RouteFailed as failure:
            return self._ledger.untimed(self._problem, route, results.FAILED, str(failure), **_finite(error))
        self._comparisons[route] = comparison
        return self._ledger.timed(
            self._problem, comparison, results.PRUNED if dropped else results.OK, **_finite(error)
        )

    def _rows(self) -> dict[Route, Result]:
        return self._plan.asked_for(self._study.rows())

    def _incumbent(self) -> Interval:
        rows = [row.interval for row in self._rows().values() if row.status == results.OK]
        return max(rows, key=lambda interval: interval.value, default=NONE)

    def _rival(self) -> Rival | None:
        """The slowest of those that would enter a play-off now, or start the next problem; None while too few did."""
        timed = [row for route, row in self._rows().items() if route != STOCK and row.rounds]
        left = [(math.log(row.speedup), row.rounds) for row in timed if row.status == results.OK]
        return rival(left, max(self._effort.finalists, WINNERS), len(timed))

    def _finalists(self) -> list[Result]:
        """The few fastest that still may be the fastest, and faster than stock; and what the table has, in any case."""
        rows = [row for route, row in self._rows().items() if route != STOCK and row.status == results.OK]
        ranked = sorted((row for row in rows if row.speedup > 1), key=lambda row: -row.speedup)
        found = [row for row in ranked[: self._effort.finalists] if row.high >= ranked[0].low]
        return found + [row for row in rows if row.route == str(self._held) and row not in found]

    def _settled(self) -> bool:
        return all(row.rounds >= self._effort.final for row in self._finalists())

    def _finals(self) -> None:
        for _ in range(PLAY_OFFS):
            if not self._play_off():
                break
        self._count()

    def _play_off(self) -> bool:
        """More rounds for the finalists, half of them in a second session; false where none needs them.

        Rounds of one session share its luck: where its buffers lie, which of MLX's cached graphs it meets. Seen on an
        H100: a route 1.2 times as fast as stock in one session and 0.75 times in the next, each with a narrow interval.
        """
        finalists = [row for row in self._finalists() if row.rounds < self._effort.final]
        first, spent = {}, {}
        for row in finalists:
            if self._stopped():
                break
            route, began = Route.parse(row.route), self._clock()
            first[route] = self._half(route)
            spent[route] = self._clock() - began
        if self._stopped() or not finalists:
            return False
        if not any(first.values()):
            return True  # all of them failed: the next ones come up
        if not self._reopen():
            return False
        for row in finalists:
            route, began = Route.parse(row.route), self._clock()
            comparison = first[route]
            if comparison is None or self._stopped():
                continue
            try:
                again = self._meter.compare(route)
                self._meter.settle(again, self._effort.final - len(comparison.ratios))
                comparison.extend(again)
                host = {"host_us": self._host(route)}
            except RouteFailed as failure:
                self._refuse(route, failure)
                continue
            result = self._ledger.timed(
                self._problem, comparison, results.OK, error=row.error, stock_error=row.stock_error, **host
            )
            self._study.add(route, result)
            self._tell(result, spent[route] + self._clock() - began, play_off=True)
        return True

    def _host(self, route: Route) -> float:
        """Microseconds that a call costs the program more than stock's, the least of a few takes of each in turns:
        what disturbs a loop only ever makes it slower. Calls are without MLX's rules for gradients. On a CPU the
        program and the device share what they cost."""
        if self._ledger.origin.backend == "cpu":
            return 0.0
        p = self._problem
        calls = max(1, min(HOST_CALLS, HOST_BYTES // (4 * p.n * (p.batch * p.m + p.k))))
        least = {STOCK: math.inf, route: math.inf}
        began = self._clock()
        for take in range(HOST_MOST):
            if take >= HOST_TAKES and self._clock() - began >= HOST_SECONDS:
                break
            for each in least:
                least[each] = min(least[each], self._session.host(each, calls))
        return max(0.0, (least[route] - least[STOCK]) / calls * 1e6)

    def _half(self, route: Route) -> Comparison | None:
        """Half of a finalist's rounds; None where it failed. Those that made it a finalist do not count: of many equal
        routes the luckiest comes here, and its luck would stay in its number."""
        try:
            comparison = self._meter.compare(route)
            self._meter.settle(comparison, -(-self._effort.final // 2))
        except RouteFailed as failure:
            self._refuse(route, failure)
            return None
        return comparison

    def _reopen(self) -> bool:
        """A second session; False where it does not open, and what the first one knows has to do."""
        self._count()
        try:
            self._open(self._ledger.seed_of(self._problem) + 1)
            self._meter.compare(STOCK)  # should stock fail here, that is no finalist's fault
        except RouteFailed:
            return False
        return True

    def _refuse(self, route: Route, failure: RouteFailed) -> None:
        self._study.add(route, self._ledger.untimed(self._problem, route, results.FAILED, str(failure)))

    def _count(self) -> None:
        """Adds what this session's meter met."""
        self.disturbed += self._meter.disturbed
        self.slowed += self._meter.slowed
        self._meter.disturbed = self._meter.slowed = 0

    def _tell(self, result: Result, seconds: float, play_off: bool = False) -> None:
        rows = [row for route, row in self._rows().items() if route != STOCK and row.status == results.OK]
        best = max(rows, key=lambda row: row.speedup, default=None)
        self._shared.told(self._problem, result, best, seconds, play_off)


def _finite(error: dict[str, float]) -> dict[str, float]:
    """An infinite error is written as 1e9: JSON and CSV readers disagree about infinities."""
    return {name: min(value, 1e9) for name, value in {"error": 0.0, "stock_error": 0.0, **error}.items()}
