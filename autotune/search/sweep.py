"""The sweep: every route of every problem, checked, measured against stock, and kept as it is measured.

Order of work for one problem: stock against itself (the noise floor), the route that this chip's table has (it has to
be beaten, so that it is measured in any case), the legal set as the sampler deals it, then a play-off between the few
best with more rounds. What is known when a sweep is killed is known when it starts again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Protocol

from .. import kernels
from ..devices.base import Accuracy, Device, RouteFailed, Session
from ..kernels import STOCK, Route
from ..problem import Family, Problem
from ..routing.neighbours import class_of, factor
from . import accuracy, results, space
from .learned import Learned
from .measure import Comparison, Effort, Meter
from .measured import MARGIN, Measured
from .results import Origin, Result
from .sampler import Exhausted
from .sequential import Rival, rival
from .stats import NONE, Interval
from .studies import ProblemStudy
from .tuned import UNTUNED, Tuned

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
ROWS = "v"
"""The parameter of vector kernels that says how many rows of x are taken at once."""
WINNERS = 3
"""A problem's fastest routes that others start from: the family's next problem, and the same M of a near shape."""


@dataclass(frozen=True)
class Plan:
    """What a sweep does: ``problems`` in order, by ``effort``, with at most ``trials`` routes a problem (0: all)."""

    problems: tuple[Problem, ...]
    effort: Effort
    kernels: tuple[str, ...] = ()
    trials: int = 0
    budget: float = 0.0
    seed: int = 0
    fresh: bool = False


@dataclass(frozen=True)
class Done:
    """One problem's outcome: the best row that is not stock (None if nothing could be timed), and how it went.

    ``chosen`` is the route that an export would take, before ties with the neighbouring M are broken.
    """

    problem: Problem
    best: Result | None
    routes: int
    refused: int
    resumed: bool
    seconds: float
    chosen: Route = STOCK


class Listener(Protocol):
    """Who is told how the sweep goes; a report or a test."""

    def started(self, problem: Problem, number: int, total: int, eta: float | None) -> None: ...

    def measured(self, problem: Problem, result: Result, best: Result | None, seconds: float, play_off: bool) -> None:
        """``seconds`` is what checking and timing the route took; in a ``play_off``, timing it in both sessions."""

    def finished(self, done: Done) -> None: ...


@dataclass
class Outcome:
    """What a sweep did. ``stopped`` says why it ended early: ``interrupted``, ``budget`` or empty. ``failed`` has the
    rows of problems where stock itself failed: nothing can be compared with it, and the next sweep tries again.
    ``unfinished`` is what is known of the problem that it was stopped in, one of those ``left``."""

    done: list[Done] = field(default_factory=list)
    stopped: str = ""
    left: int = 0
    unfinished: Done | None = None
    disturbed: int = 0
    slowed: int = 0
    failed: list[Result] = field(default_factory=list)


def following(winners: Sequence[Route], before: int, m: int) -> list[Route]:
    """Winners at one M for another: where one takes all rows of x at once, first the same for the new ones. Two rows at
    once are the best for two and the worst for three, for which the weights are read twice then, and without this a
    search that begins from them concludes that the whole kernel is slow."""
    found = []
    for route in winners:
        config = dict(route.config)
        if config.get(ROWS) == before != m:
            found.append(Route.of(route.kernel, {**config, ROWS: m}))
        found.append(route)
    return found


class Sweep:
    """Runs a plan on a device, one study a problem."""

    def __init__(
        self,
        device: Device,
        origin: Origin,
        plan: Plan,
        open_study: Callable[[Problem, Sequence[Route]], ProblemStudy],
        listener: Listener,
        stop: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        today: Callable[[], str] = lambda: datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        sleep: Callable[[float], None] = time.sleep,
        tuned: Tuned = UNTUNED,
    ) -> None:
        self._device = device
        self._origin = origin
        self._plan = plan
        self._open_study = open_study
        self._listener = listener
        self._stop = stop
        self._clock = clock
        self._today = today
        self._sleep = sleep
        self._tuned = tuned
        self._winners: dict[Family, dict[int, list[Route]]] = {}
        self._learned = Learned()
        self._outcome = Outcome()
        self._start = 0.0

    def run(self) -> Outcome:
        self._start = self._clock()
        spent: list[float] = []
        total = len(self._plan.problems)
        for number, problem in enumerate(self._plan.problems, 1):
            if self.stopped():
                self._end(total - number + 1)
                break
            eta = sum(spent) / len(spent) * (total - number + 1) if spent else None
            self._listener.started(problem, number, total, eta)
            began = self._clock()
            done = self._tune(problem, began)
            if done is None:
                self._end(total - number + 1)
                break
            if not done.resumed:
                spent.append(done.seconds)
            self._outcome.done.append(done)
            self._listener.finished(done)
        return self._outcome

    def stopped(self) -> bool:
        """Whether the user asked to stop, or the budget is spent; looked at between measurements."""
        budget = self._plan.budget
        return self._stop() or bool(budget and self._clock() - self._start >= budget)

    def _end(self, left: int) -> None:
        self._outcome.stopped = "interrupted" if self._stop() else "budget"
        self._outcome.left = left

    def _tune(self, problem: Problem, began: float) -> Done | None:
        """One problem, from its study's state to done; None where the user stopped it on the way."""
        routes = space.legal_routes(problem, self._origin.backend, self._plan.kernels, self._origin.nax)
        study = self._open_study(problem, routes)
        if self._plan.fresh or _stock_failed(study):
            study.forget()
        done = study.done(self._plan.effort.final, self._plan.effort.searched)
        if done and self._tried(self.held(problem, study), study):
            return self._conclude(problem, study, began, resumed=True)
        try:
            session = self._device.open(problem, self._seed(problem), self._origin.load)
            tuner = _Tuner(self, problem, study, session)
            complete = tuner.run()
        except RouteFailed as error:
            # Stock itself, or the inputs: nothing to compare with, so nothing to tune. What is known stays.
            failure = self.untimed(problem, STOCK, results.FAILED, str(error))
            if STOCK not in study.rows():
                study.add(STOCK, failure)
            self._outcome.failed.append(failure)
            return self._conclude(problem, study, began, resumed=False)
        if not complete:
            self._outcome.unfinished = self._conclude(problem, study, began, resumed=False)
            return None
        if _stock_failed(study):
            self._outcome.failed.append(study.rows()[STOCK])
        else:
            study.finish(self._plan.effort.final, limited=bool(self._plan.trials))
        return self._conclude(problem, study, began, resumed=False)

    def _conclude(self, problem: Problem, study: ProblemStudy, began: float, resumed: bool) -> Done:
        rows = self.asked_for(study.rows())
        timed = [row for route, row in rows.items() if route != STOCK and row.status == results.OK]
        refused = sum(row.status in (results.INACCURATE, results.FAILED) for row in rows.values())
        best = max(timed, key=lambda row: row.low, default=None)
        ranked = sorted(timed, key=lambda row: -row.speedup)
        self._learned.keep(
            problem, ((route, 1 / row.speedup if row.speedup else math.inf) for route, row in rows.items())
        )
        self._winners.setdefault(problem.family, {})[problem.m] = [Route.parse(row.route) for row in ranked[:WINNERS]]
        timed_stock = STOCK in rows and rows[STOCK].status == results.OK
        held = self._tuned.held(problem)
        chosen = Measured(problem, rows).ties(MARGIN, held)[0] if timed_stock else STOCK
        best = rows[chosen] if chosen != STOCK else best
        return Done(problem, best, len(rows), refused, resumed, self._clock() - began, chosen)

    def asked_for(self, rows: Mapping[Route, Result]) -> dict[Route, Result]:
        """The rows of stock and of the plan's kernels: a study also has those that other sweeps measured."""
        chosen = {*self._plan.kernels, STOCK.kernel} if self._plan.kernels else set(kernels.KERNELS)
        return {route: row for route, row in rows.items() if route.kernel in chosen}

    def _seed(self, problem: Problem) -> int:
        """A seed for the problem's inputs: another one for each problem, the same for the same plan."""
        return (self._plan.seed * 1_000_003 + sum(ord(c) * 31**i for i, c in enumerate(str(problem)))) % 2**31

    def held(self, problem: Problem, study: ProblemStudy) -> Route | None:
        """The route that this chip's table has for the problem, if it is one of those to measure and not stock."""
        held = self._tuned.held(problem)
        return held if held != STOCK and held in study.routes else None

    def _tried(self, held: Route | None, study: ProblemStudy) -> bool:
        """Whether the route that the table has was in a play-off of this study, or failed."""
        row = None if held is None else study.rows().get(held)
        if row is None or row.status != results.OK:
            return held is None or (row is not None and row.status != results.PRUNED)
        return row.rounds >= self._plan.effort.final

    def seeds(self, problem: Problem) -> list[Route]:
        """What this chip's table has for the problem; winners of the family's problem before this one, since the next M
        mostly wants the same or what follows from it, and of the nearest shape at this M, which say how far that shape
        speaks for this one; what tables have near by. All but the first take half of a search at most: where all of it
        went to them, what the first problem found by luck would be the last word."""
        before = list(self._winners.get(problem.family, {}).items())[-1:]
        own = [following(routes, m, problem.m) for m, routes in before]
        class_ = class_of(str(problem))
        alike = [each for each, at in self._winners.items() if problem.m in at and class_of(str(each)) == class_]
        others = [(factor(each, problem.family), each) for each in alike if each != problem.family]
        near = [self._winners[family][problem.m] for _, family in sorted(others)[:1]]
        held = self._tuned.held(problem)
        first = [] if held is None else [held]
        found = dict.fromkeys(route for routes in (*own, *near, self._tuned.seeds(problem)) for route in routes)
        rest = [route for route in found if route != held]
        return first + rest[: max(1, self._plan.effort.searched // 2)]

    def timed(self, problem: Problem, comparison: Comparison, status: str, **rest: Any) -> Result:
        c = comparison
        return results.timed(
            problem,
            c.route,
            status,
            c.stock,
            c.times,
            c.ratios,
            between=c.between,
            origin=self._origin,
            **self._stamp(problem, c.route),
            **rest,
        )

    def untimed(self, problem: Problem, route: Route, status: str, reason: str, **rest: Any) -> Result:
        rest = {"error": 0.0, "stock_error": 0.0, **rest}
        return results.untimed(
            problem, route, status, reason, origin=self._origin, **self._stamp(problem, route), **rest
        )

    def _stamp(self, problem: Problem, route: Route) -> dict[str, Any]:
        kernel = kernels.kernel(route.kernel)
        return {
            "kernel": kernels.fingerprint.of(kernel),
            "space": space.fingerprint(kernel),
            "date": self._today(),
            "seed": self._seed(problem),
        }


def _stock_failed(study: ProblemStudy) -> bool:
    row = study.rows().get(STOCK)
    return row is not None and row.status != results.OK


class _Tuner:
    """The work on one problem whose session is open."""

    def __init__(self, sweep: Sweep, problem: Problem, study: ProblemStudy, session: Session) -> None:
        self._sweep = sweep
        self._problem = problem
        self._study = study
        self._session = session
        self._effort = sweep._plan.effort
        self._meter = Meter(session, self._effort, sweep._sleep)
        self._comparisons: dict[Route, Comparison] = {}
        self._stock: Accuracy | None = None
        self._held = sweep.held(problem, study)

    def run(self) -> bool:
        """Measures until the set is dealt and the play-off is over; False where the user stopped it."""
        dealt, seeds = 0, self._sweep.seeds(self._problem)
        while not self._sweep._plan.trials or dealt < self._sweep._plan.trials:
            if self._sweep.stopped():
                return False
            try:
                trial, route = self._study.deal(
                    seeds,
                    self._sweep._plan.seed,
                    self._effort.searched,
                    self._sweep._learned,
                )
            except Exhausted:
                break
            began = self._sweep._clock()
            result = self._measure(route)
            seconds = self._sweep._clock() - began
            self._study.tell(trial, result, self._comparisons.get(route))
            dealt += 1
            self._tell(result, seconds)
            if route == STOCK and result.status != results.OK:
                return True
        self._try_held()
        self._finals()
        return not self._sweep.stopped() or self._settled()

    def _try_held(self) -> None:
        """Measures the table's route where nothing dealt it: a search was over, or had dropped it, before it was the
        table's."""
        row = self._study.rows().get(self._held) if self._held is not None else None
        if self._held is None or self._stopped() or (row is not None and row.status != results.PRUNED):
            return
        began = self._sweep._clock()
        result = self._measure(self._held)
        seconds = self._sweep._clock() - began
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
                return self._sweep.untimed(self._problem, route, results.INACCURATE, objection, **_finite(error))
            if route == STOCK:
                comparison, dropped = self._meter.compare(STOCK), False
                self._meter.settle(comparison)
            elif route == self._held:
                comparison, dropped = self._meter.compare(route), False
                self._meter.settle(comparison, self._effort.screen)
            else:
                comparison, dropped = self._meter.screen(route, self._incumbent(), self._rival())
        except RouteFailed as failure:
            return self._sweep.untimed(self._problem, route, results.FAILED, str(failure), **_finite(error))
        self._comparisons[route] = comparison
        return self._sweep.timed(self._problem, comparison, results.PRUNED if dropped else results.OK, **_finite(error))

    def _rows(self) -> dict[Route, Result]:
        return self._sweep.asked_for(self._study.rows())

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
            route, began = Route.parse(row.route), self._sweep._clock()
            first[route] = self._half(route)
            spent[route] = self._sweep._clock() - began
        if self._stopped() or not finalists:
            return False
        if not any(first.values()):
            return True  # all of them failed: the next ones come up
        if not self._reopen():
            return False
        for row in finalists:
            route, began = Route.parse(row.route), self._sweep._clock()
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
            result = self._sweep.timed(
                self._problem, comparison, results.OK, error=row.error, stock_error=row.stock_error, **host
            )
            self._study.add(route, result)
            self._tell(result, spent[route] + self._sweep._clock() - began, play_off=True)
        return True

    def _host(self, route: Route) -> float:
        """Microseconds that a call costs the program more than stock's, the least of a few takes of each in turns:
        what disturbs a loop only ever makes it slower. Calls are without MLX's rules for gradients. On a CPU the
        program and the device share what they cost."""
        if self._sweep._origin.backend == "cpu":
            return 0.0
        p = self._problem
        calls = max(1, min(HOST_CALLS, HOST_BYTES // (4 * p.n * (p.batch * p.m + p.k))))
        least = {STOCK: math.inf, route: math.inf}
        began = self._sweep._clock()
        for take in range(HOST_MOST):
            if take >= HOST_TAKES and self._sweep._clock() - began >= HOST_SECONDS:
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
        seed = self._sweep._seed(self._problem) + 1
        try:
            self._session = self._sweep._device.open(self._problem, seed, self._sweep._origin.load)
            self._meter = Meter(self._session, self._effort, self._sweep._sleep)
            self._meter.compare(STOCK)  # should stock fail here, that is no finalist's fault
        except RouteFailed:
            return False
        return True

    def _refuse(self, route: Route, failure: RouteFailed) -> None:
        self._study.add(route, self._sweep.untimed(self._problem, route, results.FAILED, str(failure)))

    def _stopped(self) -> bool:
        return self._sweep.stopped()

    def _count(self) -> None:
        """Adds what this session's meter met to the sweep's outcome."""
        self._sweep._outcome.disturbed += self._meter.disturbed
        self._sweep._outcome.slowed += self._meter.slowed
        self._meter.disturbed = self._meter.slowed = 0

    def _tell(self, result: Result, seconds: float, play_off: bool = False) -> None:
        rows = [row for route, row in self._rows().items() if route != STOCK and row.status == results.OK]
        best = max(rows, key=lambda row: row.speedup, default=None)
        self._sweep._listener.measured(self._problem, result, best, seconds, play_off)


def _finite(error: dict[str, float]) -> dict[str, float]:
    """An infinite error is written as 1e9: JSON and CSV readers disagree about infinities."""
    return {name: min(value, 1e9) for name, value in {"error": 0.0, "stock_error": 0.0, **error}.items()}
