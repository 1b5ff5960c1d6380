"""Results as data: one measured route a row, with everything a table needs and where it came from.

Rows are what studies hold, what ``<chip>.csv`` lists and what tables are derived from; nothing else is.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable
from dataclasses import MISSING, asdict, dataclass, fields
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import Any

from ..errors import UsageError
from ..kernels import Route
from ..machine import Machine
from ..problem import Problem
from ..routing.table import ChipKey
from .stats import Interval, p95, speedup, spread

OK, PRUNED, INACCURATE, FAILED = "ok", "pruned", "inaccurate", "failed"


@dataclass(frozen=True)
class Origin:
    """Where and with what a row was measured."""

    chip: str
    backend: str
    device_name: str
    architecture: str
    cores: int
    nax: bool
    os: str
    mlx: str
    autotune: str
    load: str
    source: str
    clock: str = "plain"

    @classmethod
    def of(
        cls, chip: str, machine: Machine, autotune: str, load: str, source: str = "measured", clock: str = "plain"
    ) -> Origin:
        m = machine
        here = (m.backend, m.device_name, m.architecture, m.cores, m.nax, m.os, m.mlx)
        return cls(chip, *here, autotune, load, source, clock)

    @property
    def key(self) -> ChipKey:
        return ChipKey(self.chip, self.backend, self.device_name, self.architecture, self.cores, self.nax)


@dataclass(frozen=True)
class Result:
    """One route of one problem, measured.

    Times are microseconds a call: ``time_us``, ``p95_us`` and ``stock_us`` over the rounds' means. ``spread`` is the
    relative median absolute deviation. ``speedup`` is stock's time over the route's with its 95 % interval over
    ``rounds`` paired rounds; for the route ``stock`` it compares stock with itself, and is the noise of the protocol.
    ``error`` is relative to a float64 reference. ``host_us`` is how much longer than with stock the program itself is
    busy with a call, building it and handing it to the device; 0 where that was not measured. ``clock`` is how times
    were taken: ``plain``, ``gated`` or ``stamped`` (``devices/clock.py``). ``between`` is the log of the ratio of the
    speedups that the two sessions of a play-off saw; 0 where there were not two. A row that is not ``ok`` or ``pruned``
    has no times and says why in ``reason``.
    """

    problem: str
    route: str
    status: str
    reason: str
    rounds: int
    time_us: float
    p95_us: float
    spread: float
    stock_us: float
    speedup: float
    low: float
    high: float
    error: float
    stock_error: float
    kernel: str
    space: str
    date: str
    seed: int
    chip: str
    backend: str
    device_name: str
    architecture: str
    cores: int
    nax: bool
    os: str
    mlx: str
    autotune: str
    load: str
    source: str
    host_us: float = 0.0
    clock: str = "plain"
    between: float = 0.0

    @property
    def interval(self) -> Interval:
        return Interval(self.speedup, self.low, self.high)

    @property
    def origin(self) -> Origin:
        return Origin(*_of_origin(self))


def timed(
    problem: Problem,
    route: Route,
    status: str,
    stock: list[float],
    times: list[float],
    ratios: list[float],
    **rest: Any,
) -> Result:
    """A row with times; ``stock`` and ``times`` in seconds a call, ``ratios`` logs. Rounded to what a reader needs,
    which is also what makes a row survive being written and read."""
    interval = speedup(ratios)
    high = interval.high if math.isfinite(interval.high) else 1e6
    return _result(
        problem,
        route,
        status=status,
        reason="",
        rounds=len(ratios),
        time_us=median(times) * 1e6,
        p95_us=p95(times) * 1e6,
        spread=spread(times),
        stock_us=median(stock) * 1e6,
        speedup=interval.value,
        low=interval.low,
        high=high,
        **rest,
    )


def untimed(problem: Problem, route: Route, status: str, reason: str, **rest: Any) -> Result:
    """A row for a route that was refused or failed before it could be timed."""
    nothing: dict[str, Any] = dict.fromkeys(("time_us", "p95_us", "spread", "stock_us", "speedup", "low", "high"), 0.0)
    return _result(problem, route, status=status, reason=" ".join(reason.split())[:300], rounds=0, **nothing, **rest)


def _result(problem: Problem, route: Route, origin: Origin, **values: Any) -> Result:
    rounded: dict[str, Any] = {
        name: float(f"{value:.5g}") if isinstance(value, float) and math.isfinite(value) else value
        for name, value in values.items()
    }
    return Result(str(problem), str(route), **rounded, **asdict(origin))


_TYPES: dict[str, str] = {f.name: str(f.type) for f in fields(Result)}
_READ: dict[str, Callable[[Any], Any]] = {
    "bool": lambda value: value in (True, "True", "true", "1"),
    "int": int,
    "float": float,
    "str": str,
}
_LATER = {f.name: f.default for f in fields(Result) if f.default is not MISSING}
"""Columns that older files lack, with what stands for them."""
_of_origin = attrgetter(*(f.name for f in fields(Origin)))


def to_json(result: Result) -> dict[str, Any]:
    return asdict(result)


def from_json(raw: dict[str, Any]) -> Result:
    """Reads what :func:`to_json` writes, also after a trip through text. Raises ValueError, KeyError or TypeError."""
    known = {**_LATER, **raw}
    return _checked(Result(**{name: _READ[type_](known[name]) for name, type_ in _TYPES.items()}))


def _checked(result: Result) -> Result:
    if not result.low <= result.speedup <= result.high:
        raise ValueError(f"the speedup {result.speedup} lies outside its bounds")
    return result


def dumps(results: Iterable[Result]) -> str:
    """The rows as CSV, sorted by problem and route: the same rows give the same bytes."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(_TYPES), lineterminator="\n")
    writer.writeheader()
    for result in sorted(results, key=sort_key):
        writer.writerow(asdict(result))
    return out.getvalue()


def loads(text: str, where: str) -> list[Result]:
    """The rows of a CSV, whatever the order of its columns. Raises :class:`UsageError` with the line that is not
    understood."""
    reader = csv.reader(io.StringIO(text))
    try:
        names = next(reader, [])
    except csv.Error as error:
        raise UsageError(f"{where}, line 1: {error}", "export the results again") from None
    missing = sorted(set(_TYPES) - set(_LATER) - set(names))
    if missing:
        raise UsageError(f"{where} lacks the columns {', '.join(missing)}", "give a CSV that autotune export wrote")
    places = [(names.index(name), _READ[type_]) for name, type_ in _TYPES.items() if name in names]
    given = [name for name in _TYPES if name in names]
    found = []
    try:
        for row in reader:
            if len(row) != len(names):
                if not row:
                    continue
                raise ValueError("it has another number of columns than the first line")
            values = [read(row[place]) for place, read in places]
            found.append(_checked(Result(**dict(zip(given, values)))))
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UsageError(f"{where}, line {reader.line_num}: {error}", "export the results again") from None
    return found


def read(path: Path) -> list[Result]:
    """The rows of a CSV file. Raises :class:`UsageError`."""
    try:
        return loads(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text"
        raise UsageError(f"{path} cannot be read ({reason})", "run: autotune export") from None


def sort_key(result: Result) -> tuple[Any, ...]:
    """By family, then M, then route; stock first."""
    problem = Problem.parse(result.problem)
    return (problem.family, problem.m, result.route != "stock", result.route)
