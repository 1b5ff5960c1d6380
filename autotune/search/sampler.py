"""An Optuna sampler over the legal set: it deals routes that exist and have not been dealt, and nothing else.

Optuna's own samplers propose a value for each parameter by itself, which on constrained spaces is mostly illegal or a
repetition. This one picks a whole route from the enumerated set and answers Optuna's questions about single parameters
from it, so that studies, storage, pruning and dashboards work as usual.

Order: stock first, then the ``seeds`` (winners of neighbouring problems), then the kernels whose spaces are measured
whole, shuffled under ``seed``, then the searched ones, shuffled and in turns, so that each gets its share of a budget.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial

from ..kernels import STOCK, Route, kernel

IN_VAIN = "interrupted"
"""User attribute of a trial that ended before it was measured: its route is dealt again."""


class Exhausted(Exception):
    """Every route of the legal set has been dealt."""


class LegalSetSampler(BaseSampler):
    """Deals the routes of a legal set, each once for a study, across restarts."""

    def __init__(
        self, routes: Sequence[Route], seeds: Sequence[Route] = (), seed: int = 0, searched: int | None = None
    ) -> None:
        """``searched``: how many routes of searched kernels are dealt in all; None for no limit."""
        legal = set(routes)
        rest = [route for route in routes if route != STOCK]
        random.Random(seed).shuffle(rest)
        rest = [route for route in rest if not _searched(route)] + _in_turns(filter(_searched, rest))
        order = [route for route in (STOCK, *seeds, *rest) if route in legal]
        self._order = list(dict.fromkeys(order))
        self._most = len(self._order) if searched is None else searched
        self._dealt: dict[int, Route] = {}

    def next_route(self, study: Study, besides: int = -1) -> Route:
        """The route to be dealt next, given the study's trials (but trial ``besides``). Raises :class:`Exhausted`."""
        seen = {
            route_of(trial)
            for trial in study.get_trials(deepcopy=False)
            if trial.number != besides and IN_VAIN not in trial.user_attrs
        }
        left = self._most - sum(route is not None and _searched(route) for route in seen)
        for route in self._order:
            if route not in seen and (left > 0 or not _searched(route)):
                return route
        raise Exhausted

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._dealt[trial.number] = self.next_route(study, besides=trial.number)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return _params(self._dealt[trial.number])[param_name]


def _searched(route: Route) -> bool:
    return kernel(route.kernel).searched


def _in_turns(routes: Iterable[Route]) -> list[Route]:
    """The routes with their kernels taking turns, each kernel's in the order given."""
    by_kernel: dict[str, list[Route]] = defaultdict(list)
    for route in routes:
        by_kernel[route.kernel].append(route)
    rounds = zip_longest(*(by_kernel[name] for name in sorted(by_kernel)))
    return [route for each in rounds for route in each if route is not None]


def suggest(trial: Trial, routes: Sequence[Route]) -> Route:
    """The trial's route, asked for parameter by parameter: ``kernel``, then the kernel's own as ``pad.multiple``."""
    name = trial.suggest_categorical("kernel", list(dict.fromkeys(route.kernel for route in routes)))
    config = {
        parameter: trial.suggest_categorical(f"{name}.{parameter}", choices)
        for parameter, choices in _choices(routes, name).items()
    }
    return Route.of(name, config)


def frozen(
    route: Route, routes: Sequence[Route], value: float | None, state: Any, attrs: dict[str, Any]
) -> FrozenTrial:
    """A finished trial for a route that was measured elsewhere."""
    choices = {f"{route.kernel}.{name}": values for name, values in _choices(routes, route.kernel).items()}
    distributions: dict[str, BaseDistribution] = {
        "kernel": CategoricalDistribution(list(dict.fromkeys(each.kernel for each in routes)))
    }
    distributions.update({name: CategoricalDistribution(values) for name, values in choices.items()})
    return optuna.trial.create_trial(
        state=state, value=value, params=_params(route), distributions=distributions, user_attrs=attrs
    )


def route_of(trial: FrozenTrial) -> Route | None:
    """The route that a trial's parameters say; None while they are incomplete."""
    name = trial.params.get("kernel")
    if name is None:
        return None
    names = [f"{name}.{parameter}" for parameter in kernel(name).parameters]
    if any(each not in trial.params for each in names):
        return None
    return Route.of(name, {each.split(".", 1)[1]: trial.params[each] for each in names})


def _choices(routes: Sequence[Route], name: str) -> dict[str, list[Any]]:
    configs = [route.config for route in routes if route.kernel == name]
    return {
        parameter: list(dict.fromkeys(config[parameter] for config in configs)) for parameter in kernel(name).parameters
    }


def _params(route: Route) -> dict[str, Any]:
    return {"kernel": route.kernel, **{f"{route.kernel}.{name}": value for name, value in route.items}}
