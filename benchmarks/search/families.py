"""How close the search comes to exhaustive search on whole recorded spaces of our kernels, at a share of their configs.

    python benchmarks/search/families.py FOLDER [--simulate m4pro --simulate m5max] [--share 10 --share 20] [--seeds 10]

FOLDER holds T4 files as ``autotune sweep --record FOLDER`` writes them. With ``--simulate`` the spaces of ``PROBLEMS``
are first recorded there on a model of that chip, with its noise (docs/simulated.md): no number then comes from a chip,
and the table says so.

Each problem gets that share of its own legal configs as measurements. ``sweep`` is what ``autotune sweep`` does: the
problems of a kernel in its order, each from the winners and costs of those before. The others begin each problem anew:
``portfolio`` is the same search without neighbours, ``optuna_tpe`` and ``random`` as in ``run.py``. ``f`` is the time
of the best config over that of the best one found, ``near`` the share of runs within 2 % of the best: means over
problems and seeds, for all kernels together with 95 % intervals over seeds. ``good`` says how easy it is, as the median
share of configs that are within 2 % of the best.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import replay
import score
import spaces as folders
from optuna.storages import InMemoryStorage
from strategies import STRATEGIES

from autotune import kernels
from autotune._version import __version__
from autotune.errors import UsageError
from autotune.kernels import STOCK, Route
from autotune.problem import Problem
from autotune.search import record, results, space, studies, sweep
from autotune.search.measure import EFFORTS, Meter
from autotune.search.plan import Plan
from autotune.search.recorded import Recorded
from autotune.search.results import Origin, Result

ROUNDS = 3
"""Rounds with stock that a config gets where a space is recorded on a model."""
QUANTIZED, DENSE = "quantized_matmul M={} {} f16 affine-b4-g64 nt", "matmul M={} {} f16 nt"
SHAPES = "N=4096 K=4096", "N=13824 K=5120"
PROBLEMS = {
    "qmv": (QUANTIZED, (1, 3, 6)),
    "qmv_mma": (QUANTIZED, (4, 8, 16)),
    "gemv": (DENSE, (1, 3, 6)),
    "qmm": (QUANTIZED, (16, 64, 256)),
    "qmm_nax": (QUANTIZED, (16, 64, 256)),
    "gemm": (DENSE, (16, 128, 1024)),
    "gemm_nax": (DENSE, (16, 128, 1024)),
}
"""What is recorded on a model: a few M that each kernel is for, at a square shape and an MLP's."""


@dataclass(frozen=True)
class Space:
    """One problem's whole space of one kernel: configs with their milliseconds, and stock's."""

    problem: Problem
    origin: Origin
    recorded: Recorded
    stock: float

    def rows(self) -> dict[Route, Result]:
        """The space as a sweep's results, which a replay takes times from."""
        return {STOCK: self._row(STOCK, self.stock)} | {
            self.route(number): self._row(self.route(number), float(cost))
            for number, cost in enumerate(self.recorded.costs)
        }

    def route(self, number: int) -> Route:
        return Route.of(self.recorded.about["kernel_name"], self.recorded.points.config(number))

    def _row(self, route: Route, ms: float) -> Result:
        stamp: dict[str, Any] = {"kernel": "", "space": "", "date": "", "seed": 0, "error": 0.0, "stock_error": 0.0}
        if not math.isfinite(ms):
            return results.untimed(self.problem, route, results.FAILED, "failed", origin=self.origin, **stamp)
        times, ratios = ([self.stock / 1e3], [ms / 1e3]), [math.log(self.stock / ms)]
        return results.timed(self.problem, route, results.OK, *times, ratios, origin=self.origin, **stamp)


Spaces = Mapping[tuple[str, str], Sequence[Space]]
"""By kernel and chip, the problems in the order of a sweep."""


def main() -> None:
    options = _options()
    try:
        for chip in options.simulate or ():
            simulate(chip, options.folder)
        spaces = read(options.folder)
        if not spaces:
            raise UsageError(f"{options.folder} has no space of a searched kernel", "see --simulate, or autotune sweep")
    except UsageError as error:
        raise SystemExit(f"families.py: {error}") from None
    for share in options.share or [10.0]:
        print(table(spaces, share, options.seeds, options.strategy or list(RUNS)), end="\n\n")


def simulate(name: str, folder: Path) -> None:
    """Records the spaces of ``PROBLEMS`` that the chip has and the folder lacks."""
    from autotune.devices.simulated import chip
    from autotune.devices.simulated.device import SimulatedDevice

    device = SimulatedDevice(chip.get(name))
    origin = Origin.of(device.chip.id, device.machine, __version__, "chained", "simulated")
    known = {(each.problem, kernel) for (kernel, at), found in read(folder).items() for each in found if at == name}
    for kernel, (template, ms) in PROBLEMS.items():
        if not kernels.kernel(kernel).runs_on("metal", device.chip.nax):
            continue
        for problem in (Problem.parse(template.format(m, shape)) for shape in SHAPES for m in ms):
            if (problem, kernel) in known:
                continue
            meter = Meter(device.open(problem, 0, origin.load), EFFORTS["quick"])
            rows = []
            for route in space.legal_routes(problem, "metal", [kernel], device.chip.nax):
                comparison = meter.compare(route)
                meter.settle(comparison, ROUNDS)
                c = comparison
                stamp: dict[str, Any] = {"kernel": "", "space": "", "date": "", "seed": 0, "error": 0.0}
                rows.append(
                    results.timed(
                        problem, route, results.OK, c.stock, c.times, c.ratios, origin=origin, stock_error=0.0, **stamp
                    )
                )
            record.write(rows, folder)


def read(folder: Path) -> Spaces:
    """The whole spaces of searched kernels in the folder's T4 files.

    Raises :class:`UsageError` for a file that is none, for one without stock's times beside it, and where a kernel's
    legal configs are not those that the file has.
    """
    every = [folders.read(path) for path in folders.paths(folder)]
    stock = {_place(each): each.optimum for each in every if each.about.get("kernel_name") == STOCK.kernel}
    found: dict[tuple[str, str], list[Space]] = defaultdict(list)
    for each in every:
        kernel = each.about.get("kernel_name", "")
        if kernel not in kernels.KERNELS or not kernels.kernel(kernel).searched:
            continue
        problem = Problem.parse(each.about["problem"])
        origin = Origin(**{field.name: each.about[field.name] for field in fields(Origin)})
        if _place(each) not in stock:
            raise UsageError(f"{each.name}: stock's times are missing", "record the problem again")
        found[kernel, origin.chip].append(Space(problem, origin, each, stock[_place(each)]))
    return {key: sorted(each, key=lambda one: (one.problem.family, one.problem.m)) for key, each in found.items()}


def _place(each: Recorded) -> tuple[str, str]:
    return each.about["chip"], each.about["problem"]


def swept(spaces: Sequence[Space], budgets: Sequence[int], seed: int) -> list[list[float]]:
    """Milliseconds of each problem's configs in the order in which a sweep measures them."""
    rows = {each.problem: each.rows() for each in spaces}
    kernel, origin = spaces[0].recorded.about["kernel_name"], spaces[0].origin
    storage, opened = InMemoryStorage(), []

    def open_study(problem: Problem, routes: Sequence[Route]) -> studies.ProblemStudy:
        opened.append(studies.ProblemStudy(storage, problem, origin, routes))
        return opened[-1]

    plan = Plan(tuple(rows), EFFORTS["quick"], (kernel,), seed=seed)
    by_problem = dict(zip(rows, budgets))
    _Sweep(by_problem, replay.Replay(rows), origin, plan, open_study, replay.Silent(), sleep=lambda _: None).run()
    found = []
    for each, study in zip(spaces, opened):
        cost = {each.route(number): float(ms) for number, ms in enumerate(each.recorded.costs)}
        found.append([cost[route] for route in study.rows() if route != STOCK])
    return found


class _Sweep(sweep.Sweep):
    """A sweep with a budget of its own for each problem."""

    def __init__(self, budgets: Mapping[Problem, int], *rest: Any, **options: Any) -> None:
        super().__init__(*rest, **options)
        self._budgets = budgets

    def _tune(self, problem: Problem, began: float) -> sweep.Done | None:
        self._plan = replace(self._plan, effort=replace(self._plan.effort, searched=self._budgets[problem]))
        return super()._tune(problem, began)


def alone(strategy: str) -> Callable[[Sequence[Space], Sequence[int], int], list[list[float]]]:
    """A strategy of ``run.py`` on each problem by itself."""

    def run(spaces: Sequence[Space], budgets: Sequence[int], seed: int) -> list[list[float]]:
        return [
            STRATEGIES[strategy](each.recorded, seed * 1000 + place, budget).costs
            for place, (each, budget) in enumerate(zip(spaces, budgets))
        ]

    return run


RUNS = {"sweep": swept, "portfolio": alone("autotune"), "optuna_tpe": alone("optuna_tpe"), "random": alone("random")}


def table(spaces: Spaces, share: float, seeds: int, strategies: Sequence[str]) -> str:
    """By kernel and chip, f and near of each strategy, and all kernels together, as Markdown."""
    heads = ["kernel", "chip", "problems", "configs", "good", "measured", *(f"{name}: f, near" for name in strategies)]
    lines = [f"| {' | '.join(heads)} |", "| --- | --- | ---: | ---: | ---: | ---: |" + " ---: |" * len(strategies)]
    every: dict[str, list[np.ndarray]] = defaultdict(list)
    for (kernel, _), each in spaces.items():
        budgets = [max(1, round(share / 100 * len(one.recorded.points))) for one in each]
        cells = [kernel, _chip(each[0].origin), str(len(each)), _range(len(one.recorded.points) for one in each)]
        good = [fmean(one.recorded.optimum * replay.NEAR >= one.recorded.costs) for one in each]
        cells += [f"{median(good):.1%}", _range(budgets)]
        for name in strategies:
            runs = [RUNS[name](each, budgets, seed) for seed in range(seeds)]
            f = np.array([[one.recorded.optimum / min(costs) for one, costs in zip(each, run)] for run in runs]).T
            every[name].append(f)
            cells.append(f"{f.mean():.3f}, {_near(f).mean():.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    counts = [len(each) for each in spaces.values()]
    rest = [_cell(np.concatenate(every[name])) for name in strategies]
    lines.append(f"| all | | {sum(counts)} | | | | {' | '.join(rest)} |")
    return "\n".join([*lines, "", f"{share:g} % of each problem's configs, {seeds} seeds."])


def _cell(f: np.ndarray) -> str:
    """For f (problems, seeds): its mean and the share within 2 %, with intervals."""
    texts = []
    for values, digits in ((f, 3), (_near(f), 2)):
        low, high = score.interval(values)
        texts.append(f"{values.mean():.{digits}f} ({low:.{digits}f}-{high:.{digits}f})")
    return ", ".join(texts)


def _near(f: np.ndarray) -> np.ndarray:
    return (f * replay.NEAR >= 1).astype(np.float64)


def _chip(origin: Origin) -> str:
    return f"{origin.chip}, {origin.source}"


def _range(values: Any) -> str:
    found = sorted(values)
    return str(found[0]) if found[0] == found[-1] else f"{found[0]}-{found[-1]}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--simulate", action="append", help="an Apple chip whose model is recorded first (repeatable)")
    parser.add_argument(
        "--share", type=float, action="append", help="percent that is measured (repeatable); 10 if none"
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--strategy", action="append", choices=list(RUNS), help="repeat for several; all if none")
    return parser.parse_args()


if __name__ == "__main__":
    studies.optuna.logging.set_verbosity(studies.optuna.logging.ERROR)
    main()
