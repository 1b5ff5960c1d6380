"""What the reports on routing tables share: which table is meant, how numbers are written, how text is laid out."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import chips, paths
from ..errors import AutotuneError, TableError, UsageError, unknown
from ..problem import Family, Problem
from ..routing import table
from ..routing.neighbours import LIMIT, Bound
from ..routing.router import Router, Verdict
from ..routing.table import ChipKey, Header, Row, Table
from ..search.generalize import LEAST_SHAPES
from ..search.measured import bar
from ..search.stats import NONE, Interval

BOUNDLESS = 1e6
"""The upper bound that results write for a single round, which bounds nothing."""
EMPTY = 100
"""Bounds that are further apart than this factor say nothing that a reader could use."""
LEAST_WIDE = 20
"""Columns that text which folds is given at least: below that a terminal may wrap the line instead."""
WIDE = 10_000
"""Columns to lay text out in where nobody looks at it on a terminal: no line is ever folded there."""
LEVELS = {"valid": "green", "recheck": "yellow", "stale": "red"}
"""Freshness grades and the colours that they are shown in."""

_CORES = {"metal": "GPU cores", "cuda": "multiprocessors", "cpu": "processors"}
_SOURCES = {
    "measured": "measured on such a device",
    "simulated": "simulated: a model of the chip gave these times, nothing was measured",
}
_LOADS = {
    "chained": "chained (each call waits for the one before, as in decoding)",
    "queued": "queued (calls are independent of each other)",
}


def choose(chip: str, path: str) -> Table:
    """The table that ``--chip`` or ``--table`` names.

    Raises :class:`TableError` for a file that cannot be used, :class:`UsageError` for a name that is not known, and
    :class:`AutotuneError` where a chip has no table.
    """
    if chip and path:
        raise UsageError("--chip and --table both name a table", "give one of them")
    if path:
        return table.load(Path(path).expanduser())
    folders = (paths.user_tables(), paths.tuned_tables())
    id_ = _chip_id(chip)
    found = table.of_chip(id_, folders)
    if found:
        return table.load(found)
    if id_ in chips.catalogue():
        raise AutotuneError(f"there is no table for {id_}", "run autotune sweep and autotune export on such a machine")
    raise unknown("chip", chip, {*chips.catalogue(), *_ids(folders)})


def exists(chip: str) -> bool:
    """Whether a table of that chip is in reach."""
    return table.of_chip(_chip_id(chip), (paths.user_tables(), paths.tuned_tables())) is not None


def _chip_id(name: str) -> str:
    """The catalogue's id for what the user typed ("M5 Max"); a device that it does not list keeps its own id."""
    try:
        return chips.get(name).id
    except UsageError:
        return name


def _ids(folders: Iterable[Path]) -> list[str]:
    return [id_ for folder in folders for path in folder.glob("*.json") if (id_ := _id_in(path))]


def _id_in(path: Path) -> str:
    try:
        return table.peek(path).chip.id
    except TableError:
        return ""


@dataclass(frozen=True)
class Standing:
    """A table file in reach: for which of this machine's device kinds it is used, and why or why not."""

    path: str
    kinds: tuple[str, ...]
    reason: str


def standings(verdicts: Mapping[str, Sequence[Verdict]]) -> tuple[Standing, ...]:
    """The verdicts of the routers of all kinds, by file, in order of precedence."""
    files = dict.fromkeys(verdict.path for each in verdicts.values() for verdict in each)
    found = []
    for path in files:
        of_file = [(kind, verdict) for kind, each in verdicts.items() for verdict in each if verdict.path == path]
        used = tuple(kind for kind, verdict in of_file if verdict.used)
        reasons = dict.fromkeys(verdict.reason for _, verdict in of_file if verdict.used or not used)
        found.append(Standing(path, used, "; ".join(reasons)))
    return tuple(found)


def in_reach(kinds: Iterable[str], path: str = "") -> tuple[Standing, ...]:
    """What the routers of this machine's device kinds say of every table file in reach, or of one file."""
    routers = {kind: Router(kind) for kind in kinds}
    return standings({kind: [r.judge(Path(path))] if path else r.verdicts() for kind, r in routers.items()})


def option(chip: str, path: str) -> str:
    """The option that names the same table to the next command."""
    return f"--chip {shlex.quote(chip)}" if chip else f"--table {shlex.quote(path)}" if path else ""


def passed_over(files: Sequence[Standing]) -> list[str]:
    """Lines on files that are not used: all of them where none is, else those that the user made or named.

    Tables of other chips come with the project, and a machine that has its own need not hear of them.
    """
    used = any(file.kinds for file in files)
    shipped = paths.tuned_tables()
    lines = [] if used else ["no table is in use on this machine: every call takes stock"]
    unused = (file for file in files if not file.kinds and not (used and Path(file.path).is_relative_to(shipped)))
    return lines + [f"not used: {file.path}: {file.reason}" for file in unused]


def peak_bandwidth(chip: ChipKey) -> float | None:
    """The vendor's GB/s for that chip and core count, None where the catalogue does not have it."""
    known = chips.catalogue().get(chip.id)
    return known.memory_bandwidth_gbs.get(chip.cores) if known and known.memory_bandwidth_gbs else None


def over_stock(row: Row) -> Interval:
    """What the row gains over stock; a row for stock gains exactly nothing, its numbers are the best rival's."""
    return NONE if is_stock(row) else evidence(row)


def evidence(row: Row) -> Interval:
    """The row's numbers as an interval: its route's speedup, or for a row for stock that of the best rival."""
    return Interval(row.speedup, row.low, row.high)


def is_stock(row: Row) -> bool:
    return row.route.kernel == "stock"


def measured_in(row: Row) -> bool:
    """Whether the row's evidence is of an M that it covers; else it lies between two measured ones."""
    return row.first <= row.at <= row.last


def three(value: float) -> str:
    """Three significant digits and no exponent: ``0.0213``, ``47.1``, ``130``, ``13400``."""
    if value <= 0:
        return "0"
    rounded = float(f"{value:.2e}")
    return f"{rounded:.{max(0, 2 - math.floor(math.log10(rounded)))}f}"


def quantity(value: float) -> str:
    """Three significant digits and the metric prefix, for a unit to follow: ``425 M``."""
    for scale, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale * 0.9995:
            return f"{three(value / scale)} {prefix}"
    return f"{three(value)} "


def speedup(interval: Interval) -> str:
    """``2.91x [2.85, 2.97]``, ``38.6x [31.7, 47.2]``; a single round has no interval and says so, as do a few
    rounds whose interval spans more than a hundredfold."""
    places = 1 if interval.value >= 10 else 2 if interval.value >= 0.1 else 4
    value, low, high = (f"{each:.{places}f}" for each in (interval.value, interval.low, interval.high))
    if interval.low <= 0 or interval.high >= BOUNDLESS:
        return f"{value}x (one round)"
    return f"{value}x (few rounds)" if interval.high > EMPTY * interval.low else f"{value}x [{low}, {high}]"


def interval_of(first: int, last: int) -> str:
    """``3..7``, or ``3`` where that is all."""
    return str(first) if first == last else f"{first}..{last}"


def count(number: int, noun: str) -> str:
    """``1 route``, ``2 routes``, ``2 families``."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number} {noun if number == 1 else plural}"


def per_cent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"


def shape(family: Family) -> str:
    """``N=5120 K=13824``: what tells families of one class apart."""
    return f"N={family.n} K={family.k}"


def has_words(family: str, words: str) -> bool:
    """Whether a family's text has each of the words, in any case: from the start of one of its own on, or from that of
    a part after a dash. ``f16`` is not ``bf16``; ``N=138``, ``b4-g64`` and ``g64`` are parts of one family."""
    text = family.lower()
    return all(re.search(rf"(?:^|[\s-]){re.escape(word)}", text) for word in words.lower().split())


def bound(of: Bound) -> str:
    """What leaving shapes out showed of a class: the bound and what it rests on, or why there is none."""
    shapes, problems = count(of.shapes, "shape"), count(of.problems, "problem")
    rests = f"{shapes} and {problems} left out"
    if of.shapes < LEAST_SHAPES:
        return f"too few of its shapes have a neighbour to learn from ({of.shapes}, {LEAST_SHAPES} are needed)"
    if of.regret is None:
        # Nothing else but routes of searched kernels leaves so many shapes without a bound where all was measured.
        why = (
            f"the neighbour's route was not measured in {of.unmeasured}"
            if of.unmeasured
            else "routes were searched for"
        )
        return f"the regret of a neighbour's route has no bound ({rests}; {why})"
    worst = f"a neighbour's route took at most {per_cent(of.regret)} longer than the best in 95 % of cases, by shapes"
    worst += f" ({rests})"
    return worst if of.holds else f"{worst}, more than {per_cent(LIMIT)}"


def list_of(words: Iterable[str]) -> str:
    """Distinct words in order: one, ``a and b``, or ``a, b and c``."""
    found = [word for word in dict.fromkeys(words) if word]
    return " and ".join(filter(None, [", ".join(found[:-1]), *found[-1:]]))


def device(chip: ChipKey) -> str:
    """A device in words: name, architecture, cores, and on Metal whether the neural accelerators are in use."""
    cores = f"{chip.cores} {_CORES.get(chip.backend, 'cores')}" if chip.cores else ""
    nax = f"NAX {'on' if chip.nax else 'off'}" if chip.backend == "metal" else ""
    return ", ".join(filter(None, (chip.device_name, chip.architecture, chip.backend, cores, nax)))


def facts(header: Header, rows: Sequence[Row]) -> dict[str, str]:
    """Where the numbers come from, in words and by label; empty where nothing is said of it."""
    versions, systems = (list_of(sorted({getattr(row, name) for row in rows})) for name in ("mlx", "os"))
    dates = sorted({row.date for row in rows})
    also = "or its problem's noise if that is more"
    also += f", and {per_cent(bar(0.0, header.sessions) - 1)} for what sessions differ by" if header.sessions else ""
    days = f", {dates[0]}" + (f" to {dates[-1]}" if len(dates) > 1 else "") if dates else ""
    return {
        "chip": f"{header.chip.id}: {device(header.chip)}",
        "numbers": f"{_SOURCES[header.source]}{days}",
        "MLX": f"{versions} on {systems}" if rows else "",
        "load": _LOADS.get(header.load, header.load),
        "margin": f"{per_cent(header.margin)}: what a gain's lower bound has to clear, {also}",
        "noise": f"{per_cent(header.noise)}: how far stock was from itself (the median; explain has each problem's)",
    }


def as_words(problem: Problem | str) -> str:
    """A problem as one argument of a shell command."""
    return shlex.quote(str(problem))


def grid(
    rows: Iterable[Sequence[Any]], head: Sequence[str] = (), right: Sequence[int] = (), fold: int | None = -1
) -> Any:
    """A table without lines. ``right`` columns hold numbers; ``fold`` alone gives way on a narrow terminal."""
    from rich.table import Table as Grid
    from rich.text import Text

    rows = list(rows)
    width = len(head) or len(rows[0]) if rows or head else 0
    out = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=bool(head), header_style="dim")
    for at in range(width):
        # What is not asked to fold must not be cut short either: a route or a bound is useless in part.
        whole = fold is None or at != fold % width
        cells = [str(row[at]) for row in (*rows, *([head] if head else []))]
        longest = max(len(line) for cell in cells for line in [*cell.split("\n"), ""])
        out.add_column(
            head[at] if head else "",
            justify="right" if at in right else "left",
            no_wrap=whole,
            overflow="fold",
            min_width=longest if whole else min(longest, LEAST_WIDE),
        )
    for row in rows:
        out.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    return out


def styled(text: str, style: str) -> Any:
    """Text in a colour or weight, as a cell or a line; brackets in it stay what they are."""
    from rich.text import Text

    return Text(text, style=style)


def write(console: Any, parts: Iterable[Any]) -> None:
    """Prints text and grids. Away from a terminal nothing is folded and no line ends in blanks."""
    if console.is_terminal:
        for part in parts:
            console.print(part, markup=False)
        return
    console.width = WIDE
    with console.capture() as captured:
        for part in parts:
            console.print(part, markup=False)
    console.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
