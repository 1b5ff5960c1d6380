"""What a routing table says, family by family: the data behind ``autotune show`` and its renderings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import TableError, UsageError
from ..kernels.pad import ALWAYS_LEGAL
from ..routing import freshness
from ..routing.freshness import Grade
from ..routing.table import Header, Row, Table, parse_family, problem_at
from . import tables

MATRIX = ("pad", "dequantize")
"""Kernels that take a quantized product away from the matrix-vector kernel: more rows, or a dense product."""


@dataclass(frozen=True)
class HandOver:
    """From which M the table computes with a matrix-matrix kernel: ``m`` where ``kind`` is ``table``.

    ``stock``: the table never takes the decision away from MLX. ``untold``: the rows do not say; ``reason`` says why.
    """

    kind: str
    m: int | None = None
    reason: str = ""

    def __str__(self) -> str:
        return {"table": str(self.m), "stock": "stock"}.get(self.kind, "?")


def hand_over(rows: Sequence[Row], backend: str) -> HandOver:
    """The ``vector_limit`` that a quantized family's rows amount to.

    It is the first M of the first row with a matrix-matrix route, provided that every later row stays on that side. A
    row is on the matrix-matrix side if its kernel is ``pad`` or ``dequantize``, or ``fold_k`` into 33 rows or more; if
    it is stock at no fewer rows than that first row reached (stock at M=8 is the very call that padding to 8 makes);
    or if it is any other kernel later than that, except a ``chunk`` into pieces smaller than the limit, which goes
    back. An M between the rows takes stock for want of evidence, and counts for neither side.

    A family of stock alone, or one whose first matrix-matrix row begins where every MLX has changed kernels by itself
    (M >= 33), leaves the limit to stock. It is untold where a kernel that could be on either side comes before the
    limit, where a later row goes back, or where the first row of all is already a matrix-matrix route and begins past
    M=1. The table holds routes and not MLX's own limit, so that padding above that limit, which only rounds up to a
    whole tile, reads as a limit too.
    """
    if backend == "cpu":
        return HandOver("untold", reason="MLX's CPU build has one kernel for every M")
    limit = next((row for row in rows if _matrix(row)), None)
    early = [row for row in rows if limit is None or row.first < limit.first]
    if limit is not None and limit.first >= ALWAYS_LEGAL:
        limit = None
    odd = next((row for row in early if row.route.kernel not in ("stock", *MATRIX) and row.first < ALWAYS_LEGAL), None)
    if odd is not None:
        return HandOver("untold", reason=f"{odd.route} at M={odd.first} may be on either side")
    if limit is None:
        return HandOver("stock")
    if limit is rows[0] and limit.first > 1:
        return HandOver("untold", reason=f"the first row, M={limit.first}, has a matrix-matrix route already")
    reached = limit.last + 1
    if limit.route.kernel == "pad":
        multiple = int(limit.route.config["multiple"])
        reached = -(-limit.first // multiple) * multiple
    for row in rows:
        back = row.route.kernel == "stock" and row.first < reached
        back |= row.route.kernel == "chunk" and int(row.route.config["rows"]) < limit.first
        if row.first > limit.first and back:
            return HandOver("untold", reason=f"{limit.route} from M={limit.first}, but {row.route} at M={row.first}")
    return HandOver("table", limit.first)


def _matrix(row: Row) -> bool:
    """Whether the row's route is a matrix-matrix one under every limit that MLX has compiled in."""
    folded = row.route.kernel == "fold_k" and row.first * int(row.route.config["parts"]) >= ALWAYS_LEGAL
    return folded or row.route.kernel in MATRIX


@dataclass(frozen=True)
class FamilyView:
    """A family's rows with their grades; ``limit`` for quantized families; ``fault`` where the rows cannot be read."""

    family: str
    rows: tuple[tuple[Row, Grade], ...]
    limit: HandOver | None
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


def view(table: Table, words: str = "", mlx: str | None = None, hidden: Mapping[str, str] | None = None) -> TableView:
    """The families whose text has all of the words in it, graded against ``mlx`` (the installed one if not given).

    ``hidden`` names families that are looked up in another table, with that table's path.
    """
    wanted = words.lower().split()
    names = [name for name in table.families if all(word in name.lower() for word in wanted)]
    first = hidden or {}
    families = tuple(
        FamilyView(name, (), None, f"{first[name]} comes first") if name in first else _family(table, name, mlx)
        for name in names
    )
    return TableView(table.path, table.header, families, len(table.families))


def _family(table: Table, name: str, mlx: str | None) -> FamilyView:
    try:
        rows = table.rows(name)
    except TableError as error:
        return FamilyView(name, (), None, str(error).removeprefix(f"{table.path}: {name}: "))
    quantized = bool(parse_family(name).quantization)
    graded = tuple((row, freshness.grade(row, mlx)) for row in rows)
    return FamilyView(name, graded, hand_over(rows, table.header.chip.backend) if quantized and rows else None)


def in_use(found: Sequence[Table], words: str = "", mlx: str | None = None) -> list[TableView]:
    """The views of the tables that a machine uses, in order of precedence.

    The first table of a device that has a family decides alone: the same family further back is hidden by it.
    """
    views: list[TableView] = []
    first: dict[tuple[str, str], str] = {}
    for table in found:
        backend = table.header.chip.backend
        hidden = {name: first[backend, name] for name in table.families if (backend, name) in first}
        each = view(table, words, mlx, hidden)
        views.append(each)
        first.update({(backend, family.family): table.path for family in each.families if family.rows})
    return views


def demand(views: Sequence[TableView], words: str) -> None:
    """Raises :class:`UsageError` where tables were read but no family has the words."""
    if words and views and not any(each.families for each in views):
        raise UsageError(f"no family has {words!r} in it", "run autotune show without --family to see them all")


def document(views: Iterable[TableView], files: Iterable[tables.Standing]) -> dict[str, Any]:
    """The views as a JSON document."""
    return {
        "tables": [
            {"path": each.path, **asdict(each.header), "families": [_family_json(family) for family in each.families]}
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
    elif family.limit is not None and family.limit.reason:
        parts.append(tables.styled(f"vector_limit cannot be told: {family.limit.reason}", "yellow"))
    if family.rows:
        head = ("M", "route", "speedup", "at M", "n", "state")
        parts.append(tables.grid(map(_cells, family.rows), head, right=(3, 4), fold=1))
    return parts


def _head(view: TableView) -> Any:
    rows = [row for row, _ in view.rows]
    part = f" of {view.total}" if len(view.families) < view.total else ""
    shown = f"{tables.count(len(rows), 'route')} in {tables.count(len(view.families), 'family')}{part}"
    facts = {**tables.facts(view.header, rows), "table": f"{view.path} ({shown})"}
    return tables.grid((tables.styled(name, "dim"), fact) for name, fact in facts.items() if fact)


def _title(family: FamilyView) -> Any:
    title = tables.styled(family.family, "bold")
    if family.limit is not None:
        title.append(f"  vector_limit {family.limit}", style="cyan not bold")
    return title


def _cells(pair: tuple[Row, Grade]) -> tuple[Any, ...]:
    row, grade = pair
    gain = tables.speedup(tables.evidence(row))
    stock = tables.is_stock(row)
    return (
        tables.interval_of(row.first, row.last),
        tables.styled(str(row.route), "dim" if stock else ""),
        tables.styled(f"({gain})", "dim") if stock else gain,
        str(row.at),
        str(row.samples),
        tables.styled(grade.level, tables.LEVELS[grade.level]),
    )


def _legend(rows: Sequence[tuple[Row, Grade]], views: Sequence[TableView]) -> list[Any]:
    lines = []
    if rows:
        lines.append("speedup: over stock, with its 95 % interval, from n rounds at the M where the row gains least.")
        lines.append("An M that no row covers takes stock.")
    if any(tables.is_stock(row) for row, _ in rows):
        lines.append("(in brackets): what stock's best rival reached, which was not enough to leave stock.")
    if any(family.limit for each in views for family in each.families):
        lines.append(
            "vector_limit: the M from which the table takes a matrix-matrix kernel instead of the matrix-vector one; "
            "'stock' where it leaves that to MLX, '?' where the rows do not tell."
        )
    for level, meaning in (("recheck", "used, but worth another sweep"), ("stale", "not used, stock is taken instead")):
        for reason in dict.fromkeys(grade.reason for _, grade in rows if grade.level == level):
            number = sum(grade.reason == reason for _, grade in rows)
            lines.append(f"{level}, {tables.count(number, 'route')}: {reason}; {meaning}.")
    return [tables.styled(line, "dim") for line in lines]
