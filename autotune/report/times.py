"""What stock and a table's routes take, M by M and shape beside shape: ``autotune show --times``.

The numbers are those of the measurements beside the table, at the M that were measured; a table's own rows have the
evidence of the weakest M of an interval alone.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..devices.clock import PLAIN
from ..errors import AutotuneError
from ..kernels import STOCK, Route
from ..problem import Family, Problem
from ..routing.neighbours import class_of
from ..routing.table import Table, route_at
from ..search.measured import by_family, noise_of
from ..search.results import Result
from ..search.stats import NONE, Interval, geometric_mean
from . import tables

FORMATS = ("text", "markdown")
ABREAST = 5
"""Shapes in one grid: the products of a model's layers and its head; more of them fit no page."""
GUTTER = 2
"""Columns between two of a grid (``tables.grid``)."""
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


@dataclass(frozen=True)
class Group:
    """Families of one class that belong together, such as the layers of a model: a geometric mean for each M is of
    these."""

    class_: str
    families: tuple[Family, ...]


@dataclass(frozen=True)
class Times:
    """A table's cells by family and M, and which families are shown together."""

    table: Table
    cells: Mapping[Family, Mapping[int, Cell]]
    groups: tuple[Group, ...]

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
    measured = by_family(row for row in results if row.load == table.header.load)
    named = [family for family in order or measured if tables.has_words(str(family), words)]
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
    return Times(table, found, _groups(dict.fromkeys(named), found, ABREAST if order else len(named)))


def _groups(named: Iterable[Family], measured: Container[Family], most: int) -> tuple[Group, ...]:
    """``most`` of a class at a time, also where some of these were not measured: a workload lists model by model."""
    classes: dict[str, list[Family]] = {}
    for family in named:
        classes.setdefault(class_of(str(family)), []).append(family)
    every = (
        Group(class_, tuple(family for family in families[at : at + most] if family in measured))
        for class_, families in classes.items()
        for at in range(0, len(families), most)
    )
    return tuple(group for group in every if group.families)


def _cell(table: Table, problem: Problem, rows: Mapping[Route, Result]) -> Cell | None:
    """None where the table has no row for the problem, or its route no time: not everything that lies beside a table
    went into it."""
    route = route_at(table.rows(str(problem.family)), problem.m)
    own = rows.get(route) if route else None
    if route is None or own is None or not own.time_us:
        return None
    stock_us, gain = (own.time_us, NONE) if route == STOCK else (own.stock_us, own.interval)
    return Cell(problem, route, stock_us, own.time_us, gain, noise_of(rows[STOCK]), own.clock, own.mlx, own.date)


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


def next_step(found: Sequence[Times], option: str = "") -> str:
    """The command that follows: why the product that gains most has its route. ``option`` named the table, if one
    did."""
    most = max((cell for each in found for cell in each.all), key=lambda cell: cell.speedup.value)
    return " ".join(filter(None, ("autotune explain", tables.as_words(most.problem), option)))


def text(found: Iterable[Times], width: int = tables.WIDE) -> list[Any]:
    """The cells as lines and grids for :func:`autotune.report.tables.write`, no wider than ``width`` columns as far as
    one shape fits: no number is cut."""
    parts: list[Any] = []
    for each in found:
        for title, head, rows in grids(each, width=width):
            parts += [tables.styled(title, "bold"), tables.grid(rows, head, right=range(len(head)), fold=None), ""]
        parts += [tables.styled(line, "dim") for line in (summary(each), *notes(each))]
    return parts


def markdown(found: Iterable[Times]) -> str:
    """The same for a pull request or a page."""
    out: list[str] = []
    for each in found:
        for title, head, rows in grids(each, strong=True):
            out += [f"`{title}`", "", _piped(head), f"|{' ---: |' * len(head)}", *map(_piped, rows), ""]
        out += [f"{summary(each)}.", "", " ".join(notes(each)), ""]
    return "\n".join(out).rstrip()


Grid = tuple[str, list[str], list[list[str]]]
"""A title, a head and lines of cells."""
Column = list[str]
"""A head and a cell for each M of a group."""


def grids(found: Times, width: int = tables.WIDE, strong: bool = False) -> Iterator[Grid]:
    """Each group as one grid or, where that would be wider than ``width`` or have more than ``ABREAST`` shapes, as
    several, of which the last has the geometric means of all."""
    mixed = _mixed(found)
    for group in found.groups:
        of_each = [found.cells[family] for family in group.families]
        ms = sorted({m for by_m in of_each for m in by_m})
        at_each = [[by_m.get(m) for by_m in of_each] for m in ms]
        columns = [
            [tables.shape(family), *(_words(cell, strong, mixed) if cell else "" for cell in cells)]
            for family, cells in zip(group.families, zip(*at_each))
        ]
        numbers, means = ["M", *map(str, ms)], ["geomean", *map(_mean, at_each)]
        pieces = _pieces([*columns, means], width - _wide(numbers))
        for number, piece in enumerate(pieces, 1):
            title = group.class_ + (f" ({number} of {len(pieces)})" if len(pieces) > 1 else "")
            head, *lines = [list(line) for line in zip(numbers, *piece)]
            # An M at which no shape of the piece was measured says nothing there; the means are of every M.
            yield title, head, [line for line in lines if any(line[1:])]


def _pieces(columns: Sequence[Column], room: int) -> list[list[Column]]:
    """The columns in as few pieces as fit into ``room``, one at least in each; the last column does not count to
    ``ABREAST``."""
    pieces: list[list[Column]] = [[]]
    left = room
    for number, column in enumerate(columns, 1):
        full = len(pieces[-1]) == ABREAST and number < len(columns)
        if pieces[-1] and (full or GUTTER + _wide(column) > left):
            pieces.append([])
            left = room
        pieces[-1].append(column)
        left -= GUTTER + _wide(column)
    return pieces


def _wide(column: Column) -> int:
    return max(map(len, column))


def _mean(cells: Sequence[Cell | None]) -> str:
    """The geometric mean of a group at one M, with the number of shapes where it is not of all."""
    there = [cell for cell in cells if cell]
    return f"{geometric(there):.2f}x" + ("" if len(there) == len(cells) else f" of {len(there)}")


def _words(cell: Cell, strong: bool, mixed: bool) -> str:
    marks, stock, routed = _marks(cell, mixed), tables.three(cell.stock_us), tables.three(cell.routed_us)
    if not cell.routed:
        return f"{stock}, stock{marks}"
    gain = f"{cell.speedup.value:.2f}x"
    return f"{stock} to {routed}, {f'**{gain}**' if strong else gain}{marks}"


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
    alone = "; the GPU's time alone" if PLAIN not in clocks else ""
    who = "by a model of" if head.source == "simulated" else "on"
    marks = {mark for cell in found.all for mark in _marks(cell, _mixed(found))}
    return [
        f"Microseconds a call, stock to the table's route, {who} {head.chip.device_name}, MLX {versions}, {dates}; "
        f"calls {how}{alone}.",
        "Times are medians and speedups of paired rounds, so they need not divide exactly.",
        *(f"{mark} {meaning}." for mark, meaning in NOTES.items() if mark in marks),
    ]


def _mixed(found: Times) -> bool:
    """Whether some times are plain and some are not."""
    return len({cell.clock == PLAIN for cell in found.all}) > 1


def _marks(cell: Cell, mixed: bool) -> str:
    return (UNGATED if mixed and cell.clock == PLAIN else "") + (RESTLESS if cell.noise > FAR else "")


def geometric(cells: Sequence[Cell]) -> float:
    """The geometric mean of their speedups."""
    return geometric_mean([cell.speedup.value for cell in cells])
