"""What stock and a table's routes take, M by M and shape beside shape: ``autotune show --times``.

The numbers are those of the measurements beside the table, at the M that were measured; a table's own rows have the
evidence of the weakest M of an interval alone.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ..devices.clock import GATED, PLAIN
from ..errors import AutotuneError
from ..kernels import STOCK, Route
from ..problem import Family, Problem
from ..routing.neighbours import class_of
from ..routing.table import Table
from ..search.measured import by_family, noise_of
from ..search.results import Result
from ..search.stats import NONE, Interval
from . import tables

FORMATS = ("text", "markdown")
ABREAST = 5
"""Shapes in one grid: the products of a model's layers and its head; more of them fit no page."""
FAR = 0.15
"""Stock further than this from itself, as a ratio minus one, marks a machine that was busy with something else."""
RESTLESS, UNGATED = "*", "°"
NOTES = {
    RESTLESS: f"stock was more than {FAR:.0%} from itself",
    UNGATED: "plain times, with what it costs to hand calls over; the others are the GPU's alone",
}


@dataclass(frozen=True)
class Cell:
    """A measured problem: microseconds a call of stock and of the table's route, timed in turns.

    ``speedup`` is exactly 1 where the route is stock. ``noise`` is how far stock was from itself, as a ratio minus one;
    ``clock`` how times were taken, ``mlx`` and ``date`` with which MLX and when.
    """

    problem: Problem
    route: Route
    stock_us: float
    routed_us: float
    speedup: Interval
    noise: float
    clock: str
    mlx: str
    date: str

    @property
    def routed(self) -> bool:
        return self.route != STOCK


Grid = tuple[str, tuple[Family, ...]]
"""A class, and families of it whose shapes are shown beside each other."""


@dataclass(frozen=True)
class Times:
    """A table's cells by family and M, and which families are shown together."""

    table: Table
    cells: Mapping[Family, Mapping[int, Cell]]
    grids: tuple[Grid, ...]

    @property
    def all(self) -> list[Cell]:
        return [cell for by_m in self.cells.values() for cell in by_m.values()]


def times(
    table: Table, results: Iterable[Result], words: str = "", ms: Sequence[int] = (), order: Sequence[Family] = ()
) -> Times:
    """The cells of the families whose text has all of the words, at ``ms`` or all measured M; with ``order`` of its
    families alone, in its order. Results under another load than the table's are left out.

    Raises :class:`AutotuneError` where nothing was measured of that.
    """
    wanted = words.lower().split()
    measured = by_family(row for row in results if row.load == table.header.load)
    named = [family for family in order or measured if all(word in str(family).lower() for word in wanted)]
    found: dict[Family, dict[int, Cell]] = {}
    for family in dict.fromkeys(named):
        cells = (_cell(table, each.problem, each.rows) for each in measured.get(family, ()))
        by_m = {cell.problem.m: cell for cell in cells if cell and (not ms or cell.problem.m in ms)}
        if by_m:
            found[family] = by_m
    if not found:
        raise AutotuneError(
            f"nothing of that was measured for {table.path}", "leave out some of --family, --workload and --m"
        )
    return Times(table, found, _grids(dict.fromkeys(named), found))


def _grids(named: Iterable[Family], measured: Container[Family]) -> tuple[Grid, ...]:
    """``ABREAST`` of a class at a time, also where some of these were not measured: a workload lists model by model."""
    classes: dict[str, list[Family]] = {}
    for family in named:
        classes.setdefault(class_of(str(family)), []).append(family)
    every = (
        (class_, tuple(family for family in families[at : at + ABREAST] if family in measured))
        for class_, families in classes.items()
        for at in range(0, len(families), ABREAST)
    )
    return tuple(grid for grid in every if grid[1])


def _cell(table: Table, problem: Problem, rows: Mapping[Route, Result]) -> Cell | None:
    """None where the table has no row for the problem, or its route no time: not everything that lies beside a table
    went into it."""
    covering = (row for row in table.rows(str(problem.family)) if row.first <= problem.m <= row.last)
    row = next(covering, None)
    own = rows.get(row.route) if row else None
    if row is None or own is None or not own.time_us:
        return None
    stock_us, gain = (own.time_us, NONE) if row.route == STOCK else (own.stock_us, own.interval)
    return Cell(problem, row.route, stock_us, own.time_us, gain, noise_of(rows[STOCK]), own.clock, own.mlx, own.date)


def document(found: Iterable[Times]) -> dict[str, Any]:
    """The cells as a JSON document."""
    return {
        "tables": [
            {
                "path": each.table.path,
                **each.table.header.as_json(),
                "geometric_mean": round(geometric(each.all), 4),
                "times": [_json(cell) for cell in each.all],
            }
            for each in found
        ]
    }


def _json(cell: Cell) -> dict[str, Any]:
    return {
        "problem": str(cell.problem),
        "route": str(cell.route),
        "stock_us": cell.stock_us,
        "routed_us": cell.routed_us,
        "speedup": [cell.speedup.value, cell.speedup.low, cell.speedup.high],
        "noise": round(cell.noise, 6),
        "clock": cell.clock,
        "mlx": cell.mlx,
        "date": cell.date,
    }


def text(found: Iterable[Times]) -> list[Any]:
    """The cells as lines and grids for :func:`autotune.report.tables.write`."""
    parts: list[Any] = []
    for each in found:
        for class_, families in each.grids:
            rows = lines(each, families)
            right = range(len(families) + 2)
            parts += [tables.styled(class_, "bold"), tables.grid(rows, _head(families), right=right), ""]
        parts += [tables.styled(line, "dim") for line in (summary(each), *notes(each))]
    return parts


def markdown(found: Iterable[Times]) -> str:
    """The same for a pull request or a page."""
    out: list[str] = []
    for each in found:
        for class_, families in each.grids:
            head = _head(families)
            out += [f"`{class_}`", "", _piped(head), f"|{' ---: |' * len(head)}"]
            out += [_piped(row) for row in lines(each, families, strong=True)]
            out.append("")
        out += [f"{summary(each)}.", "", " ".join(notes(each)), ""]
    return "\n".join(out).rstrip()


def lines(found: Times, families: Sequence[Family], strong: bool = False) -> list[list[str]]:
    """A line for each M that was measured of any of the families: M, a cell for each, the geometric mean."""
    out = []
    mixed = len({cell.clock for cell in found.all}) > 1
    for m in sorted({m for family in families for m in found.cells[family]}):
        cells = [found.cells[family].get(m) for family in families]
        mean = geometric([cell for cell in cells if cell])
        out.append([str(m), *(_words(cell, strong, mixed) if cell else "" for cell in cells), f"{mean:.2f}x"])
    return out


def _words(cell: Cell, strong: bool, mixed: bool) -> str:
    marks, stock, routed = _marks(cell, mixed), tables.three(cell.stock_us), tables.three(cell.routed_us)
    if not cell.routed:
        return f"{stock}, stock{marks}"
    gain = f"{cell.speedup.value:.2f}x"
    return f"{stock} to {routed}, {f'**{gain}**' if strong else gain}{marks}"


def _head(families: Sequence[Family]) -> list[str]:
    return ["M", *map(tables.shape, families), "geomean"]


def _piped(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def summary(found: Times) -> str:
    """How many of the cells leave stock, their geometric mean, and the least and the most gained."""
    away = [cell for cell in found.all if cell.routed]
    line = (
        f"{tables.count(len(found.all), 'product')}, {len(away)} off stock; geometric mean {geometric(found.all):.2f}x"
    )
    if not away:
        return line
    least, most = (pick(away, key=lambda cell: cell.speedup.value) for pick in (min, max))
    return f"{line}; off stock {geometric(away):.2f}x, from {_gain(least)} to {_gain(most)}"


def _gain(cell: Cell) -> str:
    return f"{cell.speedup.value:.2f}x (M={cell.problem.m} {tables.shape(cell.problem.family)})"


def notes(found: Times) -> list[str]:
    """What the numbers are, and the marks that occur in them."""
    head = found.table.header
    clocks = {cell.clock for cell in found.all}
    versions, dates = (tables.list_of(sorted({getattr(cell, name) for cell in found.all})) for name in ("mlx", "date"))
    how = "linked in a chain, the link included" if head.load == "chained" else "independent of each other"
    alone = "; the GPU's time alone" if clocks == {GATED} else ""
    who = "by a model of" if head.source == "simulated" else "on"
    marks = {mark for cell in found.all for mark in _marks(cell, len(clocks) > 1)}
    return [
        f"Microseconds a call, stock to the table's route, {who} {head.chip.device_name}, MLX {versions}, {dates}; "
        f"calls {how}{alone}.",
        "Times are medians and speedups of paired rounds, so they need not divide exactly.",
        *(f"{mark} {meaning}." for mark, meaning in NOTES.items() if mark in marks),
    ]


def _marks(cell: Cell, mixed: bool) -> str:
    """``mixed`` where the times were not all taken in one way."""
    return (UNGATED if mixed and cell.clock == PLAIN else "") + (RESTLESS if cell.noise > FAR else "")


def geometric(cells: Sequence[Cell]) -> float:
    """The geometric mean of their speedups."""
    return math.exp(fmean(math.log(cell.speedup.value) for cell in cells))
