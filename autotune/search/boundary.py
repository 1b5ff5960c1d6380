"""Boundaries between two routes: from which M on the second beats the first, by bisection with paired tests.

``vector_limit`` and the entry of split-K are such boundaries. Timing every M from 1 to 64 would find them too, at eight
times the cost: bisection asks for the two ends and six M between. Each answer is a paired comparison, repeated until
its sign is clear or it has had its rounds; an unclear sign steers the search by its estimate and widens the interval
that is reported. A sign that changes more than once is a finding of its own (MLX has had such "dead zones"): ``checks``
more comparisons look for it in the widest stretches that nobody looked into.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev

from .stats import t_quantile

LEAST, MOST = 5, 16
"""Rounds of a comparison: with fewer than five Student's quantiles are too wide to be of use."""
ERROR = 0.05
"""Probability that two equally fast routes get a clear sign, over all looks of one comparison (Bonferroni)."""


@dataclass(frozen=True)
class Sign:
    """Which route is faster at one M: positive for the second one; ``clear`` where chance is no likely reason."""

    value: int
    clear: bool


@dataclass(frozen=True)
class Crossing:
    """From ``at`` on the other route is faster. The data are clear below ``low`` + 1 and from ``high`` on, so that the
    crossing lies in ``low`` + 1 .. ``high``; ``second``: whether it is the second route that takes over."""

    at: int
    low: int
    high: int
    second: bool


@dataclass(frozen=True)
class Boundary:
    """What was found: the crossings from left to right and the sign at each M that was compared."""

    crossings: tuple[Crossing, ...]
    signs: dict[int, Sign]

    @property
    def limit(self) -> Crossing | None:
        """The one crossing to the second route; None where there is none, another one, or more than one."""
        found = self.crossings
        return found[0] if len(found) == 1 and found[0].second else None


def sign(rounds: Callable[[], float]) -> Sign:
    """The sign of a paired comparison. ``rounds`` measures one round and returns the log of the first route's time over
    the second's."""
    seen = [rounds() for _ in range(LEAST)]
    looks = MOST - LEAST + 1
    while True:
        mean = fmean(seen)
        half = t_quantile(1 - ERROR / 2 / looks, len(seen) - 1) * stdev(seen) / math.sqrt(len(seen))
        value = 1 if mean > 0 else -1
        if abs(mean) > half or len(seen) >= MOST:
            return Sign(value, abs(mean) > half)
        seen.append(rounds())


def find(compare: Callable[[int], Sign], first: int, last: int, checks: int = 0) -> Boundary:
    """Bisects ``first``..``last`` with at most 2 + ceil(log2(last - first)) comparisons for one crossing, plus
    ``checks`` where nothing was compared, plus as many again as further crossings need. Raises ValueError for an empty
    range."""
    if last < first:
        raise ValueError(f"no M lies in {first}..{last}")
    signs = {m: compare(m) for m in dict.fromkeys((first, last))}
    while True:
        known = sorted(signs)
        open_ = [(a, b) for a, b in pairwise(known) if b - a > 1]
        changing = [gap for gap in open_ if signs[gap[0]].value != signs[gap[1]].value]
        if changing:
            a, b = changing[0]
        elif checks > 0 and open_:
            a, b = max(open_, key=lambda gap: (gap[1] - gap[0], -gap[0]))
            checks -= 1
        else:
            return Boundary(_crossings(signs), signs)
        signs[(a + b) // 2] = compare((a + b) // 2)


def _crossings(signs: dict[int, Sign]) -> tuple[Crossing, ...]:
    known = sorted(signs)
    found = []
    for place, (a, b) in enumerate(pairwise(known)):
        before, after = signs[a].value, signs[b].value
        if before == after:
            continue
        low = _clear(signs, known[place::-1], before, known[0] - 1)
        high = _clear(signs, known[place + 1 :], after, known[-1] + 1)
        found.append(Crossing(b, low, high, after > 0))
    return tuple(found)


def _clear(signs: dict[int, Sign], path: list[int], value: int, end: int) -> int:
    """The first M of the path with a clear sign of that value."""
    for m in path:
        if signs[m].clear and signs[m].value == value:
            return m
    return end
