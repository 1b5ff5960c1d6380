"""What to measure next in an indexed set: two learned rankings and local moves, arbitrated by what pays.

A :class:`Portfolio` is told costs by number and proposes numbers that it was not told yet. It holds no state but what
it was told: the same costs in the same order and the same seed give the same proposals, also after a restart.

The strategies differ in what they believe about a space. ``SMOOTH`` takes near values of a parameter to be alike,
``ROUGH`` lets each value have an effect of its own besides (widths that divide a problem, or do not), and ``LOCAL``
looks among the neighbours of the best alone. Which one is asked is drawn by how often each has lately found something
better than everything before, so that a space on which one locks on to a basin is left to the others (the bandit is
OpenTuner's idea: Ansel et al., PACT 2014). docs/search.md has what each is worth on recorded spaces.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import ranking, threads
from .points import Points

FIRST = 8
"""Configs that are measured before a model has a say: the seeds, and random ones."""
REFIT = 4
"""Measurements between two fits of a model's scales."""
FITTED = 100
"""Observations that scales are fitted to at most, those of other problems included, which give way to the set's own."""
RESTED = 200
"""Observations that predictions rest on at most, likewise."""
CANDIDATES = 5000
"""Random configs that are ranked for each proposal, besides the neighbours of the best."""
BEST = 8
"""How many of the best configs have their neighbours ranked too."""
FORGET = 0.95
"""What a success counts for after another measurement by the same strategy."""
OWN_LENGTH = 2.7
"""Where the length scale of a value's own effect starts: weaker than the smooth one's, until data say otherwise."""

SMOOTH, ROUGH, LOCAL = range(3)


@dataclass(frozen=True)
class Known:
    """A cost that was measured for another problem: the config, coordinates of the ``problem``, and the cost."""

    config: Mapping[str, Any]
    problem: tuple[float, ...]
    cost: float


class Portfolio:
    """Proposes numbers of ``points``.

    ``seeds`` are numbers to propose first. ``problem`` holds coordinates of the problem, about 0..1 over what is tuned
    together, and ``known`` what was measured for others, in costs that can be compared (times relative to stock, say),
    the most useful first: ``FITTED`` of them count. With known costs a model has a say from the first proposal on.
    """

    def __init__(
        self,
        points: Points,
        seed: int = 0,
        seeds: Sequence[int] = (),
        problem: Sequence[float] = (),
        known: Sequence[Known] = (),
    ) -> None:
        self._points = points
        self._seed = seed
        self._seeds = list(dict.fromkeys(seeds))
        self._told: list[int] = []
        self._costs: list[float] = []
        self._seen = np.zeros(len(points), bool)
        self._paid = [[1.0, 2.0] for _ in (SMOOTH, ROUGH, LOCAL)]
        others = _Others.of(points, known)
        self._first = 0 if len(others.costs) else FIRST
        self._smooth = _Model(points, problem, others, own=False)
        self._rough = _Model(points, problem, others, own=True)

    def __len__(self) -> int:
        """How many were told."""
        return len(self._told)

    def tell(self, index: int, cost: float) -> None:
        """Keeps what a config cost, in any unit; infinity for one that failed. Raises ValueError for one told before,
        and for a cost that is no positive number."""
        if self._seen[index]:
            raise ValueError(f"config {index} was told before")
        if not cost > 0:
            raise ValueError(f"cost {cost} is not positive")
        # Seeds were nobody's idea: what they find is to no strategy's credit.
        if self._told and len(self._told) >= self._first and index not in self._seeds:
            paid = self._paid[self._strategy()]
            paid[0] = FORGET * paid[0] + (cost < min(self._costs))
            paid[1] = FORGET * paid[1] + 1
        self._told.append(index)
        self._costs.append(cost)
        self._seen[index] = True

    def propose(self, besides: Iterable[int] = ()) -> int:
        """A number that was not told yet and is none of those ``besides``, which are being measured. Raises IndexError
        where there is none."""
        left = ~self._seen
        left[list(besides)] = False
        if not left.any():
            raise IndexError("every config was told")
        for index in self._seeds:
            if left[index]:
                return index
        rng = np.random.default_rng((self._seed, len(self._told), 1))
        if len(self._told) < self._first:
            return int(rng.choice(np.flatnonzero(left)))
        strategy = self._strategy()
        costs = np.array(self._costs)
        order = np.argsort(costs, kind="stable")
        candidates = self._near(order, left) if strategy == LOCAL else self._wide(order, left, rng)
        model = self._rough if strategy == ROUGH else self._smooth
        with threads.single():
            return int(candidates[model.best(self._told, costs, candidates)])

    def _strategy(self) -> int:
        """Whose turn it is: drawn anew for each measurement, in proportion to the share of turns that paid."""
        shares = [paid / turns for paid, turns in self._paid]
        draw = float(np.random.default_rng((self._seed, len(self._told), 0)).random()) * sum(shares)
        for strategy, share in enumerate(shares):
            draw -= share
            if draw < 0:
                return strategy
        return len(shares) - 1

    def _near(self, order: np.ndarray, left: np.ndarray) -> np.ndarray:
        """Neighbours, if any are left, of the best config that has such; else all that are left."""
        for place in order:
            near = self._points.neighbours(self._told[place])
            near = near[left[near]]
            if len(near):
                return near
        return np.flatnonzero(left)

    def _wide(self, order: np.ndarray, left: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Random configs and the neighbours of the best, as far as they are left; of a small set, all that are left."""
        if len(self._points) <= CANDIDATES:
            return np.flatnonzero(left)
        near = [self._points.neighbours(self._told[place]) for place in order[:BEST]]
        found = np.unique(np.concatenate([rng.integers(len(self._points), size=CANDIDATES), *near]))
        found = found[left[found]]
        return found if len(found) else np.flatnonzero(left)


@dataclass(frozen=True)
class _Others:
    """What is known of other problems, as arrays: codes, coordinates of the problems, costs."""

    codes: np.ndarray
    problems: np.ndarray
    costs: np.ndarray

    @classmethod
    def of(cls, points: Points, known: Sequence[Known]) -> _Others:
        """Those of the known costs whose config lies in the space."""
        usable = [(codes, each) for each in known if (codes := points.encode(each.config)) is not None][:FITTED]
        return cls(
            np.array([codes for codes, _ in usable], np.int64).reshape(len(usable), len(points.names)),
            np.array([each.problem for _, each in usable], np.float64).reshape(len(usable), -1 if usable else 0),
            np.array([each.cost for _, each in usable], np.float64),
        )


class _Model:
    """A ranking over a set: costs of other problems first, then those that were told."""

    def __init__(self, points: Points, problem: Sequence[float], others: _Others, own: bool) -> None:
        """``own``: whether each value of a number may have an effect of its own."""
        self._costs = others.costs
        kinds = [(points.smooth(points.codes), points.smooth(others.codes), points.smooth_groups, ranking.LENGTH)]
        if own:
            kinds.append((points.marks(points.codes), points.marks(others.codes), points.mark_groups, OWN_LENGTH))
        if len(others.costs):
            here = np.tile(np.array(problem, np.float64), (len(points), 1))
            kinds.append((here, others.problems, list(range(here.shape[1])), ranking.LENGTH))
        self._x = np.concatenate([here for here, *_ in kinds], axis=1)
        self._there = np.concatenate([there for _, there, *_ in kinds], axis=1)
        self._groups: list[int] = []
        self._lengths: list[float] = []
        for *_, groups, length in kinds:
            names = sorted(set(groups))
            self._groups += [len(self._lengths) + names.index(group) for group in groups]
            self._lengths += [length] * len(names)
        self._scales: tuple[int, ranking.Scales] | None = None

    def best(self, told: Sequence[int], costs: np.ndarray, candidates: np.ndarray) -> int:
        """The place of the candidate that is expected to improve most; with nothing told yet, of the one that should be
        best."""
        count = len(told) - len(told) % REFIT
        if self._scales is None or self._scales[0] != count:
            x, scores, _ = self._observed(told[:count], costs[:count], FITTED)
            self._scales = count, ranking.fit(x, scores, self._groups, self._lengths)
        x, scores, others = self._observed(told, costs, RESTED)
        process = ranking.Ranking(x, scores, self._scales[1])
        if not len(told):
            return int(np.argmin(process.predict(self._x[candidates])[0]))
        return process.best(self._x[candidates], float(scores[others:].min()))

    def _observed(self, told: Sequence[int], costs: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Coordinates and scores of at most so many observations: other problems' costs, as far as those that were told
        leave room, and then these. And how many of the others there are."""
        rows = _kept(costs, most)
        others = min(len(self._costs), most - len(rows))
        scores = ranking.scores(np.concatenate([self._costs[:others], costs]))
        x = np.concatenate([self._there[:others], self._x[np.asarray(told, np.int64)[rows]]])
        return x, np.concatenate([scores[:others], scores[others:][rows]]), others


def _kept(costs: np.ndarray, most: int) -> np.ndarray:
    """At most so many observations: half of them the best, the others the newest."""
    if len(costs) <= most:
        return np.arange(len(costs))
    best = np.argsort(costs, kind="stable")[: most // 2]
    return np.union1d(best, np.arange(len(costs) - (most - most // 2), len(costs)))
