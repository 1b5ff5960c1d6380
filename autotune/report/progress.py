"""What a sweep tells while it runs: a live display on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from ..kernels import STOCK
from ..problem import Problem
from ..search.results import FAILED, Result
from ..search.sweep import Done

EVERY = 5.0
"""Seconds between plain lines: often enough to see life, seldom enough for a log."""
SLOW = 10.0
"""Seconds from which a single route is named for it. Seen on an H100: MLX's CUDA build compiles its own matrix-matrix
kernels at their first use, some 25 s each, and keeps them on disk."""


def speedup(result: Result | None, chosen: bool = True) -> str:
    """``pad multiple=8 3.10x [3.02, 3.19]``; stock, where the best of the others is no faster, was not
    ``chosen`` for its evidence, or none was timed."""
    if result is None:
        return "stock (no other route was timed to the end)"
    bounds = f" [{result.low:.3g}, {result.high:.3g}]" if result.rounds > 1 else ""
    text = f"{result.route} {result.speedup:.3g}x{bounds}"
    return text if chosen and result.speedup > 1 else f"stock (next best: {text})"


def duration(seconds: float) -> str:
    """``45 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def slow(result: Result, seconds: float, play_off: bool) -> str:
    """What to say of a route that took that long; empty where it is not worth a line of its own.

    A route's first row on a GPU is where MLX may have compiled for it, which is said as something to know: how much of
    the time that was is not known here. A play-off's routes have run before.
    """
    if seconds < SLOW or result.status == FAILED:
        return ""
    compiles = not play_off and result.backend != "cpu" and result.source == "measured"
    return f"{result.route} took {duration(seconds)}{' (MLX compiles its kernels at first use)' if compiles else ''}"


class Lines:
    """A listener of the sweep that prints lines on stderr, at most one every ``every`` seconds within a problem."""

    def __init__(
        self,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
        write: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
    ) -> None:
        self._every = every
        self._clock = clock
        self._write = write
        self._last = -every
        self._where = ""

    def started(self, problem: Problem, number: int, total: int, eta: float | None) -> None:
        self._where = f"[{number}/{total}] {problem}"
        rest = f", about {duration(eta)} left" if eta is not None else ""
        self._say(f"{self._where}{rest}")

    def measured(self, problem: Problem, result: Result, best: Result | None, seconds: float, play_off: bool) -> None:
        if said := slow(result, seconds, play_off):
            self._say(f"{self._where}: {said}")
        elif self._clock() - self._last >= self._every:
            self._say(f"{self._where}: {result.route} {result.status}; best {speedup(best)}")

    def finished(self, done: Done) -> None:
        how = "known" if done.resumed else f"{done.seconds:.1f} s"
        refused = f", {done.refused} refused" if done.refused else ""
        self._say(f"{self._where}: {speedup(done.best, done.chosen != STOCK)} ({done.routes} routes{refused}, {how})")

    def close(self) -> None:
        """Nothing to clean up."""

    def _say(self, text: str) -> None:
        self._last = self._clock()
        self._write(text)


class Live:
    """The same on a terminal, drawn in place by rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            BarColumn(20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[eta]:>12}"),
            TextColumn("{task.description}", table_column=_wide()),
            console=Console(stderr=True, highlight=False),
        )
        self._task: Any = None
        self._progress.start()

    def started(self, problem: Problem, number: int, total: int, eta: float | None) -> None:
        left = f"{duration(eta)} left" if eta is not None else ""
        if self._task is None:
            self._task = self._progress.add_task(str(problem), total=total, eta=left)
        self._progress.update(self._task, description=str(problem), completed=number - 1, eta=left)

    def measured(self, problem: Problem, result: Result, best: Result | None, seconds: float, play_off: bool) -> None:
        if said := slow(result, seconds, play_off):
            self._progress.console.print(f"{problem}: {said}", soft_wrap=True)
        self._progress.update(self._task, description=f"{problem}\nbest {speedup(best)}\nlast {result.route}")

    def finished(self, done: Done) -> None:
        self._progress.advance(self._task)
        if not done.resumed:
            said = speedup(done.best, done.chosen != STOCK)
            self._progress.console.print(f"{done.problem}: {said}", soft_wrap=True)

    def close(self) -> None:
        self._progress.stop()


def _wide() -> Any:
    from rich.table import Column

    return Column(ratio=1, no_wrap=False)


def listener() -> Lines | Live:
    """The live display where stderr is a terminal that can be drawn on, else lines."""
    import os

    return Live() if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else Lines()
