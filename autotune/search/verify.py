"""Whether every kernel computes what it should, on one device: what to try, trying it, and what came of it.

For each kind of problem that a kernel serves there is a small covering set of its configs: every candidate value of
every parameter occurs in at least one of them (the least that combinatorial testing asks for). The usual kinds see the
whole set and every case; the others, of which there are dozens, a config and a third of the cases each, dealt in turn.
"""

from __future__ import annotations

import itertools
import queue
import random
import shlex
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Protocol

from .. import kernels
from ..devices import cases
from ..devices.base import RouteFailed
from ..devices.bounds import UNIT_ROUNDOFF
from ..devices.cases import Case, Kind
from ..devices.proof import CHECK, Element, Proof, promise
from ..errors import FAILED, OK, WRONG, UsageError, unknown
from ..kernels import STOCK, Config, Kernel, Route
from ..problem import Family, Problem
from . import accuracy, space

EDGES = 64
"""A config's values up to this one set M of its own cases."""
SOME_M = (1, 2, 3, 4, 5, 8, 9, 16, 17, 33, 64, 128, 256)
"""A route that is legal for a problem must be right for every M (``Kernel.build``); one of these makes it legal."""
CORNERS = ((3, 70, 261), (13, 130, 2070), (61, 520, 2070), (250, 1030, 4130), (13, 1030, 16500))
"""M, N and K where configs are enumerated, smallest first: a value is covered where it first becomes legal."""
MOST_ENUMERATED = 6000
"""Points of a space, or of a part of it drawn at random, among which covering configs are looked for."""
MOST_FAILURES = 3
"""Failures of one route on one kind after which its other cases there are skipped."""
THIN = 3
"""Kinds besides the usual ones see every third case."""
SWEEP_CASES = 4
"""Cases of a kind that a sweep tries before it measures."""
REFUSED = "refused"
"""A failure that is MLX's own."""


@dataclass(frozen=True)
class Target:
    """Where kernels run: ``name`` as ``--device`` says it; ``ways`` in which the MSL host runs them, else one empty."""

    name: str
    backend: str
    nax: bool
    ways: tuple[str, ...] = ("",)

    @property
    def host(self) -> bool:
        """Whether a processor stands in for a GPU: only kernels that need one run there."""
        return self.name == "msl-host"

    @property
    def fills(self) -> bool:
        """Whether it is a GPU, with cores to fill."""
        return self.backend != "cpu" and not self.host


@dataclass(frozen=True)
class Work:
    """A config on a kind of problem, and the cases to try it on."""

    route: Route
    kind: Kind
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Failure:
    """What went wrong on one case. ``kind`` is ``wrong``, or how it failed to run: raised, crashed, hung, memory; or
    ``refused``, where MLX does not compute what a composition is made of (``Proof.refused``)."""

    route: Route
    case: Case
    way: str
    kind: str
    detail: str
    element: Element | None = None

    def command(self, device: str, seed: int) -> str:
        """The command that repeats it."""
        words = ["autotune", "verify", "--device", device, "--route", str(self.route), "--case", str(self.case)]
        words += ["--seed", str(seed)]
        if self.way:
            words += ["--check"] if self.way == CHECK else ["--schedule", self.way]
        return shlex.join(words)


@dataclass
class Verdict:
    """One kernel on one device. ``worst`` is the largest error as a share of its bound, on ``worst_case``; ``promised``
    says whether the kernel is held to a bound of its own; ``failures`` are the first few of each route and kind."""

    kernel: str
    fingerprint: str
    promised: bool
    configs: set[Route] = field(default_factory=set)
    kinds: set[Kind] = field(default_factory=set)
    runs: int = 0
    worst: float = 0.0
    worst_case: str = ""
    failures: list[Failure] = field(default_factory=list)
    beyond: int = 0

    @property
    def wrong(self) -> list[Failure]:
        return [each for each in self.failures if each.kind == "wrong"]

    @property
    def refused(self) -> list[Failure]:
        """What MLX does not compute, called alone on the same operands: a routed call takes stock there."""
        return [each for each in self.failures if each.kind == REFUSED]

    @property
    def failed(self) -> list[Failure]:
        """What did not run to its end, and should have."""
        return [each for each in self.failures if each.kind not in ("wrong", REFUSED)]

    @property
    def said(self) -> str:
        """``right``, ``wrong``, ``failed``, ``refused`` where MLX refused all of it, or ``not run`` where no config of
        it is legal here."""
        if self.wrong or self.failed:
            return "wrong" if self.wrong else "failed"
        return "right" if self.runs > len(self.refused) else REFUSED if self.runs else "not run"


@dataclass
class Outcome:
    """What a verification found: a verdict for each kernel, by name."""

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """6 where a result is wrong, else 1 where something did not run, else 0."""
        said = {verdict.said for verdict in self.verdicts.values()}
        return WRONG if "wrong" in said else FAILED if "failed" in said else OK


class Prover(Protocol):
    """Who runs a route on a case: an isolated worker, or this process."""

    def prove(self, route: Route, case: Case, seed: int, way: str = "") -> Proof:
        """Raises :class:`RouteFailed` where the route does not run to its end."""

    def close(self) -> None: ...


class Listener(Protocol):
    """Who is told how it goes."""

    def started(self, works: int) -> None: ...

    def done(self, work: Work, failures: Sequence[Failure]) -> None: ...


def chosen(target: Target, names: Sequence[str]) -> list[Kernel]:
    """The kernels to verify: those named, or all that run on the target. Raises :class:`UsageError` for one that does
    not run there."""
    running = [kernel for kernel in kernels.KERNELS.values() if _runs(kernel, target)]
    if not names:
        return running
    for name in names:
        if kernels.kernel(name) not in running:
            known = ", ".join(kernel.name for kernel in running)
            raise UsageError(f"kernel {name} does not run on {target.name}", f"there: {known or 'none'}")
    return [kernel for kernel in running if kernel.name in names]


def _runs(kernel: Kernel, target: Target) -> bool:
    # What runs on a CPU too is a composition of MLX's own ops, and has nothing for the host to run.
    return kernel.runs_on(target.backend, target.nax) and not (target.host and kernel.runs_on("cpu", False))


def plan(target: Target, names: Sequence[str] = (), exhaustive: bool = False) -> list[Work]:
    """What to try on a target: a covering set of each kernel's configs, or all of them if ``exhaustive``."""
    works = []
    for kernel in chosen(target, names):
        pool = [] if exhaustive else _pool(kernel, target.backend)
        others: dict[Kind, list[Route]] = {}
        for number, kind in enumerate(cases.kinds(kernel.ops)):
            if exhaustive:
                sets = (space.legal_set(kernel, kind.problem(*corner), target.backend) for corner in CORNERS)
                routes = [STOCK] if kernel.name == STOCK.kernel else list(dict.fromkeys(itertools.chain(*sets)))
            else:
                routes = [route for route in pool if home(kernel, route, kind)]
                alike = replace(kind, dtype="f16")
                if not routes and alike not in others:
                    others[alike] = _pool(kernel, target.backend, alike)
                routes = routes or [route for route in others[alike] if home(kernel, route, kind)]
                if not kind.usual:
                    routes = [routes[number % len(routes)]] if routes else []
            thin = 1 if exhaustive or kind.usual else THIN
            works += [work(kernel, route, kind, target, number, thin) for route in routes]
    return [each for each in works if each.cases]


def given(target: Target, routes: Sequence[Route], chosen_cases: Sequence[Case]) -> list[Work]:
    """What ``--route`` and ``--case`` ask for: these routes on these cases, or on all cases of every kind."""
    works = []
    for route in routes:
        kernel = kernels.kernel(route.kernel)
        chosen(target, [kernel.name])
        _require_whole(kernel, route)
        if chosen_cases:
            mine = [
                Work(route, Kind.of(case.problem), (case,))
                for case in chosen_cases
                if _serves(kernel, route, case.problem)
            ]
        else:
            kinds = cases.kinds(kernel.ops)
            mine = [work(kernel, route, kind, target, 0, 1) for kind in kinds if home(kernel, route, kind)]
        if not mine:
            where = "these cases" if chosen_cases else "any case"
            raise UsageError(
                f"route '{route}' is not legal for {where}", "its parameters are those of the kernel's space"
            )
        works += mine
    return works


def _require_whole(kernel: Kernel, route: Route) -> None:
    """Raises :class:`UsageError` for a route that lacks parameters of its kernel, has others, or has them in another
    order."""
    config, names = route.config, list(kernel.parameters)
    for name in config:
        if name not in names:
            raise unknown(f"parameter of {kernel.name}:", name, names)
    if missing := [name for name in names if name not in config]:
        raise UsageError(f"route '{route}' lacks {', '.join(missing)}", f"{kernel.name} takes {', '.join(names)}")
    if list(config) != names or len(route.items) != len(names):
        raise UsageError(f"route '{route}' has its parameters in another order", f"write {', '.join(names)}, each once")
    for name, value in config.items():
        if not kernel.parameters[name].holds(value):
            raise UsageError(f"route '{route}': {name} cannot be {value}", f"autotune spaces --kernel {kernel.name}")


def work(kernel: Kernel, route: Route, kind: Kind, target: Target, number: int, thin: int) -> Work:
    """The cases of a kind for a config: those of the table where it is legal, and its own; every ``thin``-th of them,
    from the ``number``-th on."""
    place = home(kernel, route, kind)
    if place is None:
        return Work(route, kind, ())
    strict = promise(kernel) is not None
    listed = cases.table(kind, strict, filling=target.fills)
    values = [value for value in route.config.values() if isinstance(value, int)]
    own = cases.around(kind, values, *place, strict, EDGES)
    kept = [case for case in dict.fromkeys([*listed, *own]) if _serves(kernel, route, case.problem)]
    return Work(route, kind, tuple(kept[number % thin :: thin] or kept[:1]))


def home(kernel: Kernel, route: Route, kind: Kind) -> tuple[int, int] | None:
    """The smallest N and K of the ladders at which a config is legal for the kind, or None."""
    if not any(_serves(kernel, route, kind.problem(1, n, k)) for n, k in _FAR):
        return None
    for n, k in _LADDER:
        if _serves(kernel, route, kind.problem(1, n, k)):
            return n, k
    return None


_LADDER = sorted(itertools.product(cases.LADDER_N, cases.LADDER_K), key=lambda size: (size[0] * size[1], size))
_FAR = ((130, 2070), (1030, 16500))
"""Where a config is legal that is legal anywhere."""


def _serves(kernel: Kernel, route: Route, problem: Problem) -> bool:
    """Whether the route is legal for the problem at its own or some other M."""
    config = route.config
    return kernel.accepts(problem, config) or any(kernel.accepts(each, config) for each in _at_some_m(problem.family))


@lru_cache(maxsize=4096)
def _at_some_m(family: Family) -> tuple[Problem, ...]:
    return tuple(family.at(m) for m in SOME_M)


def _pool(kernel: Kernel, backend: str, of: Kind | None = None) -> list[Route]:
    """Covering configs of a kernel, found on a float16 kind of each layout, or on the kind given, where most kinds that
    are asked for have none."""
    first = [k for k in cases.kinds(kernel.ops[:1]) if k.dtype == "f16" and k.batch == 1]
    shown = [of] if of else [k for k in first if k.quantization is None or str(k.quantization) == cases.USUAL]
    corners = CORNERS[2:3] if of else CORNERS
    return list(dict.fromkeys(route for kind in shown for route in cover(_corners(kernel, kind, backend, corners))))


def _corners(
    kernel: Kernel, kind: Kind, backend: str, corners: Sequence[tuple[int, int, int]]
) -> Iterator[Sequence[Route]]:
    """Legal configs of the kind at each corner in turn: all of them, or of a large space a random part (always the
    same) in which each value has its chance."""
    if kernel.name == STOCK.kernel:
        yield [STOCK]
        return
    for corner in corners:
        problem = kind.problem(*corner)
        if space.raw_size(kernel, backend) <= MOST_ENUMERATED:
            yield space.legal_set(kernel, problem, backend)
        else:
            # Candidates lie in the declared space, so legality alone is asked for: it is a third of the work.
            yield [route for route, config in _drawn(kernel, backend) if kernel.legal(problem, config)]


@lru_cache(maxsize=64)
def _drawn(kernel: Kernel, backend: str) -> tuple[tuple[Route, Config], ...]:
    """Points of a large space: as many for each value of each parameter, the others at random."""
    values, rng = space.candidates(kernel, backend), random.Random(0)
    found: dict[Route, None] = {}
    for number, choices in enumerate(values):
        for choice in choices:
            for _ in range(MOST_ENUMERATED // sum(map(len, values))):
                point = [rng.choice(each) for each in values]
                point[number] = choice
                found[Route.of(kernel.name, dict(zip(kernel.parameters, point)))] = None
    return tuple((route, route.config) for route in found)


def cover(sets: Iterable[Sequence[Route]]) -> list[Route]:
    """A few routes in which every value of every parameter occurs that occurs in any of the sets, from the first set in
    which it does.

    Greedy: the route with most values that are still missing comes next. The order of looking is shuffled, always in
    the same way, so that values meet in other pairs than the first of each list.
    """
    found: list[Route] = []
    for routes in sets:
        left = list(routes)
        random.Random(0).shuffle(left)
        missing = {item for route in left for item in route.items}.difference(*(route.items for route in found))
        if left and not found and not missing:
            found.append(left[0])
        while missing:
            best = max(left, key=lambda route: len(missing.intersection(route.items)))
            missing.difference_update(best.items)
            found.append(best)
    return found


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


def judged(route: Route, case: Case, proof: Proof) -> tuple[str, float]:
    """Why a run is wrong, or an empty text; and its worst error as a share of what is allowed.

    A composition beyond its elements' bound may still be as good as the sweep demands: its error, as a multiple of
    stock's, is then the share.
    """
    if proof.share <= 1:
        return "", proof.share
    if proof.finding or proof.element is None:
        return proof.finding or "no element to judge", float("inf")
    if proof.accuracy is not None:
        mine, stock = proof.accuracy
        factor = kernels.kernel(route.kernel).accuracy
        objection = accuracy.objection(mine, stock, case.problem.dtype, factor)
        limit = accuracy.SLACK * factor * max(stock.error, UNIT_ROUNDOFF[case.problem.dtype] / 2)
        return objection, mine.error / limit
    e = proof.element
    return f"element {list(e.index)} is {e.got:.9g}, not {e.expected:.9g} within {e.allowed:.3g}", e.share


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
        if _runs(kernel, target) and promise(kernel) is not None and (not names or kernel.name in names)
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
