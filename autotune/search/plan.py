"""What a sweep is asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .. import kernels
from ..kernels import STOCK, Route
from ..problem import Problem
from .measure import Effort
from .results import Result


@dataclass(frozen=True)
class Plan:
    """``problems`` in order, by ``effort``, with at most ``trials`` routes a problem (0: all) of ``kernels`` (none: of
    all) and for ``budget`` seconds (0: to the end); ``fresh`` forgets what was measured of them before."""

    problems: tuple[Problem, ...]
    effort: Effort
    kernels: tuple[str, ...] = ()
    trials: int = 0
    budget: float = 0.0
    seed: int = 0
    fresh: bool = False

    def asked_for(self, rows: Mapping[Route, Result]) -> dict[Route, Result]:
        """The rows of stock and of the plan's kernels: a study also has those that other sweeps measured."""
        chosen = {*self.kernels, STOCK.kernel} if self.kernels else set(kernels.KERNELS)
        return {route: row for route, row in rows.items() if route.kernel in chosen}
