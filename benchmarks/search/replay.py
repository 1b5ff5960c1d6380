"""How close a sweep comes to exhaustive search on spaces of our own, at a share of its measurements.

    python benchmarks/search/replay.py tuned_tables/h100.csv [--share 10 --share 25] [--seeds 10] [--leave-out]

Replays a sweep on recorded results: a route takes the time that the file has for it, without noise, and one that was
refused there is refused again. Only kernels of which the file has every legal route of every problem take part, since
nothing is known of what a search left out; all of them but stock are searched here. Each problem gets the same number
of measurements, that share of the mean number of routes, in the order in which a sweep takes the problems, so that each
starts from its neighbours' winners and from what was learned before.

``f``: the time of the best recorded route over that of the best found one, stock included, geometric mean over the
problems. ``near``: the share of problems within 2 % of the best. Both are means over seeds, with the least and the
most.
``random`` deals the same number of routes without looking at anything.

With ``--leave-out`` every problem is searched by itself while the others are known whole, as where one is added to what
was tuned before: ``neighbours`` is the sweep with the winners and costs of the others, ``seeds`` deals nothing but
those winners in the sweep's order, ``nothing`` is the sweep without them.
"""

from __future__ import annotations

import argparse
import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from optuna.storages import InMemoryStorage

from autotune import kernels
from autotune.devices.base import Accuracy, RouteFailed
from autotune.kernels import STOCK, Route
from autotune.machine import Machine
from autotune.problem import Problem
from autotune.search import results, space, studies, sweep, tuner
from autotune.search.measure import EFFORTS
from autotune.search.plan import Plan
from autotune.search.results import Result
from autotune.search.stats import geometric_mean
from autotune.search.studies import ProblemStudy

NEAR = 1.02
Recorded = Mapping[Problem, Mapping[Route, Result]]


class Replay:
    """A device that takes as long as the results say, in no time; a :class:`autotune.devices.base.Device`."""

    def __init__(self, recorded: Recorded) -> None:
        row = next(iter(next(iter(recorded.values())).values()))
        kind = "cpu" if row.backend == "cpu" else "gpu"
        self.machine = Machine(
            kind, row.backend, row.device_name, row.architecture, row.cores, row.nax, row.os, row.mlx
        )
        self._recorded = recorded

    def open(self, problem: Problem, seed: int, load: str) -> Session:
        return Session(self._recorded[problem])

    def close(self) -> None:
        """Nothing to let go of."""


class Session:
    """One recorded problem."""

    def __init__(self, rows: Mapping[Route, Result]) -> None:
        self._rows = rows

    def check(self, route: Route) -> Accuracy:
        row = self._rows[route]
        if row.status == results.FAILED:
            raise RouteFailed("raised", row.reason)
        error = 9.0 if row.status == results.INACCURATE else 1e-9
        return Accuracy(error, error, 0.0)

    def time(self, route: Route, calls: int) -> float:
        return calls / self._rows[route].speedup if route != STOCK else float(calls)

    def host(self, route: Route, calls: int) -> float:
        return 0.0


class Silent:
    """A listener that hears nothing."""

    def started(self, problem: Problem, number: int, total: int, eta: float | None) -> None: ...

    def measured(
        self, problem: Problem, result: Result, best: Result | None, seconds: float, play_off: bool
    ) -> None: ...

    def finished(self, done: sweep.Done) -> None: ...


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, help="results with kernels of which every legal route was measured")
    parser.add_argument("--share", type=float, action="append", help="percent of the measurements (repeatable)")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--leave-out", action="store_true", help="each problem with all others known")
    options = parser.parse_args()
    strategies = LEFT_OUT if options.leave_out else IN_TURN
    recorded = read(options.csv)
    for kernel in kernels.KERNELS.values():
        kernel.searched = kernel.name != STOCK.kernel
    routes = [len(rows) - 1 for rows in recorded.values()]
    print(f"{len(recorded)} problems, {min(routes)} to {max(routes)} routes besides stock, {options.seeds} seeds")
    print(f"kernels: {', '.join(names(recorded))}\n")
    print("| routes a problem | of all | strategy | f | near |\n| ---: | ---: | --- | ---: | ---: |")
    for share in options.share or [10.0, 25.0, 50.0]:
        budget = max(1, round(share / 100 * fmean(routes)))
        measured = sum(min(budget, each) for each in routes) / sum(routes)
        for name, run in strategies.items():
            found = [run(recorded, budget, seed) for seed in range(options.seeds)]
            f = [geometric_mean(each) for each in found]
            near = [fmean(value * NEAR >= 1 for value in each) for each in found]
            print(f"| {budget} | {measured:.1%} | {name} | {_spread(f)} | {_spread(near)} |")


UNFINISHED = 0.1


def read(path: Path) -> Recorded:
    """The timed and refused rows of stock and of the kernels that were measured whole; problems of a family together
    and by M. A kernel that is short of routes at more than a tenth of the problems was searched and takes no part; a
    problem at which one of the others is short was not finished, and takes none either."""
    found: dict[Problem, dict[Route, Result]] = defaultdict(dict)
    for row in sorted(results.read(path), key=results.sort_key):
        found[Problem.parse(row.problem)][Route.parse(row.route)] = row
    short = {name: {problem for problem in found if not _whole(name, problem, found[problem])} for name in names(found)}
    whole = [name for name, problems in short.items() if len(problems) <= UNFINISHED * len(found)]
    left_out = set().union(*(short[name] for name in whole))
    kept = {problem: rows for problem, rows in found.items() if problem not in left_out}
    if not whole or not kept:
        raise SystemExit(f"{path}: no kernel was measured whole")
    return {
        problem: {route: row for route, row in rows.items() if route.kernel in (STOCK.kernel, *whole)}
        for problem, rows in kept.items()
    }


def names(recorded: Recorded) -> tuple[str, ...]:
    """The kernels besides stock that have rows."""
    every = {route.kernel for rows in recorded.values() for route in rows}
    return tuple(sorted(every - {STOCK.kernel}))


def _whole(kernel: str, problem: Problem, rows: Mapping[Route, Result]) -> bool:
    """Whether every route that a sweep could ask for has a row."""
    return all(route in rows for route in space.legal_routes(problem, rows[STOCK].backend, [kernel], rows[STOCK].nax))


def swept(recorded: Recorded, budget: int, seed: int) -> list[float]:
    """f of each problem after a sweep with so many routes a problem."""
    origin = next(iter(next(iter(recorded.values())).values())).origin
    storage = InMemoryStorage()
    plan = Plan(tuple(recorded), replace(EFFORTS["quick"], searched=budget), names(recorded), seed=seed)

    def open_study(problem: Problem, routes: Sequence[Route]) -> ProblemStudy:
        return ProblemStudy(storage, problem, origin, routes)

    outcome = sweep.Sweep(Replay(recorded), origin, plan, open_study, Silent(), sleep=lambda seconds: None).run()
    return [
        _f(recorded[done.problem], [Route.parse(done.best.route)] if done.best is not None else [])
        for done in outcome.done
    ]


def drawn(recorded: Recorded, budget: int, seed: int) -> list[float]:
    """The same for routes that are drawn at random."""
    rng = random.Random(seed)
    found = []
    for rows in recorded.values():
        routes = [route for route in rows if route != STOCK]
        found.append(_f(rows, rng.sample(routes, min(budget, len(routes)))))
    return found


def with_neighbours(recorded: Recorded, budget: int, seed: int) -> list[float]:
    """f of each problem after a sweep of so many routes of it alone, the others being known whole."""
    return [_alone(recorded, problem, budget, seed, known=True) for problem in recorded]


def with_nothing(recorded: Recorded, budget: int, seed: int) -> list[float]:
    """The same with nothing known."""
    return [_alone(recorded, problem, budget, seed, known=False) for problem in recorded]


def with_seeds(recorded: Recorded, budget: int, seed: int) -> list[float]:
    """The same for the neighbours' winners alone, as many as there are up to the budget; ``seed`` plays no part."""
    found = []
    for problem, rows in recorded.items():
        winners = _Known(recorded, problem, len(rows), seed).seeds(problem)
        found.append(_f(rows, [route for route in winners if route in rows][:budget]))
    return found


def _alone(recorded: Recorded, problem: Problem, budget: int, seed: int, known: bool) -> float:
    others = recorded if known else {problem: recorded[problem]}
    (done,) = _Known(others, problem, budget, seed).run().done
    return _f(recorded[problem], [Route.parse(done.best.route)] if done.best is not None else [])


class _Known(sweep.Sweep):
    """A sweep of one problem after all others, that with the nearest M of its family last.

    Their winners are the fastest that took part, dropped or not: what was dropped for being slower than a kernel that
    takes no part would not have been.
    """

    def __init__(self, recorded: Recorded, problem: Problem, budget: int, seed: int) -> None:
        origin, storage = recorded[problem][STOCK].origin, InMemoryStorage()
        plan = Plan((problem,), replace(EFFORTS["quick"], searched=budget), names(recorded), seed=seed)

        def open_study(problem: Problem, routes: Sequence[Route]) -> ProblemStudy:
            return ProblemStudy(storage, problem, origin, routes)

        super().__init__(Replay(recorded), origin, plan, open_study, Silent(), sleep=lambda seconds: None)
        far = {each: abs(math.log(each.m / problem.m)) for each in recorded if each != problem}
        for each in sorted(far, key=lambda each: (-far[each], -each.m)):
            costs = [(route, 1 / row.speedup if row.speedup else math.inf) for route, row in recorded[each].items()]
            timed = [(cost, route) for route, cost in costs if route != STOCK and math.isfinite(cost)]
            winners = [route for _, route in sorted(timed, key=lambda pair: pair[0])[: tuner.WINNERS]]
            self._learned.keep(each, costs)
            self._winners.setdefault(each.family, {})[each.m] = winners


IN_TURN = {"autotune": swept, "random": drawn}
LEFT_OUT = {"neighbours": with_neighbours, "seeds": with_seeds, "nothing": with_nothing, "random": drawn}


def _f(rows: Mapping[Route, Result], measured: Sequence[Route]) -> float:
    speedups = {route: row.speedup for route, row in rows.items() if row.status in (results.OK, results.PRUNED)}
    best = max([1.0, *(value for route, value in speedups.items() if route != STOCK)])
    return max([1.0, *(speedups.get(route, 0.0) for route in measured)]) / best


def _spread(values: Sequence[float]) -> str:
    return f"{fmean(values):.3f} ({min(values):.3f}-{max(values):.3f})"


if __name__ == "__main__":
    studies.optuna.logging.set_verbosity(studies.optuna.logging.ERROR)
    main()
