"""The sweep: every route of every problem, checked, measured against stock, and kept as it is measured.

What is done for one problem is ``tuner.py``'s; what is known when a sweep is killed is known when it starts again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Protocol

from ..devices.base import Device, RouteFailed
from ..kernels import STOCK, Route
from ..problem import Family, Problem
from ..routing.neighbours import class_of, factor
from . import results, space
from .learned import Learned
from .ledger import Ledger
from .measured import MARGIN, Measured
from .plan import Plan
from .results import Origin, Result
from .studies import ProblemStudy
from .tuned import UNTUNED, Tuned
from .tuner import WINNERS, Shared, Tuner

ROWS = "v"
"""The parameter of vector kernels that says how many rows of x are taken at once."""


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
        self._ledger = Ledger(origin, plan.seed, today)
        self._plan = plan
        self._open_study = open_study
        self._listener = listener
        self._stop = stop
        self._clock = clock
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
        origin = self._ledger.origin
        routes = space.legal_routes(problem, origin.backend, self._plan.kernels, origin.nax)
        study = self._open_study(problem, routes)
        if self._plan.fresh or _stock_failed(study):
            study.forget()
        done = study.done(self._plan.effort.final, self._plan.effort.searched)
        held = self._held(problem, study)
        if done and self._tried(held, study):
            return self._conclude(problem, study, began, resumed=True)
        tuner = Tuner(self._shared(), problem, study, held, self.seeds(problem))
        try:
            complete = tuner.run()
        except RouteFailed as error:
            # Stock itself, or the inputs: nothing to compare with, so nothing to tune. What is known stays.
            failure = self._ledger.untimed(problem, STOCK, results.FAILED, str(error))
            if STOCK not in study.rows():
                study.add(STOCK, failure)
            self._outcome.failed.append(failure)
            return self._conclude(problem, study, began, resumed=False)
        finally:
            self._outcome.disturbed += tuner.disturbed
            self._outcome.slowed += tuner.slowed
        if not complete:
            self._outcome.unfinished = self._conclude(problem, study, began, resumed=False)
            return None
        if _stock_failed(study):
            self._outcome.failed.append(study.rows()[STOCK])
        else:
            study.finish(self._plan.effort.final, limited=bool(self._plan.trials))
        return self._conclude(problem, study, began, resumed=False)

    def _shared(self) -> Shared:
        return Shared(
            self._plan,
            self._ledger,
            self._learned,
            lambda problem, seed: self._device.open(problem, seed, self._ledger.origin.load),
            self.stopped,
            self._listener.measured,
            self._clock,
            self._sleep,
        )

    def _conclude(self, problem: Problem, study: ProblemStudy, began: float, resumed: bool) -> Done:
        rows = self._plan.asked_for(study.rows())
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

    def _held(self, problem: Problem, study: ProblemStudy) -> Route | None:
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


def _stock_failed(study: ProblemStudy) -> bool:
    row = study.rows().get(STOCK)
    return row is not None and row.status != results.OK
