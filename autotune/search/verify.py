"""Whether every kernel computes what it should, on one device: trying what ``trials.py`` lists."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol

from .. import kernels
from ..devices.base import RouteFailed
from ..devices.cases import Case, Kind
from ..devices.proof import Proof, promise
from ..kernels import STOCK, Route
from ..problem import Problem
from . import space
from .cover import cover
from .trials import Target, Work, runs, work
from .verdict import REFUSED, Failure, Outcome, Verdict, judged

MOST_FAILURES = 3
"""Failures of one route on one kind after which its other cases there are skipped."""
SWEEP_CASES = 4
"""Cases of a kind that a sweep tries before it measures."""


class Prover(Protocol):
    """Who runs a route on a case: an isolated worker, or this process."""

    def prove(self, route: Route, case: Case, seed: int, way: str = "") -> Proof:
        """Raises :class:`RouteFailed` where the route does not run to its end."""

    def close(self) -> None: ...


class Listener(Protocol):
    """Who is told how it goes."""

    def started(self, works: int) -> None: ...

    def done(self, work: Work, failures: Sequence[Failure]) -> None: ...


def verify(
    works: Sequence[Work],
    provers: Sequence[Prover],
    seed: int,
    ways: Sequence[str],
    listener: Listener,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Tries all works, on as many threads as there are provers, and gathers a verdict for each kernel."""
    began, outcome, lock = clock(), Outcome(), threading.Lock()
    for name in dict.fromkeys(each.route.kernel for each in works):
        kernel = kernels.kernel(name)
        outcome.verdicts[name] = Verdict(name, kernels.fingerprint.of(kernel), promise(kernel) is not None)
    waiting: queue.SimpleQueue[Work] = queue.SimpleQueue()
    for each in works:
        waiting.put(each)
    listener.started(len(works))
    broken: list[BaseException] = []

    def serve(prover: Prover) -> None:
        try:
            while not broken:
                try:
                    each = waiting.get_nowait()
                except queue.Empty:
                    return
                tried = _Try(each, seed)
                tried.run(prover, ways)
                with lock:
                    tried.enter(outcome.verdicts[each.route.kernel])
                    listener.done(each, tried.failures)
        except BaseException as error:  # the caller's to see, not a thread's to die of
            broken.append(error)

    threads = [threading.Thread(target=serve, args=(prover,), daemon=True) for prover in provers]
    for thread in threads:
        thread.start()
    try:
        while any(thread.is_alive() for thread in threads):
            for thread in threads:
                thread.join(0.1)
    except BaseException as error:  # Ctrl-C: no thread may take another work
        broken.append(error)
        raise
    if broken:
        raise broken[0]
    for verdict in outcome.verdicts.values():
        verdict.failures.sort(key=lambda failure: (str(failure.route), str(failure.case), failure.way))
    outcome.seconds = clock() - began
    return outcome


class _Try:
    """One work being tried."""

    def __init__(self, work: Work, seed: int) -> None:
        self.work = work
        self.failures: list[Failure] = []
        self._seed = seed
        self._runs = 0
        self._worst = 0.0
        self._worst_case = ""
        self._beyond = 0

    def run(self, prover: Prover, ways: Sequence[str]) -> None:
        """Every case in every way, until the route fails to run or has been wrong often enough."""
        for case, way in itertools.product(self.work.cases, ways):
            failure = self._one(prover, case, way)
            if failure is None:
                continue
            self.failures.append(failure)
            ours = [each for each in self.failures if each.kind != REFUSED]
            if failure.kind not in ("wrong", REFUSED) or len(ours) >= MOST_FAILURES:
                return

    def enter(self, verdict: Verdict) -> None:
        verdict.configs.add(self.work.route)
        verdict.kinds.add(self.work.kind)
        verdict.runs += self._runs
        verdict.beyond += self._beyond
        verdict.failures += self.failures
        # Of equal errors the first by name, whichever thread comes first.
        mine, known = (-self._worst, self._worst_case), (-verdict.worst, verdict.worst_case)
        if self._worst_case and (not verdict.worst_case or mine < known):
            verdict.worst, verdict.worst_case = self._worst, self._worst_case

    def _one(self, prover: Prover, case: Case, way: str) -> Failure | None:
        route = self.work.route
        self._runs += 1
        try:
            proof = prover.prove(route, case, self._seed, way)
        except RouteFailed as failure:
            return Failure(route, case, way, failure.kind, failure.detail)
        if proof.refused:
            return Failure(route, case, way, REFUSED, proof.refused)
        objection, share = judged(route, case, proof)
        if share > self._worst or not self._worst_case:
            self._worst, self._worst_case = share, str(case)
        if route == STOCK:
            self._beyond += bool(objection)
            return None
        return Failure(route, case, way, "wrong", objection, proof.element) if objection else None


def before_sweep(
    problems: Sequence[Problem],
    names: Sequence[str],
    target: Target,
    prover: Prover,
    seed: int,
    budget: float = 10.0,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Failure]:
    """The kernels of our own that a sweep must leave out, with the first thing that went wrong in each.

    Each is tried with two configs on a handful of small cases of every kind among the sweep's problems; one that is
    wrong once is left out, and one of which both configs fail to run. That goes on until the
    ``budget`` in seconds is spent: the sweep compares every route with a reference on its own problem besides. Stock
    and compositions of stock ops are left to that.
    """
    began = clock()
    wrong: dict[str, Failure] = {}
    refused: dict[tuple[str, Kind], Failure] = {}
    failed: dict[tuple[str, Kind], Route] = {}
    by_kind: dict[Kind, list[Problem]] = defaultdict(list)
    for problem in problems:
        by_kind[Kind.of(problem)].append(problem)
    offered = [
        kernel
        for kernel in kernels.KERNELS.values()
        if runs(kernel, target) and promise(kernel) is not None and (not names or kernel.name in names)
    ]
    for kind, kernel in itertools.product(by_kind, offered):
        if kernel.name in wrong or kind.op not in kernel.ops:
            continue
        routes = cover([space.legal_set(kernel, by_kind[kind][-1], target.backend)])[:2]
        for route, case in ((r, c) for r in routes for c in _few(work(kernel, r, kind, target, 0, 1).cases)):
            if clock() - began > budget:
                return wrong
            tried = _Try(Work(route, kind, (case,)), seed)
            tried.run(prover, ("",))
            failure = tried.failures[0] if tried.failures else None
            if failure and (failure.kind == "wrong" or failed.setdefault((kernel.name, kind), route) != route):
                wrong[kernel.name] = failure
                break
            if failure:
                refused[kernel.name, kind] = failure
        else:
            if len(routes) == 1 and (kernel.name, kind) in refused:
                wrong[kernel.name] = refused[kernel.name, kind]
    return wrong


def _few(many: Sequence[Case]) -> list[Case]:
    """A handful: a ragged shape, the edge of the config's tiles, and the variants that find most."""
    wanted = [case for case in many if case.variant in ("surrounded", "special")]
    plain = [case for case in many if case.variant == "plain" and case.problem.m < 64]
    return [*plain[-2:], *wanted][:SWEEP_CASES]
