"""Statistics of paired timings: pure functions, each with its reference.

All work on log ratios: a speedup of 2 and one of 1/2 are then equally far from none, and means of ratios do not favour
either side (Fleming and Wallace, "How not to lie with statistics", CACM 29(3), 1986).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, median, stdev

# Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom (any table; Student, Biometrika 6, 1908).
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True)
class Interval:
    """A speedup (stock's time over the route's) with its 95 % confidence bounds."""

    value: float
    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        return self.low <= other.high and other.low <= self.high


NONE = Interval(1.0, 1.0, 1.0)


def t95(degrees: int) -> float:
    """Student's two-sided 95 % quantile; the normal one, 1.96, beyond 30 degrees of freedom."""
    return _T95[degrees - 1] if degrees <= len(_T95) else 1.96


def t_quantile(probability: float, degrees: int) -> float:
    """Student's one-sided quantile, to 1 % for 4 degrees of freedom or more and probabilities of 0.5 to 0.9999
    (Abramowitz and Stegun, 26.7.5, from the normal quantile)."""
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees**power for power, term in enumerate(terms, 1))


def speedup(log_ratios: Sequence[float]) -> Interval:
    """The speedup of paired rounds: exp of the mean log ratio, with Student's interval (each round one observation).

    One round alone bounds nothing: its interval reaches from 0 to infinity.
    """
    if not log_ratios:
        raise ValueError("no rounds")
    mean = fmean(log_ratios)
    if len(log_ratios) == 1:
        return Interval(math.exp(mean), 0.0, math.inf)
    half = t95(len(log_ratios) - 1) * stdev(log_ratios) / math.sqrt(len(log_ratios))
    return Interval(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


def noise_floor(log_ratios: Sequence[float]) -> float:
    """How far from 1 the protocol puts two things that are the same, as a ratio minus one: the farther bound of the
    interval of stock against itself."""
    interval = speedup(log_ratios)
    return max(interval.high, 1 / max(interval.low, 1e-12)) - 1


def p95(samples: Sequence[float]) -> float:
    """95th percentile by linear interpolation between order statistics (Hyndman and Fan's type 7)."""
    ordered = sorted(samples)
    place = 0.95 * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def spread(samples: Sequence[float]) -> float:
    """Median absolute deviation over the median: a spread that one disturbed sample does not move."""
    middle = median(samples)
    return median([abs(sample - middle) for sample in samples]) / middle


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(fmean([math.log(value) for value in values]))
