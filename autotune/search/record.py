"""A sweep's rows as recorded spaces in T4, one file for each problem and kernel.

Whole spaces, evenly measured, are what these files are for: others can then measure their searches on them without the
chip. A config's time is stock's median over all of the problem's rounds, divided by the config's paired speedup: there
are minutes between the first config and the last, and a machine that slowed down meanwhile slowed stock too, so that
the drift cancels. What the config took by the clock would rank configs by when they were measured. Stock has a file of
its own.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from ..errors import AutotuneError
from ..kernels import STOCK, Route
from . import recorded, results
from .results import Result

_INVALIDITY = {
    results.OK: "correct",
    results.PRUNED: "correct",
    results.INACCURATE: "correctness",
    results.FAILED: "runtime",
}
TIME = "median of stock's rounds / paired speedup"
"""What a file's metadata say of its times."""


@dataclass(frozen=True)
class Rounds:
    """A route's rounds: stock's seconds a call in each, logs of stock's time over the route's, and the time of day at
    which the last one ended (ISO 8601)."""

    stock: tuple[float, ...]
    ratios: tuple[float, ...]
    at: str


def by_kernel(routes: Iterable[Route]) -> dict[str, list[Route]]:
    """The routes of each kernel."""
    found: dict[str, list[Route]] = defaultdict(list)
    for route in routes:
        found[route.kernel].append(route)
    return dict(found)


def files(rows: Iterable[Result], rounds: Mapping[Route, Rounds] | None = None) -> dict[str, str]:
    """Names and contents. ``rounds``, where they are known, are those of the rows' routes, all of one problem then.

    Metadata say which problem, kernel and machine, and the least and the most rounds of a config; routes stand in the
    order of their names, so that the same rows give the same bytes.
    """
    found: dict[tuple[str, str], list[Result]] = defaultdict(list)
    stock: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        found[row.problem, Route.parse(row.route).kernel].append(row)
        own = (rounds or {}).get(Route.parse(row.route))
        if row.rounds:
            stock[row.problem] += own.stock if own else [row.stock_us / 1e6] * row.rounds
    written = {}
    for (problem, kernel), each in sorted(found.items()):
        each.sort(key=lambda row: row.route)
        least, most = (bound((row.rounds for row in each if row.rounds), default=0) for bound in (min, max))
        about = {"problem": problem, "kernel_name": kernel, "rounds": [least, most], "time": TIME}
        middle = median(stock[problem]) if stock[problem] else 0.0
        entries = [_entry(row, middle, (rounds or {}).get(Route.parse(row.route))) for row in each]
        written[_name(each[0].chip, problem, kernel)] = recorded.t4(entries, {**about, **asdict(each[0].origin)})
    return written


def write(rows: Iterable[Result], folder: Path, rounds: Mapping[Route, Rounds] | None = None) -> list[Path]:
    """Writes the files, replacing those of the same names. Raises :class:`AutotuneError` where that cannot be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, text in files(rows, rounds).items():
            (folder / name).write_text(text, "utf-8")
            paths.append(folder / name)
        return paths
    except OSError as error:
        raise AutotuneError(
            f"{folder} cannot be written ({error.strerror or error})", "name another folder with --record"
        ) from None


def _entry(row: Result, stock: float, rounds: Rounds | None) -> recorded.Entry:
    """``stock`` is the problem's, in seconds. Without rounds there is one sample, by the row's own speedup, and the
    day."""
    route = Route.parse(row.route)
    own: Sequence[float] = ()
    if row.rounds:
        own = rounds.ratios if rounds else [math.log(row.speedup)]
    if route == STOCK and own:
        # Against itself it has no speedup: what its rounds say is the noise of the protocol.
        own = [math.log(stock / each) for each in rounds.stock] if rounds else [0.0]
    runtimes = tuple(stock / math.exp(each) for each in own)
    seconds = stock / math.exp(sum(own) / len(own)) if own and route != STOCK else stock if own else 0.0
    when = rounds.at if rounds else row.date
    return recorded.Entry(route.config, _INVALIDITY[row.status], seconds, runtimes, when)


def _name(chip: str, problem: str, kernel: str) -> str:
    return re.sub(r"[^A-Za-z0-9.=-]+", "_", f"{chip} {problem} {kernel}") + ".json"
