"""Boundaries between two routes: from which M on the second beats the first, by bisection with paired tests.

``vector_limit`` and the entry of split-K are such boundaries. Timing every M from 1 to 64 would find them too, at eight
times the cost: bisection asks for the two ends and six M between. Each answer is a paired comparison, repeated until
its sign is clear, or clearly cannot become so, or it has had its rounds; an unclear sign steers the search by its
estimate and widens the interval that is reported. Only clear signs make a crossing: it lies between two that differ. A
sign that changes more than once is a finding of its own (MLX has had such "dead zones"): ``checks`` more comparisons
look for it in the widest stretches that nobody looked into.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev

from .stats import Interval, t_quantile

LEAST, MOST = 5, 16
"""Rounds of a comparison: with fewer than five Student's quantiles are too wide to be of use."""
ERROR = 0.05
"""Probability that two equally fast routes get a clear sign, over all looks of one comparison (Bonferroni)."""

LOOKED = 64
"""Places on either side of a gap's middle that are looked at for one that can be compared."""


@dataclass(frozen=True)
class Sign:
    """Which route is faster at one M: positive for the second one, 0 where there was nothing to compare; ``clear``
    where chance is no likely reason."""

    value: int
    clear: bool


@dataclass(frozen=True)
class Crossing:
    """From ``at`` on the other route is faster, by the estimates. At ``low`` the one is clearly faster, at ``high``
    the other, and nothing between is clear, so that the crossing lies in ``low`` + 1 .. ``high``; ``second``:
    whether it is the second route that takes over."""

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


def bounds(log_ratios: Sequence[float], first: float = 0.0, second: float = 0.0) -> Interval:
    """The first route's time over the second's with the interval that the sign is judged by: it holds the truth with a
    probability of 1 - ``ERROR`` at all looks of a comparison together, and is wider than that of a single look.

    ``first`` and ``second`` are allowances, in logs, for what a better route of that side may be faster by, and widen
    the interval: the sign is clear where 1 lies outside.
    """
    mean = fmean(log_ratios)
    half = _half(log_ratios)
    return Interval(math.exp(mean), math.exp(mean - half - first), math.exp(mean + half + second))


def sign(rounds: Callable[[], float], first: float = 0.0, second: float = 0.0) -> Sign:
    """The sign of a paired comparison. ``rounds`` measures one round and returns the log of the first route's time over
    the second's; allowances as for :func:`bounds`. Ends also where the difference is clearly within an allowance, which
    no further round would change."""
    seen = [rounds() for _ in range(LEAST)]
    while True:
        mean, half = fmean(seen), _half(seen)
        clear = mean - half - first > 0 or mean + half + second < 0
        within = mean + half < first and mean - half > -second
        if clear or within or len(seen) >= MOST:
            return Sign(1 if mean > 0 else -1, clear)
        seen.append(rounds())


def _half(seen: Sequence[float]) -> float:
    looks = MOST - LEAST + 1
    return t_quantile(1 - ERROR / 2 / looks, len(seen) - 1) * stdev(seen) / math.sqrt(len(seen))


def find(
    compare: Callable[[int], Sign],
    first: int,
    last: int,
    checks: int = 0,
    usable: Callable[[int], bool] = lambda m: True,
) -> Boundary:
    """Bisects ``first``..``last`` with at most 2 + ceil(log2(last - first)) comparisons for one crossing, plus
    ``checks`` where nothing was compared, plus as many again as further crossings need. Only ``usable`` M are compared;
    where the middle of a gap is none, the nearest to it that is. M whose sign is 0 count for nothing, and a gap that
    has one is asked about elsewhere. Raises ValueError for an empty range."""
    if last < first:
        raise ValueError(f"no M lies in {first}..{last}")
    signs = {m: compare(m) for m in dict.fromkeys((first, last))}
    closed: set[tuple[int, int]] = set()
    while True:
        valued = {m: sign for m, sign in signs.items() if sign.value}
        open_ = [gap for gap in pairwise(sorted(valued)) if gap[1] - gap[0] > 1 and gap not in closed]
        changing = _changing(valued, closed)
        if changing is not None:
            a, b = changing
        elif checks > 0 and open_:
            a, b = max(open_, key=lambda gap: (gap[1] - gap[0], -gap[0]))
        else:
            return Boundary(_crossings(valued), signs)
        asked = next((m for m in _outwards(a, b) if m not in signs and usable(m)), None)
        if asked is None:
            closed.add((a, b))
            continue
        if changing is None:
            checks -= 1
        signs[asked] = compare(asked)


def _outwards(a: int, b: int) -> Iterator[int]:
    """What lies between, from the middle to both sides, as far as ``LOOKED``."""
    middle = (a + b) // 2
    yield middle
    for away in range(1, LOOKED + 1):
        yield from (m for m in (middle - away, middle + away) if a < m < b)


def _changing(signs: dict[int, Sign], closed: set[tuple[int, int]]) -> tuple[int, int] | None:
    """The gap to bisect next. Between two clear signs that differ, and from a clear one to the ends, one change of sign
    is followed until nothing lies within it; unclear signs between two clear ones that agree are chance or too small a
    difference to matter, and are not followed."""
    known = sorted(signs)
    marks = sorted({*known[:1], *(m for m in known if signs[m].clear), *known[-1:]})
    for low, high in pairwise(marks):
        if signs[low].value == signs[high].value:
            continue
        inside = [m for m in known if low <= m <= high]
        changes = [gap for gap in pairwise(inside) if signs[gap[0]].value != signs[gap[1]].value]
        if not any(b - a == 1 or (a, b) in closed for a, b in changes):
            return changes[0]
    return None


def _crossings(signs: dict[int, Sign]) -> tuple[Crossing, ...]:
    """One for each two neighbouring clear signs that differ; unclear ones between them belong to the interval."""
    known = sorted(signs)
    found = []
    for low, high in pairwise(m for m in known if signs[m].clear):
        after = signs[high].value
        if signs[low].value == after:
            continue
        inside = [m for m in known if low <= m <= high]
        changes = [(a, b) for a, b in pairwise(inside) if signs[a].value != after and signs[b].value == after]
        at = min(changes, key=lambda gap: (gap[1] - gap[0], gap[0]))[1]
        found.append(Crossing(at, low, high, after > 0))
    return tuple(found)
