"""An Optuna sampler over the legal set: it deals routes that exist and have not been dealt, and nothing else.

Optuna's own samplers propose a value for each parameter by itself, which on constrained spaces is mostly illegal or a
repetition. This one picks a whole route from the enumerated set and answers Optuna's questions about single parameters
from it, so that studies, storage, pruning and dashboards work as usual.

Order: stock first, then the ``seeds`` (winners of neighbouring problems), then the kernels whose spaces are measured
whole, shuffled under ``seed``, then the searched ones, each as its :class:`Portfolio` proposes. In every second of
these the kernels take turns, the others are of the kernel with the fastest route.
"""

from __future__ import annotations

import math
import random
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from ..kernels import STOCK, Route, kernel
from .points import Points
from .portfolio import Known, Portfolio

IN_VAIN = "interrupted"
"""User attribute of a trial that ended before it was measured: its route is dealt again."""


class Exhausted(Exception):
    """Every route of the legal set has been dealt."""


class LegalSetSampler(BaseSampler):
    """Deals the routes of a legal set, each once for a study, across restarts.

    It reads a study's trials once each, when they have finished, and belongs to that study. Several threads may ask at
    once, as those of ``optimize(n_jobs=...)`` do. Where the set is dealt out the study is told to stop: in ``optimize``
    the trial that is one too many is pruned as soon as it asks for a parameter; outside of it the trial is closed and
    :class:`Exhausted` raised.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        seeds: Sequence[Route] = (),
        seed: int = 0,
        searched: int | None = None,
        problem: Sequence[float] = (),
        known: Mapping[str, Sequence[Known]] | None = None,
    ) -> None:
        """``searched``: how many routes of searched kernels are dealt in all; None for no limit. ``problem`` and
        ``known``, the latter by kernel, are what a :class:`Portfolio` takes; costs are times relative to stock."""
        rest = [route for route in routes if route != STOCK and not _searched(route)]
        random.Random(seed).shuffle(rest)
        legal = set(routes)
        self._order = list(dict.fromkeys(route for route in (STOCK, *seeds, *rest) if route in legal))
        self._kernels = {
            name: _Search(found, seeds, seed, problem, (known or {}).get(name, ()))
            for name, found in sorted(_by_kernel(filter(_searched, routes)).items())
        }
        self._most = searched
        self._finished: dict[int, Route | None] = {}
        self._dealt: dict[int, Route] = {}
        self._lock = threading.RLock()

    def next_route(self, study: Study, besides: int = -1) -> Route:
        """The route to be dealt next, given the study's trials (but trial ``besides``). Raises :class:`Exhausted`."""
        with self._lock:
            return self._next_route(study, besides)

    def _next_route(self, study: Study, besides: int) -> Route:
        under_way = self._read(study, besides)
        seen = {*self._finished.values(), *under_way}
        left = math.inf if self._most is None else self._most - sum(map(_searched, filter(None, seen)))
        for route in self._order:
            if route not in seen and (left > 0 or not _searched(route)):
                return route
        for search in self._turns(len(self._finished) + len(under_way)) if left > 0 else ():
            proposed = search.propose(under_way)
            if proposed is not None:
                return proposed
        raise Exhausted

    def _read(self, study: Study, besides: int) -> list[Route]:
        """Tells the searches what has finished since; returns the routes that are being measured."""
        under_way = []
        for trial in study.get_trials(deepcopy=False):
            if trial.number in self._finished or trial.number == besides or IN_VAIN in trial.user_attrs:
                continue
            route = route_of(trial)
            if not trial.state.is_finished():
                # A trial has its route from when it was dealt, and the parameters when somebody has asked for them.
                route = self._dealt.get(trial.number, route)
                under_way += [] if route is None else [route]
                continue
            self._finished[trial.number] = route
            self._dealt.pop(trial.number, None)
            if route is not None and route.kernel in self._kernels:
                self._kernels[route.kernel].tell(route, _cost(trial))
        return under_way

    def _turns(self, count: int) -> list[_Search]:
        """The searches, the one whose turn it is first."""
        searches = list(self._kernels.values())
        if count % 2:
            return sorted(searches, key=lambda search: search.best)
        turn = count // 2 % max(1, len(searches))
        return searches[turn:] + searches[:turn]

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        with self._lock:
            try:
                self._dealt[trial.number] = self._next_route(study, besides=trial.number)
            except Exhausted:
                study._storage.set_trial_user_attr(trial._trial_id, IN_VAIN, True)
                if not _stopped(study):
                    study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
                    raise

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        route = self._dealt.get(trial.number)
        if route is None:
            raise optuna.TrialPruned("every route was dealt")
        return _params(route)[param_name]


def _stopped(study: Study) -> bool:
    """Ends the loop of ``optimize``; False where there is none."""
    try:
        study.stop()
    except RuntimeError:
        return False
    return True


def _searched(route: Route) -> bool:
    return kernel(route.kernel).searched


def _by_kernel(routes: Iterable[Route]) -> dict[str, list[Route]]:
    found: dict[str, list[Route]] = defaultdict(list)
    for route in routes:
        found[route.kernel].append(route)
    return found


def _cost(trial: FrozenTrial) -> float:
    """Time relative to stock; for a pruned trial as far as it was measured, for a failed one infinity."""
    cost = None
    if trial.state == TrialState.COMPLETE:
        cost = trial.value
    elif trial.state == TrialState.PRUNED and trial.intermediate_values:
        cost = trial.intermediate_values[max(trial.intermediate_values)]
    return cost if cost is not None and cost > 0 else math.inf


class _Search:
    """The portfolio of one kernel's routes."""

    def __init__(
        self, routes: list[Route], seeds: Sequence[Route], seed: int, problem: Sequence[float], known: Sequence[Known]
    ) -> None:
        self._routes = routes
        self._numbers = {route: number for number, route in enumerate(routes)}
        seeded = [self._numbers[route] for route in seeds if route in self._numbers]
        self._portfolio = Portfolio(Points.of([route.config for route in routes]), seed, seeded, problem, known)
        self._told: set[Route] = set()
        self._last: tuple[int, tuple[int, ...], Route | None] = -1, (), None
        self.best = math.inf

    def tell(self, route: Route, cost: float) -> None:
        """Keeps the first cost of a route: what play-offs add later comes when the search is over."""
        if route in self._numbers and route not in self._told:
            self._told.add(route)
            self._portfolio.tell(self._numbers[route], cost)
            self.best = min(self.best, cost)

    def propose(self, under_way: Iterable[Route]) -> Route | None:
        """A route that was not told and is not under way; None where there is none."""
        besides = tuple(self._numbers[route] for route in under_way if route in self._numbers)
        if self._last[:2] != (len(self._told), besides):  # Optuna's way asks twice for each trial
            try:
                self._last = len(self._told), besides, self._routes[self._portfolio.propose(besides)]
            except IndexError:
                self._last = len(self._told), besides, None
        return self._last[2]


Choices = dict[str, dict[str, list[Any]]]
"""For each kernel of a set of routes its parameters, each with the values that occur."""


def suggest(trial: Trial, choices: Choices) -> Route:
    """The trial's route, asked for parameter by parameter: ``kernel``, then the kernel's own as ``pad.multiple``."""
    name = trial.suggest_categorical("kernel", list(choices))
    config: dict[str, Any] = {
        parameter: trial.suggest_categorical(f"{name}.{parameter}", values)
        for parameter, values in choices[name].items()
    }
    return Route.of(name, config)


def frozen(
    route: Route,
    choices: Choices,
    value: float | None,
    state: Any,
    attrs: dict[str, Any],
    seen: float | None = None,
) -> FrozenTrial:
    """A finished trial for a route that was measured elsewhere; ``seen`` is the value that a pruned one got to."""
    distributions: dict[str, BaseDistribution] = {"kernel": CategoricalDistribution(list(choices))}
    for name, values in choices[route.kernel].items():
        distributions[f"{route.kernel}.{name}"] = CategoricalDistribution(values)
    return optuna.trial.create_trial(
        state=state,
        value=value,
        params=_params(route),
        distributions=distributions,
        user_attrs=attrs,
        intermediate_values={} if seen is None else {1: seen},
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


def choices_of(routes: Sequence[Route]) -> Choices:
    """The kernels and the values that occur in a set of routes, in order of appearance."""
    found: dict[str, dict[str, dict[Any, None]]] = {}
    for route in routes:
        values = found.setdefault(route.kernel, {name: {} for name in kernel(route.kernel).parameters})
        for name, value in route.items:
            values[name][value] = None
    return {name: {parameter: list(each) for parameter, each in values.items()} for name, values in found.items()}


def _params(route: Route) -> dict[str, Any]:
    return {"kernel": route.kernel, **{f"{route.kernel}.{name}": value for name, value in route.items}}
