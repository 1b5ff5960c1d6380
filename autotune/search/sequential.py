"""When a candidate is clearly slower than a rival: a sequential test with a stated error rate.

After each round the candidate's mean log ratio is held against the rival's. The noise of one round is pooled over
everything that this session has measured (stock against itself comes first, so that there always is something), which
is what lets one round decide: a candidate's own two or three rounds say next to nothing about their spread. A route as
fast as the rival is dropped with a probability of at most ``ERROR``, over all looks together (Bonferroni's bound),
as long as rounds are independent, normal in logs and equally noisy. The reference for pooled variances and the
two-sample statistic is any textbook (Snedecor and Cochran, "Statistical Methods", chapter 6).

The rival was picked for looking fast, and the third best of a hundred equal routes had luck. The most that this can be
worth is taken off it: those before it may be faster in truth, and it the luckiest of all others, if these are equal.
How far the highest of so many normal means lies above the true one is Blom's order statistic ("Statistical Estimates
and Transformed Beta-Variables", 1958). Without it up to 10 % were dropped wrongly, not 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist, fmean

from .stats import t_quantile

ERROR = 0.01
"""Probability of dropping a candidate that is exactly as fast as the rival; a faster one is dropped less often."""
LEAST_DEGREES = 4
"""Degrees of freedom without which nothing is decided."""
LEAST_SPREAD = 0.001
"""Least standard deviation of a round's log ratio that is believed: clocks and schedulers have grains."""


class Noise:
    """The pooled spread of a round's log ratio over several routes, each about its own mean."""

    def __init__(self) -> None:
        self._squares = 0.0
        self.degrees = 0

    def add(self, log_ratios: Sequence[float]) -> None:
        """Counts a route whose rounds are over."""
        if len(log_ratios) > 1:
            mean = fmean(log_ratios)
            self._squares += sum((each - mean) ** 2 for each in log_ratios)
            self.degrees += len(log_ratios) - 1

    @property
    def spread(self) -> float:
        """Standard deviation of one round; infinite while nothing is known."""
        if self.degrees < LEAST_DEGREES:
            return math.inf
        return max(LEAST_SPREAD, math.sqrt(self._squares / self.degrees))


@dataclass(frozen=True)
class Rival:
    """What a candidate is held against: its mean log ratio over so many rounds of its own, and how many were measured
    that it was picked from."""

    log_ratio: float
    rounds: int
    of: int = 1

    def expected(self, spread: float) -> float:
        """The log ratio without the luck of having been picked, where a round is off by ``spread``."""
        return self.log_ratio - spread / math.sqrt(self.rounds) * luck(self.of)


def rival(left: Sequence[tuple[float, int]], places: int, of: int) -> Rival | None:
    """The last of so many places among those that were not dropped, (mean log ratio, rounds) each, out of ``of`` that
    were measured; None while there are too few."""
    if len(left) < places:
        return None
    log_ratio, rounds = sorted(left, key=lambda each: -each[0])[places - 1]
    return Rival(log_ratio, rounds, of)


@lru_cache(maxsize=4096)
def luck(of: int) -> float:
    """By how many standard errors the highest of so many equal routes' means is expected to be too high; 0 of one."""
    return NormalDist().inv_cdf(1 - 0.625 / (of + 0.25))


def slower(log_ratios: Sequence[float], rival: Rival, noise: Noise, looks: int) -> bool:
    """Whether a candidate with these rounds is clearly slower than the rival; ``looks`` is how often that is asked of
    one candidate at most."""
    spread = noise.spread
    if not log_ratios or math.isinf(spread):
        return False
    error = spread * math.sqrt(1 / len(log_ratios) + 1 / rival.rounds)
    return fmean(log_ratios) + t_quantile(1 - ERROR / looks, noise.degrees) * error < rival.expected(spread)
