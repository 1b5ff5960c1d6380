"""What a routing table says, family by family: the data behind ``autotune show`` and its renderings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import TableError, UsageError
from ..routing import freshness
from ..routing.freshness import Grade
from ..routing.neighbours import class_of
from ..routing.table import Header, Row, Table, problem_at
from ..search.measured import LEAST_ROUNDS
from . import explain, limits, tables
from .limits import Limit, Measurements

UNPLAYED = "*"
"""Marks a rival of stock that gained, but was in no play-off."""


@dataclass(frozen=True)
class FamilyView:
    """A family's rows with their grades; ``limit`` for quantized families; ``fault`` where the rows cannot be read."""

    family: str
    rows: tuple[tuple[Row, Grade], ...]
    limit: Limit | None
    fault: str = ""


@dataclass(frozen=True)
class TableView:
    """A table to look at: all of its families, or those that were asked for."""

    path: str
    header: Header
    families: tuple[FamilyView, ...]
    total: int

    @property
    def rows(self) -> list[tuple[Row, Grade]]:
        return [pair for family in self.families for pair in family.rows]


def view(
    table: Table,
    words: str = "",
    mlx: str | None = None,
    hidden: Mapping[str, str] | None = None,
    measured: Measurements | None = None,
) -> TableView:
    """The families whose text has all of the words (:func:`tables.has_words`), graded against ``mlx`` (the installed
    one if not given).

    ``hidden`` names families that are looked up in another table, with that table's path; ``measured`` are the
    measurements beside this table.
    """
    names = [name for name in table.families if tables.has_words(name, words)]
    first = hidden or {}
    known = measured or {}
    families = tuple(
        FamilyView(name, (), None, f"{first[name]} comes first") if name in first else _family(table, name, mlx, known)
        for name in names
    )
    return TableView(table.path, table.header, families, len(table.families))


def _family(table: Table, name: str, mlx: str | None, measured: Measurements) -> FamilyView:
    try:
        rows = table.rows(name)
    except TableError as error:
        return FamilyView(name, (), None, str(error).removeprefix(f"{table.path}: {name}: "))
    graded = tuple((row, freshness.grade(row, mlx)) for row in rows)
    return FamilyView(name, graded, limits.of_family(name, rows, measured, table.header.chip) if rows else None)


def in_use(
    found: Sequence[Table],
    words: str = "",
    mlx: str | None = None,
    measured: Mapping[str, Measurements] | None = None,
) -> list[TableView]:
    """The views of the tables that a machine uses, in order of precedence; ``measured`` by a table's path.

    The first table of a device that has a family decides alone: the same family further back is hidden by it.
    """
    views: list[TableView] = []
    first: dict[tuple[str, str], str] = {}
    for table in found:
        backend = table.header.chip.backend
        hidden = {name: first[backend, name] for name in table.families if (backend, name) in first}
        each = view(table, words, mlx, hidden, (measured or {}).get(table.path))
        views.append(each)
        first.update({(backend, family.family): table.path for family in each.families if family.rows})
    return views


def measurements(found: Iterable[Table]) -> tuple[dict[str, Measurements], list[str]]:
    """The measurements beside each table, by its path, and a line for each file of them that cannot be understood. A
    table without such a file has none: its limits come from its rows."""
    measured: dict[str, Measurements] = {}
    notes = []
    for table in found:
        results, note = explain.beside(table)
        try:
            measured[table.path] = limits.timed(results, table.header.load)
        except UsageError as error:
            note = f"the measurements beside the table are left out: {error}"
        if note and Path(table.path).with_suffix(".csv").exists():
            notes.append(note)
    return measured, notes


def demand(views: Sequence[TableView], words: str) -> None:
    """Raises :class:`UsageError` where tables were read but no family has the words."""
    if words and views and not any(each.families for each in views):
        raise UsageError(f"no family has {words!r} in it", "run autotune show without --family to see them all")


def document(views: Iterable[TableView], files: Iterable[tables.Standing]) -> dict[str, Any]:
    """The views as a JSON document."""
    return {
        "tables": [
            {"path": each.path, **each.header.as_json(), "families": [_family_json(family) for family in each.families]}
            for each in views
        ],
        "files": [asdict(file) for file in files],
    }


def _family_json(family: FamilyView) -> dict[str, Any]:
    rows = [{**row.as_json(), "freshness": asdict(grade)} for row, grade in family.rows]
    limit = None if family.limit is None else asdict(family.limit)
    return {"family": family.family, "vector_limit": limit, "routes": rows, "fault": family.fault}


def next_step(views: Sequence[TableView], option: str = "") -> str:
    """The command that follows: a sweep where routes are missing or aged, else a look at one problem.

    ``option`` is the one that named the table, if one did.
    """
    rows = [(family.family, row, grade) for each in views for family in each.families for row, grade in family.rows]
    if not rows or (not option and any(grade.level != "valid" for _, _, grade in rows)):
        return "autotune sweep"
    family, row, _ = max(rows, key=lambda each: tables.over_stock(each[1]).value)
    return " ".join(filter(None, ("autotune explain", tables.as_words(problem_at(family, row.at)), option)))


def text(views: Sequence[TableView]) -> list[Any]:
    """The views as lines and grids for :func:`autotune.report.tables.write`."""
    parts: list[Any] = []
    for each in views:
        parts += [_head(each), ""]
        for family in each.families:
            parts += [*_family_text(family), ""]
    return parts + _legend([pair for each in views for pair in each.rows], views)


def _family_text(family: FamilyView) -> list[Any]:
    parts = [_title(family)]
    if family.fault:
        parts.append(tables.styled(f"not used: {family.fault}", "red"))
    elif family.limit is not None:
        parts += limits.text(family.limit)
    if family.rows:
        head = ("M", "route", "speedup", "at M", "n", "state")
        parts.append(tables.grid(map(_cells, family.rows), head, right=(3, 4), fold=1))
    return parts


def _head(view: TableView) -> Any:
    rows = [row for row, _ in view.rows]
    part = f" of {view.total}" if len(view.families) < view.total else ""
    shown = f"{tables.count(len(rows), 'route')} in {tables.count(len(view.families), 'family')}{part}"
    facts = {**tables.facts(view.header, rows), "table": f"{view.path} ({shown})"}
    facts |= _beyond(view)
    return tables.grid((tables.styled(name, "dim"), fact) for name, fact in facts.items() if fact)


def _beyond(view: TableView) -> dict[str, str]:
    """For each class on view, whether shapes that are not tuned take their neighbours' routes."""
    shown = {class_of(family.family) for family in view.families}
    lines = []
    for each in view.header.neighbours or ():
        if each.class_ in shown:
            takes = f"routed up to a factor of {tables.three(each.reach)} in N and K" if each.holds else "stock"
            lines.append(f"{each.class_}: {takes}; {tables.bound(each)}")
    return {"beyond": "\n".join(lines)}


def _title(family: FamilyView) -> Any:
    title = tables.styled(family.family, "bold")
    if family.limit is not None:
        title.append(f"  {limits.title(family.limit)}", style="cyan not bold")
    return title


def _cells(pair: tuple[Row, Grade]) -> tuple[Any, ...]:
    row, grade = pair
    gain = tables.speedup(tables.evidence(row))
    stock = tables.is_stock(row)
    return (
        tables.interval_of(row.first, row.last),
        tables.styled(str(row.route), "dim" if stock else ""),
        tables.styled(f"({gain}){UNPLAYED if _unplayed(row) else ''}", "dim") if stock else gain,
        str(row.at),
        str(row.samples),
        tables.styled(grade.level, tables.LEVELS[grade.level]),
    )


def _unplayed(row: Row) -> bool:
    """Whether stock was kept from a rival that gained for want of a play-off."""
    return tables.is_stock(row) and row.samples < LEAST_ROUNDS and row.low > 1


def _legend(rows: Sequence[tuple[Row, Grade]], views: Sequence[TableView]) -> list[Any]:
    lines = []
    if rows:
        lines.append(
            "speedup: over stock, with its 95 % interval, from n rounds at the M where its lower bound is lowest."
        )
        lines.append("An M that no row covers takes stock.")
    if any(_beyond(each)["beyond"] for each in views):
        lines.append("beyond: what a shape takes that is not tuned, by class; a bound comes from leaving shapes out.")
    if any(tables.is_stock(row) for row, _ in rows):
        lines.append("(in brackets): what stock's best rival reached, which was not enough to leave stock.")
    if any(_unplayed(row) for row, _ in rows):
        lines.append(f"{UNPLAYED} it gained, but was in no play-off, without which no route is taken.")
    lines += limits.legend([family.limit for each in views for family in each.families if family.limit])
    for level, meaning in (("recheck", "used, but worth another sweep"), ("stale", "not used, stock is taken instead")):
        for reason in dict.fromkeys(grade.reason for _, grade in rows if grade.level == level):
            number = sum(grade.reason == reason for _, grade in rows)
            lines.append(f"{level}, {tables.count(number, 'route')}: {reason}; {meaning}.")
    return [tables.styled(line, "dim") for line in lines]
