"""The measuring protocol: rounds of stock, route, route, stock on an open session.

What is kept is the ratio within a round. A machine that slows down slows both, and a linear drift cancels in the
palindrome A B B A. The two timings of each side are also the sentinel: where they differ by more than a bound,
something else happened to the machine, and the round is measured again. Everything here is tested on a fake session,
without a clock.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import fmean, median

from ..devices.base import Session
from ..kernels import STOCK, Route
from .sequential import Noise, Rival, slower
from .stats import Interval, speedup


@dataclass(frozen=True)
class Effort:
    """How much time to spend on a problem.

    ``seconds`` is the least length of one evaluation (many calls); ``screen`` and ``final`` are rounds for a candidate
    and for a finalist; ``finalists`` how many enter the play-off; ``searched`` how many routes are measured of kernels
    whose spaces are searched. ``even``: every candidate gets all of its rounds, however slow it is.
    """

    name: str
    seconds: float
    screen: int
    final: int
    finalists: int
    searched: int = 0
    even: bool = False

    def recording(self) -> Effort:
        """The same for spaces that are recorded: all routes, each with a finalist's rounds, and no play-off, in which
        the few best would get the luck of being picked and more rounds than the others."""
        return replace(self, screen=self.final, finalists=0, searched=ALL, even=True)


ALL = 1 << 40
"""More routes than any space has."""

EFFORTS = {
    effort.name: effort
    for effort in (
        Effort("quick", 0.004, 2, 5, 2, 24),
        Effort("standard", 0.01, 3, 8, 3, 120),
        Effort("full", 0.03, 4, 16, 4, 600),
    )
}

MOST_CALLS = 512
"""Calls in one evaluation: beyond this, building the graph costs more than it steadies."""
DRIFT = 0.15
"""Largest log ratio between the two timings of a side in a round: past it the round is measured again."""
SLOWED = 0.25
"""Stock this much slower than at the session's start, as a log ratio, means a throttled or a busy machine."""
CERTAIN = 10.0
"""An evaluation this many times as long as it need be is not looked at twice when a route is calibrated."""
RETRIES = 3
"""Rounds measured again before one is taken as it is: a machine that never rests must not hang a sweep."""
PRICED_OUT = 3.0
"""A route this many times slower than the incumbent when it is calibrated gets no round at all."""
HOPELESS = 2.0
"""A route this many times slower than the incumbent in its first round gets no second one."""


@dataclass
class Comparison:
    """A route's rounds so far. Times are seconds a call; ``ratios`` are logs of stock's time over the route's.

    ``calls`` make one evaluation, ``stock_calls`` one of stock that lasts as long, and ``estimate`` is the seconds a
    call that calibration saw. ``between`` is 0 where all rounds are of one session.
    """

    route: Route
    stock_calls: int
    calls: int
    estimate: float
    stock: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    between: float = 0.0

    @property
    def interval(self) -> Interval:
        return speedup(self.ratios)

    def extend(self, other: Comparison) -> None:
        """Takes over the rounds of another session, and keeps in ``between`` how far the two lie apart, as the log of
        the ratio of their speedups."""
        if self.ratios and other.ratios:
            self.between = fmean(self.ratios) - fmean(other.ratios)
        self.stock += other.stock
        self.times += other.times
        self.ratios += other.ratios


class Meter:
    """Measures routes on one session, each in turns with stock, or with ``against`` in its place. Counts what the
    machine did to it in ``disturbed`` and ``slowed``."""

    def __init__(
        self, session: Session, effort: Effort, sleep: Callable[[float], None] = time.sleep, against: Route = STOCK
    ) -> None:
        self._session = session
        self._against = against
        self._effort = effort
        self._sleep = sleep
        self._stock_calls = 0
        self._baseline = 0.0
        self._noise = Noise()
        self.disturbed = 0
        self.slowed = 0

    def compare(self, route: Route) -> Comparison:
        """A comparison without rounds: warms the route up and settles how many calls make one evaluation.

        Evaluations of both sides last equally long, as far as ``MOST_CALLS`` lets them: what an evaluation costs
        besides its calls then falls out of the ratio. Seen on an H100, where it was a millisecond: with fewer calls for
        the side that was calibrated on a cold machine, stock was faster than itself in 82 of 107 problems.
        """
        if not self._stock_calls:
            self._stock_calls, self._baseline = self._calibrate(self._against)
        if route == self._against:
            return Comparison(route, self._stock_calls, self._stock_calls, self._baseline)
        calls, estimate = self._calibrate(route)
        stock, calls = self._matched(calls, calls * estimate)
        return Comparison(route, stock, calls, estimate)

    def _matched(self, calls: int, length: float) -> tuple[int, int]:
        """Calls of stock and of a route, of which so many take ``length`` seconds, whose evaluations last equally long.
        Stock is looked at anew, beside the route: its own calibration may have been on a cold machine."""
        stock = self._stock_calls
        for _ in range(2):  # what an evaluation costs besides its calls makes the first correction fall short
            looked, each = stock, self._time(self._against, stock)
            self._baseline = min(self._baseline, each)
            stock = _within(length / each)
            if stock == looked:
                break
        if stock in (1, MOST_CALLS):  # as short, or as long, as it can be: the route follows
            calls = _within(calls * stock * each / max(length, 1e-12))
        return stock, calls

    def round(self, comparison: Comparison) -> None:
        """Adds one round, measured again where the sentinel says that the machine changed meanwhile."""
        for attempt in range(RETRIES + 1):
            a1 = self._time(self._against, comparison.stock_calls)
            b1 = self._time(comparison.route, comparison.calls)
            b2 = self._time(comparison.route, comparison.calls)
            a2 = self._time(self._against, comparison.stock_calls)
            if attempt == RETRIES:
                self._baseline = median([a1, a2])
            elif max(abs(math.log(a2 / a1)), abs(math.log(b2 / b1))) > DRIFT:
                self.disturbed += 1
                continue
            elif math.log(min(a1, a2) / self._baseline) > SLOWED:
                self.slowed += 1
                self._sleep(min(5.0, 4 * (a1 * comparison.stock_calls + b1 * comparison.calls)))
                continue
            break
        comparison.stock.append((a1 + a2) / 2)
        comparison.times.append((b1 + b2) / 2)
        comparison.ratios.append(math.log((a1 + a2) / (b1 + b2)))

    def screen(self, route: Route, incumbent: Interval, rival: Rival | None = None) -> tuple[Comparison, bool]:
        """A candidate's rounds, and whether it was dropped on the way for being clearly slower.

        Calibration alone drops what is ``PRICED_OUT`` by the incumbent; one round, what is slower by ``HOPELESS``; any
        round but the last, what the sequential test calls slower than the ``rival``: the last of those that are still
        of use. Held against the incumbent itself, a route that had luck would leave none to replace it. Under an
        ``even`` effort none is dropped.
        """
        comparison = self.compare(route)
        if self._effort.even:
            self.settle(comparison)
            return comparison, False
        if self._baseline / comparison.estimate * PRICED_OUT < incumbent.value:
            comparison.stock.append(self._baseline)
            comparison.times.append(comparison.estimate)
            comparison.ratios.append(math.log(self._baseline / comparison.estimate))
            return comparison, True
        looks = self._effort.screen - 1
        dropped = False
        for done in range(1, self._effort.screen + 1):
            self.round(comparison)
            hopeless = done == 1 and comparison.interval.value * HOPELESS < incumbent.value
            if hopeless or (rival and done <= looks and slower(comparison.ratios, rival, self._noise, looks)):
                dropped = True
                break
        self._noise.add(comparison.ratios)
        return comparison, dropped

    def settle(self, comparison: Comparison, rounds: int = 0) -> None:
        """Brings a comparison up to so many rounds (0: the effort's final number)."""
        before = len(comparison.ratios)
        while len(comparison.ratios) < (rounds or self._effort.final):
            self.round(comparison)
        self._noise.add(comparison.ratios[before:])

    def _calibrate(self, route: Route) -> tuple[int, float]:
        """Calls that fill an evaluation, and seconds a call. The first evaluation warms up and is thrown away."""
        self._session.time(route, 1)
        return calibrated(lambda calls: self._session.time(route, calls), self._effort.seconds)

    def _time(self, route: Route, calls: int) -> float:
        return max(self._session.time(route, calls), 1e-12) / calls


def _within(calls: float) -> int:
    return min(MOST_CALLS, max(1, round(calls)))


def calibrated(evaluation: Callable[[int], float], least: float) -> tuple[int, float]:
    """Calls that make an evaluation last ``least`` seconds, and seconds a call; ``evaluation`` has those of so many.

    What seems long enough is looked at twice: a machine that was held up for a moment makes one call look so, and all
    that follows would be timed one call at a time. Not so what takes ``CERTAIN`` times as long."""
    calls = 1
    while True:
        seconds = evaluation(calls)
        if least <= seconds < CERTAIN * least:
            seconds = min(seconds, evaluation(calls))
        if seconds >= least or calls >= MOST_CALLS:
            return calls, seconds / calls
        wanted = math.ceil(1.2 * calls * least / max(seconds, 1e-9))
        calls = min(MOST_CALLS, max(calls + 1, min(wanted, 8 * calls)))
