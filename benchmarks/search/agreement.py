"""Whether two sweeps of one machine give the same table, on simulated chips with their noise.

    python benchmarks/search/agreement.py [--chip m4pro] [--effort standard] [--seeds 3] [--every 1] [--json FILE]

For each seed, two at least, a fresh sweep gives a table, and the sweep under the next seed another one: once fresh, and
once with the first table before it, as on a machine that has been tuned. Tables are compared problem by problem: the
same route, the same kernel, and routes whose times in the model without noise are less than ``--near`` apart. Nothing
is measured on a chip; the noise is the model's, 1 % an evaluation and 0.5 % a session.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import optuna
import replay

from autotune.devices.simulated import chip as chips
from autotune.devices.simulated import model
from autotune.devices.simulated.chip import SimulatedChip
from autotune.devices.simulated.device import SimulatedDevice
from autotune.kernels import STOCK, Route
from autotune.problem import Problem
from autotune.routing.table import Table, route_at
from autotune.search import export
from autotune.search.measure import EFFORTS, Effort
from autotune.search.plan import Plan
from autotune.search.results import Origin, Result
from autotune.search.studies import ProblemStudy
from autotune.search.sweep import Sweep
from autotune.search.tuned import Tuned

PROBLEMS = tuple(
    Problem.parse(text.format(m))
    for text in (
        "quantized_matmul M={} N=4096 K=4096 f16 affine-b4-g64 nt",
        "quantized_matmul M={} N=13824 K=5120 f16 affine-b4-g64 nt",
        "matmul M={} N=4096 K=4096 f16 nt",
    )
    for m in (1, 2, 3, 4, 6, 8, 16, 32)
)
NEAR = 0.02


@dataclass(frozen=True)
class Agreement:
    """How far two tables agree: counts of ``problems``, and how far apart the times of their routes are.

    ``gained`` counts routes that differ because the second table's is faster, by more than what counts as near: a
    second sweep measures other configs, and may find a better one.
    """

    problems: int
    same: int
    gained: int
    kernel: int
    near: int
    median_apart: float
    most_apart: float


def swept(
    chip: SimulatedChip, problems: Sequence[Problem], effort: Effort, seed: int, incumbent: Table | None = None
) -> Table:
    """The table of a sweep on a model of a chip, where ``incumbent`` is the table that is there."""
    device = SimulatedDevice(chip)
    origin = Origin.of(chip.id, device.machine, "0", "chained", "simulated")
    rows: list[ProblemStudy] = []

    def open_study(problem: Problem, routes: Sequence[Route]) -> ProblemStudy:
        rows.append(ProblemStudy(optuna.storages.InMemoryStorage(), problem, origin, routes))
        return rows[-1]

    plan = Plan(tuple(problems), effort, seed=seed)
    Sweep(device, origin, plan, open_study, replay.Silent(), sleep=lambda _: None, tuned=Tuned(incumbent)).run()
    found: list[Result] = [row for study in rows for row in study.rows().values()]
    return export.derive(found, incumbent)


def agreement(
    chip: SimulatedChip, problems: Sequence[Problem], one: Table, two: Table, near: float = NEAR
) -> Agreement:
    """Compares the routes of two tables."""
    pairs = [(problem, route(one, problem), route(two, problem)) for problem in problems]
    ratios = [_seconds(chip, problem, a) / _seconds(chip, problem, b) for problem, a, b in pairs]
    apart = [max(ratio, 1 / ratio) - 1 for ratio in ratios]
    return Agreement(
        len(pairs),
        sum(a == b for _, a, b in pairs),
        sum(ratio > 1 + near for ratio in ratios),
        sum(a.kernel == b.kernel for _, a, b in pairs),
        sum(each < near for each in apart),
        median(apart),
        max(apart),
    )


def route(table: Table, problem: Problem) -> Route:
    return route_at(table.rows(str(problem.family)), problem.m) or STOCK


def _seconds(chip: SimulatedChip, problem: Problem, route: Route) -> float:
    link = chip.constants.launch_us * 1e-6
    return model.predict(problem, chip, model.NEWEST, route, "chained").seconds + link


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chip", default="m4pro")
    parser.add_argument("--effort", default="standard", choices=EFFORTS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--every", type=int, default=1, help="every so manieth problem alone")
    parser.add_argument("--near", type=float, default=NEAR)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("one sweep has none to agree with: --seeds is 2 at least")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    gc.disable()
    problems = PROBLEMS[:: options.every]
    chip, effort = chips.get(options.chip), EFFORTS[options.effort]
    fresh = [swept(chip, problems, effort, seed) for seed in range(1, options.seeds + 1)]
    found: dict[str, list[Agreement]] = {"fresh": [], "again": []}
    for seed, (one, two) in enumerate(zip(fresh, fresh[1:] + fresh[:1]), 1):
        found["fresh"].append(agreement(chip, problems, one, two, options.near))
        again = swept(chip, problems, effort, seed % options.seeds + 1, one)
        found["again"].append(agreement(chip, problems, one, again, options.near))
    print(f"{chip.id}, simulated, effort {effort.name}, {len(problems)} problems, {options.seeds} pairs of sweeps")
    for name, said in (("again", "with the first one's table"), ("fresh", "both fresh")):
        every = found[name]
        total = sum(each.problems for each in every)
        print(
            f"{said}: the same route {_share(sum(each.same for each in every), total)}, "
            f"another one that is faster {_share(sum(each.gained for each in every), total)}, "
            f"the same kernel {_share(sum(each.kernel for each in every), total)}, "
            f"within {options.near:.0%} {_share(sum(each.near for each in every), total)}; "
            f"apart {median(each.median_apart for each in every):.1%} in the median, "
            f"{max(each.most_apart for each in every):.1%} at most"
        )
    if options.json:
        options.json.write_text(
            json.dumps({name: [asdict(each) for each in every] for name, every in found.items()}, indent=1) + "\n",
            "utf-8",
        )


def _share(count: int, total: int) -> str:
    return f"{count} of {total} ({count / total:.0%})"


if __name__ == "__main__":
    main()
