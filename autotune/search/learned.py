"""What a sweep learned on one problem, for the search on the next: costs of configs, by how near the problems are."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

from ..kernels import Route
from ..problem import Problem
from .portfolio import FITTED, Known

NEIGHBOURS = 3
"""Problems that a search learns from at most, the nearest ones."""
OCTAVES = 8
"""Doublings of M, N or K that make a distance of 1."""


def coordinates(problem: Problem) -> tuple[float, float, float]:
    """Where a problem lies among those that differ in M, N and K alone."""
    return math.log2(problem.m) / OCTAVES, math.log2(problem.n) / OCTAVES, math.log2(problem.k) / OCTAVES


class Learned:
    """Costs relative to stock of routes, by problem."""

    def __init__(self) -> None:
        self._costs: dict[Problem, list[tuple[Route, float]]] = {}

    def keep(self, problem: Problem, costs: Iterable[tuple[Route, float]]) -> None:
        """What a problem's routes cost, in place of what was kept for it before; infinity for those that failed."""
        self._costs[problem] = list(costs)

    def known(self, problem: Problem) -> dict[str, list[Known]]:
        """By kernel, costs from the nearest problems of the problem's kind: for each of them every so manieth route in
        the order of their costs, so that bad ones are known too. As many in all as a portfolio uses."""
        kind, here = _kind(problem), coordinates(problem)
        alike = [each for each in self._costs if each != problem and _kind(each) == kind]
        alike.sort(key=lambda each: (math.dist(coordinates(each), here), str(each)))
        found: dict[str, list[Known]] = defaultdict(list)
        for each in alike[:NEIGHBOURS]:
            by_kernel: dict[str, list[tuple[float, Route]]] = defaultdict(list)
            for route, cost in self._costs[each]:
                by_kernel[route.kernel].append((cost, route))
            for kernel, costs in by_kernel.items():
                costs.sort(key=lambda pair: (pair[0], str(pair[1])))
                step = -(-len(costs) * min(len(alike), NEIGHBOURS) // FITTED)
                found[kernel] += [
                    Known(route.config, coordinates(each), cost) for cost, route in costs[:: max(1, step)]
                ]
        return dict(found)


def _kind(problem: Problem) -> tuple[object, ...]:
    family = problem.family
    return family.op, family.dtype, family.layout, family.quantization, family.batch, family.epilogue
