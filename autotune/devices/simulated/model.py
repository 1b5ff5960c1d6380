"""The model: how long a route takes for a problem on a simulated chip, and why.

Three loads. ``chained``: each call needs the result of the one before, as in decoding. ``queued``: calls are
independent, and only part of a launch's cost is left. ``evaluated``: an ``mx.eval`` around every call, as in most
published measurements; it adds a floor that has nothing to do with the product.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...kernels import STOCK, Route
from ...problem import Problem
from . import compositions, families, stock
from .chip import SimulatedChip
from .work import ARITHMETIC, BOUNDS, CACHE, LAUNCH, MEMORY, WAITING, Launch, Part, part

LOADS = ("chained", "queued", "evaluated")
NEWEST = "0.32.2"
"""MLX whose rules are taken where none is named: the newest that :mod:`autotune.stock_rules` knows."""
OFF = 0.08, 0.42
"""How far the model is off on published times that it was not fitted to, on all chips: the median and the 90th
percentile of relative errors (``benchmarks/simulator/run.py``; docs/simulated.md)."""


@dataclass(frozen=True)
class Prediction:
    """A route's predicted time with what it is made of: one part a launch, and ``floor`` seconds of the evaluation."""

    problem: Problem
    route: Route
    chip: SimulatedChip
    version: str
    load: str
    parts: tuple[Part, ...]
    floor: float

    @property
    def seconds(self) -> float:
        return self.floor + sum(part.seconds for part in self.parts)

    @property
    def bounds(self) -> dict[str, float]:
        """Seconds by bound, summed over the launches: what the call would take were this all that limits it."""
        return {name: sum(part.bounds[name] for part in self.parts) for name in BOUNDS}

    @property
    def tasks(self) -> dict[str, float]:
        """Seconds by kind of arithmetic, summed over the launches."""
        found: dict[str, float] = {}
        for each in self.parts:
            for what, seconds in each.tasks.items():
                found[what] = found.get(what, 0.0) + seconds
        return found

    @property
    def arithmetic(self) -> float:
        """Seconds of all arithmetic."""
        return sum(self.bounds[unit] for unit in ARITHMETIC)

    @property
    def rules(self) -> str:
        """The largest bound, all arithmetic taken as one; ``lanes``, ``matrix`` or ``nax`` where that is it."""
        bounds = self.bounds
        unit = max(ARITHMETIC, key=lambda name: bounds[name])
        shown = {name: bounds[name] for name in (MEMORY, CACHE, WAITING, LAUNCH)} | {unit: self.arithmetic}
        return max(shown, key=lambda name: shown[name])


def predict(
    problem: Problem,
    chip: SimulatedChip,
    version: str = NEWEST,
    route: Route = STOCK,
    load: str = "chained",
    hot: bool = False,
) -> Prediction:
    """The prediction for a route. ``hot`` says that the same weights were used by the call before.

    Raises :class:`UsageError` for a version of MLX without rules, and for a chip that cannot run the route's kernel.
    """
    gap = (chip.constants.queued_us if load == "queued" else chip.constants.launch_us) * 1e-6
    floor = chip.evaluate if load == "evaluated" else 0.0
    parts = tuple(part(each, chip, hot, gap) for each in launches(problem, chip, version, route))
    return Prediction(problem, route, chip, version, load, parts, floor)


def launches(problem: Problem, chip: SimulatedChip, version: str, route: Route) -> list[Launch]:
    """What a call of the route launches, in order."""
    if route == STOCK:
        return stock.launches(problem, chip, version)
    if route.kernel in families.BY_NAME:
        return families.launches(problem, chip, route)
    return compositions.launches(problem, chip, version, route)
