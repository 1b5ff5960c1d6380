"""Stock against routed on one device: each product or chain of a workload, in paired rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from ..devices.base import Accuracy, Session
from ..devices.chain import ROUTED
from ..errors import UsageError
from ..kernels import STOCK, Route
from ..problem import Problem
from .measure import Effort, Meter
from .stats import Interval, geometric_mean, noise_floor
from .workloads import Chain, Workload

APART = 0.1
"""Relative distance from stock's result beyond which it is another result; mlx-cpu in bfloat16 is itself 2 % off."""
UNCOMPARABLE = 1e9
"""The distance that is written where the routed result has another shape or elements that are not finite, which no
JSON can say."""
OWN_NOISE = 5
"""Chains from which the noise floor is taken at least, if there are so many: of one or two, it would be their luck."""
STRAY = 1.0
"""Distance of a single element from stock's, over the root mean square of stock's, beyond which it is another result: a
column that is forgotten is a small part of the norm of many."""
SAME_CODE = Accuracy(0.0, 0.0, 0.0)
SLOWER, SAME, FASTER = "slower", "same", "faster"


@dataclass(frozen=True)
class Line:
    """One product or chain: microseconds a call before and after, and the paired speedup with its 95 % interval.

    ``routed`` is false where the table leaves it to stock: both sides then run stock, and the interval shows the noise
    of the machine. ``apart`` is how far the routed result is from stock's, relative to its norm: 0 where stock is not
    left, ``UNCOMPARABLE`` at most.
    """

    label: str
    route: str
    routed: bool
    before_us: float
    after_us: float
    speedup: float
    low: float
    high: float
    apart: float
    stray: float = 0.0
    failed: bool = False

    @property
    def verdict(self) -> str:
        if not self.routed or self.low <= 1 <= self.high:
            return SAME
        return FASTER if self.low > 1 else SLOWER


@dataclass(frozen=True)
class Bench:
    """All lines of a run and what they were measured on.

    ``noise`` is how far stock was from itself, as a ratio minus one: the median over the lines that the table leaves to
    stock and, where these are fewer than ``OWN_NOISE``, over as many others as are missing, spread evenly over the
    list, at which stock was timed against itself besides. ``clock`` is how times were taken (``devices/clock.py``).
    """

    title: str
    machine: str
    mlx: str
    os: str
    date: str
    load: str
    noise: float
    lines: tuple[Line, ...]
    clock: str = "plain"

    @property
    def geometric_mean(self) -> float:
        return geometric_mean([line.speedup for line in self.lines])

    @property
    def wrong(self) -> list[Line]:
        """Lines whose routed result is another one than stock's."""
        return [line for line in self.lines if line.apart > APART or line.stray > STRAY]

    @property
    def failed(self) -> list[Line]:
        """Lines whose route failed here, so that stock ran in its place."""
        return [line for line in self.lines if line.failed]

    @property
    def gains(self) -> list[Line]:
        """Lines that are faster than stock by more than the noise floor."""
        return [line for line in self.lines if line.verdict == FASTER and line.low > 1 + self.noise]

    @property
    def regressions(self) -> list[Line]:
        """Lines that are slower than stock by more than the noise floor."""
        return [line for line in self.lines if line.verdict == SLOWER and line.high < 1 / (1 + self.noise)]


def chains_of(
    workloads: Sequence[Workload], problems: Sequence[Problem], ms: Sequence[int], ops: Sequence[str] = ()
) -> list[Chain]:
    """What to time: the workloads' chains, and every problem that is in none of those as a chain of one. ``ms`` and
    ``ops`` keep the chains all of whose products have one of these M and one of these ops (empty: all). Raises
    :class:`UsageError` where nothing is left."""

    def wanted(chain: Chain) -> bool:
        return all((not ms or each.m in ms) and (not ops or each.op in ops) for each in chain.products)

    kept = [chain for each in workloads for chain in each.chains if wanted(chain)]
    inside = {product for chain in kept for product in chain.products}
    kept += [alone for each in problems if each not in inside and wanted(alone := Chain(str(each), (each,)))]
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

    Results come first: a routed chain is held against stock's on the same inputs. A chain that the table leaves to
    stock is timed against itself, which is what the noise floor is taken from; where these are few, stock is timed
    against itself at some of the others too (see :class:`Bench`), at the cost of as many rounds again. Raises what
    ``open_session`` and its sessions raise. ``routes_of`` says stock once a route has failed in this process.
    """
    lines, noises = [], []
    routes = [[routes_of(product) for product in chain.products] for chain in chains]
    routed = [place for place, each in enumerate(routes) if any(route != STOCK for route in each)]
    besides = _spread(routed, OWN_NOISE - (len(chains) - len(routed)))
    for place, chain in enumerate(chains):
        session = open_session(chain)
        seen = session.check(ROUTED) if place in routed else SAME_CODE
        meter = Meter(session, effort)
        comparison = meter.compare(ROUTED if place in routed else STOCK)
        meter.settle(comparison)
        before, after = median(comparison.stock), median(comparison.times)
        failed = [routes_of(product) for product in chain.products] != routes[place]
        lines.append(line(chain.label, routes[place], before, after, comparison.interval, seen, failed))
        tell(lines[-1])
        if place in besides:
            comparison = meter.compare(STOCK)
            meter.settle(comparison)
        if place in besides or place not in routed:
            noises.append(noise_floor(comparison.ratios))
    return lines, float(f"{median(noises):.3g}")


def _spread(places: Sequence[int], count: int) -> list[int]:
    """So many of the places, or all if they are fewer: the middles of as many equal parts."""
    count = max(0, min(count, len(places)))
    return [places[(2 * part + 1) * len(places) // (2 * count)] for part in range(count)]


def line(
    label: str,
    routes: Sequence[Route],
    before: float,
    after: float,
    interval: Interval,
    seen: Accuracy,
    failed: bool = False,
) -> Line:
    """A line from seconds a call and the paired interval, rounded to what a reader needs."""
    apart, stray = (each if each < UNCOMPARABLE else UNCOMPARABLE for each in (seen.apart, seen.stray))  # no number too
    values = (before * 1e6, after * 1e6, interval.value, interval.low, interval.high, apart, stray)
    rounded = [float(f"{value:.4g}") for value in values]
    names = " + ".join(dict.fromkeys(str(route) for route in routes))
    routed = any(route != STOCK for route in routes)
    us_before, us_after, speedup, low, high, apart, stray = rounded
    return Line(label, names, routed, us_before, us_after, speedup, low, high, apart, stray, failed)
