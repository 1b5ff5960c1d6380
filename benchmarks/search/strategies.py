"""The strategies that are compared: each takes a recorded space, a seed and a budget and says what it measured.

Ours, Optuna's TPE and random choice run here; Kernel Tuner's run in its own simulation mode, in which they may propose
configs of the recorded set alone.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autotune.search.portfolio import Portfolio
from autotune.search.recorded import Recorded


@dataclass(frozen=True)
class Run:
    """Costs in the order in which unique configs were measured, and seconds of the strategy's own work in all."""

    costs: list[float]
    seconds: float


Strategy = Callable[[Recorded, int, int], Run]


def ours(space: Recorded, seed: int, budget: int) -> Run:
    """The portfolio of ``autotune/search/portfolio.py``."""
    began = time.perf_counter()
    portfolio, costs = Portfolio(space.points, seed), []
    for _ in range(min(budget, len(space.points))):
        index = portfolio.propose()
        costs.append(float(space.costs[index]))
        portfolio.tell(index, costs[-1])
    return Run(costs, time.perf_counter() - began)


def chance(space: Recorded, seed: int, budget: int) -> Run:
    """Configs of the legal set in random order."""
    began = time.perf_counter()
    order = np.random.default_rng(seed).permutation(len(space.points))[:budget]
    return Run(space.costs[order].tolist(), time.perf_counter() - began)


def tpe(space: Recorded, seed: int, budget: int) -> Run:
    """Optuna's TPE with its defaults over the places of each parameter's values. What it proposes is snapped to the
    nearest legal config that was not measured yet, and it is told of that one: without this it would spend most of its
    asks on illegal and repeated points."""
    import optuna
    from optuna.distributions import IntDistribution
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    points = space.points
    varied = [place for place, values in enumerate(points.values) if len(values) > 1]
    sizes = np.array([len(points.values[place]) for place in varied])
    codes, left, costs = points.codes[:, varied], np.ones(len(points), bool), []
    names = [points.names[place] for place in varied]
    distributions: Any = {name: IntDistribution(0, int(size) - 1) for name, size in zip(names, sizes)}
    began = time.perf_counter()
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    for _ in range(min(budget, len(points))):
        trial = study.ask(distributions)
        wanted = np.array([trial.params[name] for name in names])
        distance = (((codes - wanted) / (sizes - 1)) ** 2).sum(axis=1)
        index = int(np.argmin(np.where(left, distance, np.inf)))
        left[index] = False
        costs.append(float(space.costs[index]))
        if (codes[index] == wanted).all():
            study.tell(trial, costs[-1])
            continue
        study.tell(trial, state=TrialState.FAIL)
        params = dict(zip(names, map(int, codes[index])))
        study.add_trial(optuna.trial.create_trial(value=costs[-1], params=params, distributions=distributions))
    return Run(costs, time.perf_counter() - began)


def kernel_tuner(strategy: str) -> Strategy:
    """One of Kernel Tuner's strategies by its name there, with its default options."""

    def run(space: Recorded, seed: int, budget: int) -> Run:
        import warnings

        from kernel_tuner import tune_kernel

        path, restrictions = _simulated(space)
        random.seed(seed)
        np.random.seed(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results, _ = tune_kernel(
                "recorded",
                "",
                (1,),
                [],
                {name: list(values) for name, values in zip(space.points.names, space.points.values)},
                restrictions=restrictions,
                strategy=strategy,
                strategy_options={"max_fevals": min(budget, len(space.points))},
                cache=str(path),
                simulation_mode=True,
                quiet=True,
            )
        seen: dict[tuple[Any, ...], float] = {}
        for result in results:
            cost = result.get("time")
            config = tuple(result[name] for name in space.points.names)
            seen.setdefault(config, float(cost) if isinstance(cost, float) else float("inf"))
        return Run(list(seen.values())[:budget], sum(result.get("strategy_time", 0) for result in results) / 1e3)

    return run


_SIMULATED: dict[int, tuple[Path, Any, Recorded]] = {}


def _simulated(space: Recorded) -> tuple[Path, Any]:
    """A cache file for Kernel Tuner with the space, and the restriction to its configs; made once a space."""
    from kernel_tuner.util import FunctionConstraint

    if id(space) not in _SIMULATED:
        entries, legal = {}, set()
        for number, cost in enumerate(space.costs):
            config = space.points.config(number)
            legal.add(tuple(config.values()))
            time_ = float(cost) if np.isfinite(cost) else "RuntimeFailedConfig"
            spent = dict.fromkeys(("compile_time", "verification_time", "benchmark_time"), 0)
            entries[",".join(map(str, config.values()))] = {**config, "time": time_, **spent}
        content = {
            "device_name": "Simulation",
            "kernel_name": "recorded",
            "problem_size": [1],
            "tune_params_keys": list(space.points.names),
            "tune_params": {name: list(values) for name, values in zip(space.points.names, space.points.values)},
            "objective": "time",
            "cache": entries,
        }
        path = Path(tempfile.mkdtemp(prefix="recorded-")) / "cache.json"
        path.write_text(json.dumps(content), "utf-8")
        _SIMULATED[id(space)] = path, FunctionConstraint(lambda *values: values in legal), space
    return _SIMULATED[id(space)][:2]


STRATEGIES: dict[str, Strategy] = {
    "autotune": ours,
    "adaptive_tabu_greywolf": kernel_tuner("adaptive_tabu_greywolf"),
    "hybrid_vndx": kernel_tuner("hybrid_vndx"),
    "genetic_algorithm": kernel_tuner("genetic_algorithm"),
    "optuna_tpe": tpe,
    "random": chance,
}
