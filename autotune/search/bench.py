"""Stock against routed on one device: each product or chain of a workload, in paired rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from ..devices.base import Session
from ..devices.chain import ROUTED
from ..errors import UsageError
from ..kernels import STOCK, Route
from ..problem import Problem
from .measure import Effort, Meter
from .stats import Interval, geometric_mean, noise_floor
from .workloads import Chain, Workload

APART = 0.1
"""Relative distance from stock's result beyond which it is another result; mlx-cpu in bfloat16 is itself 2 % off."""
SLOWER, SAME, FASTER = "slower", "same", "faster"


@dataclass(frozen=True)
class Line:
    """One product or chain: microseconds a call before and after, and the paired speedup with its 95 % interval.

    ``routed`` is false where the table leaves it to stock: both sides then run stock, one through the routed op,
    and the interval shows the noise of the machine. ``apart`` is how far the routed result is from stock's, relative to
    its norm.
    """

    label: str
    route: str
    routed: bool
    before_us: float
    after_us: float
    speedup: float
    low: float
    high: float
    apart: float = 0.0

    @property
    def verdict(self) -> str:
        if not self.routed or self.low <= 1 <= self.high:
            return SAME
        return FASTER if self.low > 1 else SLOWER


@dataclass(frozen=True)
class Bench:
    """All lines of a run and what they were measured on.

    ``noise`` is how far stock was from itself, as a ratio minus one: the median over the lines that the table leaves to
    stock, or of stock against itself where it leaves none.
    """

    title: str
    machine: str
    mlx: str
    os: str
    date: str
    load: str
    noise: float
    lines: tuple[Line, ...]

    @property
    def geometric_mean(self) -> float:
        return geometric_mean([line.speedup for line in self.lines])

    @property
    def wrong(self) -> list[Line]:
        """Lines whose routed result is another one than stock's."""
        return [line for line in self.lines if line.apart > APART]

    @property
    def gains(self) -> list[Line]:
        """Lines that are faster than stock by more than the noise floor."""
        return [line for line in self.lines if line.verdict == FASTER and line.low > 1 + self.noise]

    @property
    def regressions(self) -> list[Line]:
        """Lines that are slower than stock by more than the noise floor."""
        return [line for line in self.lines if line.verdict == SLOWER and line.high < 1 / (1 + self.noise)]


def chains_of(workloads: Sequence[Workload], problems: Sequence[Problem], ms: Sequence[int]) -> list[Chain]:
    """What to time: the workloads' chains, and every problem that is in none of them as a chain of one. ``ms`` keeps
    those whose first product has one of these M (empty: all). Raises :class:`UsageError` where nothing is left."""
    found = [chain for each in workloads for chain in each.chains]
    inside = {product for chain in found for product in chain.products}
    found += [Chain(str(each), (each,)) for each in problems if each not in inside]
    kept = [chain for chain in found if not ms or chain.products[0].m in ms]
    if not kept:
        raise UsageError("no problem is left to measure", "choose another --m, --op or workload")
    return kept


def measure(
    chains: Sequence[Chain],
    routes_of: Callable[[Problem], Route],
    open_session: Callable[[Chain], Session],
    effort: Effort,
    tell: Callable[[Line], None],
) -> tuple[list[Line], float]:
    """All lines, and the noise floor: how far stock was from itself, as a ratio minus one, in the median.

    A chain that the table leaves to stock is timed against itself, which is what the noise floor is taken from; where
    there is none, the last chain's stock is timed against itself besides.
    """
    lines, noises = [], []
    meter = None
    for chain in chains:
        routes = [routes_of(product) for product in chain.products]
        untouched = all(route == STOCK for route in routes)
        session = open_session(chain)
        meter = Meter(session, effort)
        comparison = meter.compare(STOCK if untouched else ROUTED)
        meter.settle(comparison)
        lines.append(line(chain.label, routes, median(comparison.stock), median(comparison.times), comparison.interval))
        tell(lines[-1])
        if untouched:
            noises.append(noise_floor(comparison.ratios))
    if meter is not None and not noises:
        comparison = meter.compare(STOCK)
        meter.settle(comparison)
        noises.append(noise_floor(comparison.ratios))
    return lines, float(f"{median(noises):.3g}")


def line(
    label: str, routes: Sequence[Route], before: float, after: float, interval: Interval, apart: float = 0.0
) -> Line:
    """A line from seconds a call and the paired interval, rounded to what a reader needs."""
    values = (before * 1e6, after * 1e6, interval.value, interval.low, interval.high, apart)
    names = " + ".join(dict.fromkeys(str(route) for route in routes))
    routed = any(route != STOCK for route in routes)
    return Line(label, names, routed, *[float(f"{value:.4g}") for value in values])
