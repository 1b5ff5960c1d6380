"""The rows that a sweep writes: what it measured, and with what, when and from which inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import kernels
from ..kernels import Route
from ..problem import Problem
from . import results, space
from .measure import Comparison
from .results import Origin, Result


@dataclass(frozen=True)
class Ledger:
    """Stamps rows with their origin, their kernel's fingerprints, the day and the seed of their inputs."""

    origin: Origin
    seed: int
    today: Callable[[], str]

    def seed_of(self, problem: Problem) -> int:
        """A seed for the problem's inputs: another one for each problem, the same for the same plan."""
        return (self.seed * 1_000_003 + sum(ord(c) * 31**i for i, c in enumerate(str(problem)))) % 2**31

    def timed(self, problem: Problem, comparison: Comparison, status: str, **rest: Any) -> Result:
        """A row for a route that was timed; ``rest`` are its error, stock's, and what a call costs the program."""
        c = comparison
        stamp = self._stamp(problem, c.route)
        return results.timed(problem, c.route, status, c.stock, c.times, c.ratios, between=c.between, **stamp, **rest)

    def untimed(self, problem: Problem, route: Route, status: str, reason: str, **rest: Any) -> Result:
        """A row for a route that was refused or failed."""
        errors = {"error": 0.0, "stock_error": 0.0, **rest}
        return results.untimed(problem, route, status, reason, **self._stamp(problem, route), **errors)

    def _stamp(self, problem: Problem, route: Route) -> dict[str, Any]:
        kernel = kernels.kernel(route.kernel)
        return {
            "origin": self.origin,
            "kernel": kernels.fingerprint.of(kernel),
            "space": space.fingerprint(kernel),
            "date": self.today(),
            "seed": self.seed_of(problem),
        }
