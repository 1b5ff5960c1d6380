"""What changed between two routing tables of one chip, interval of M by interval, for the one who reviews the newer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from ..errors import UsageError, unknown
from ..routing.table import Header, Row, Table, parse_family, problem_at
from . import tables

FASTER, SLOWER, TIE, NEW, GONE = "faster", "slower", "tie", "new", "gone"
KINDS = (SLOWER, FASTER, NEW, GONE, TIE)
"""In the order in which a reviewer wants them."""
FORMATS = ("text", "markdown", "json")
FAIL_ON = (SLOWER,)
MARKS = {FASTER: "green", SLOWER: "red", NEW: "cyan", GONE: "yellow", TIE: "dim"}


@dataclass(frozen=True)
class Change:
    """The same rows of both tables from M ``first`` to ``last``; ``a`` or ``b`` is absent where a table has no row.

    ``rerouted`` says whether another route is taken, however much that matters.
    """

    family: str
    first: int
    last: int
    a: Row | None
    b: Row | None
    kind: str

    @property
    def rerouted(self) -> bool:
        return self.a is not None and self.b is not None and self.a.route != self.b.route

    @property
    def ratio(self) -> float | None:
        """The newer speedup over the older one, None where there are not two."""
        if self.a is None or self.b is None:
            return None
        return tables.over_stock(self.b).value / tables.over_stock(self.a).value


@dataclass(frozen=True)
class Diff:
    """All changes from the older table ``a`` to the newer ``b``, and what to keep in mind when reading them."""

    a: tuple[str, Header]
    b: tuple[str, Header]
    changes: tuple[Change, ...]
    notes: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        found = Counter(change.kind for change in self.changes)
        return {kind: found[kind] for kind in KINDS}

    @property
    def rerouted(self) -> int:
        return sum(change.rerouted for change in self.changes)

    @property
    def told(self) -> tuple[Change, ...]:
        """What is worth a line: all but ties on the same route, slower ones first."""
        told = [change for change in self.changes if change.kind != TIE or change.rerouted]
        return tuple(sorted(told, key=lambda change: KINDS.index(change.kind)))


def one_of(what: str, word: str, known: Sequence[str]) -> str:
    """The word, if it is a known one. Raises :class:`UsageError`."""
    if word not in known:
        raise unknown(what, word, known)
    return word


def diff(a: Table, b: Table) -> Diff:
    """The changes from ``a`` to the newer ``b``.

    Raises :class:`UsageError` where one was measured and the other simulated, so that no speedup of one says anything
    against the other's, and :class:`TableError` for rows that cannot be read.
    """
    if a.header.source != b.header.source:
        raise UsageError(
            f"{a.path} is {a.header.source} and {b.path} is {b.header.source}: a model's times are no evidence for or "
            "against measured ones",
            "compare tables of one source",
        )
    changes = []
    for family in sorted({*a.families, *b.families}, key=parse_family):
        changes += segments(family, a.rows(family), b.rows(family))
    return Diff((a.path, a.header), (b.path, b.header), tuple(changes), tuple(_notes(a, b)))


def segments(family: str, a: Sequence[Row], b: Sequence[Row]) -> list[Change]:
    """The longest intervals of M within which neither table changes its row; intervals without any row are left out."""
    edges = sorted({edge for row in (*a, *b) for edge in (row.first, row.last + 1)})
    found = []
    for first, after in pairwise(edges):
        row_a, row_b = (next((row for row in rows if row.first <= first <= row.last), None) for rows in (a, b))
        if row_a or row_b:
            found.append(Change(family, first, after - 1, row_a, row_b, _kind(first, after - 1, row_a, row_b)))
    return found


def _kind(first: int, last: int, a: Row | None, b: Row | None) -> str:
    """Faster or slower only if the intervals of the two speedups say so for an M that both rows cover.

    A row's evidence is that of the M where it gains least, which bounds the rest of its interval from below: what it
    gains elsewhere may be more. So a table is shown to be the worse one only by evidence from within the segment.
    Without that, widening an interval by an M that gains little would read as a loss at all the others. A row between
    two measured M has its evidence beside itself, and never shows its segment to be faster or slower.
    """
    if a is None or b is None:
        return NEW if a is None else GONE
    before, after = tables.over_stock(a), tables.over_stock(b)
    if after.low > before.high and (tables.is_stock(a) or first <= a.at <= last):
        return FASTER
    if after.high < before.low and (tables.is_stock(b) or first <= b.at <= last):
        return SLOWER
    return TIE


def _notes(a: Table, b: Table) -> list[str]:
    one, two = a.header, b.header
    notes = []
    if one.chip.identity != two.chip.identity:
        notes.append(f"not the same chip: {tables.device(one.chip)}, then {tables.device(two.chip)}")
    if one.load != two.load:
        notes.append(f"not the same load: {one.load}, then {two.load}")
    notes += _beyond(one, two)
    older, newer = (tables.list_of(sorted({row.mlx for _, rows in each for row in rows})) for each in (a, b))
    if older and newer and older != newer:
        notes.append(
            f"measured with MLX {older}, then {newer}: speedups are over the stock of each, and a route may read as "
            "slower because stock became faster"
        )
    return notes


def _beyond(one: Header, two: Header) -> list[str]:
    """Classes whose tuned shapes speak for others in one of the tables alone."""
    before, after = ({each.class_ for each in header.neighbours or () if each.holds} for header in (one, two))
    return [f"{class_}: shapes beyond the tuned ones are no longer routed" for class_ in sorted(before - after)] + [
        f"{class_}: shapes beyond the tuned ones are now routed" for class_ in sorted(after - before)
    ]


def summary(found: Diff) -> str:
    """All counts in one line."""
    counts = ", ".join(f"{number} {kind}" for kind, number in found.counts.items())
    return f"{counts}; {found.rerouted} on another route"


def next_step(found: Diff) -> str:
    """A look at the first slower problem, else at the newer table."""
    option = tables.option("", found.b[0])
    slower = next((change for change in found.changes if change.kind == SLOWER), None)
    if slower is None or slower.b is None:
        return f"autotune show {option}"
    m = slower.b.at if slower.first <= slower.b.at <= slower.last else slower.first
    return f"autotune explain {tables.as_words(problem_at(slower.family, m))} {option}"


def document(found: Diff) -> dict[str, Any]:
    """The diff as a JSON document: every interval, ties included."""
    return {
        "a": {"path": found.a[0], **asdict(found.a[1])},
        "b": {"path": found.b[0], **asdict(found.b[1])},
        "counts": {**found.counts, "rerouted": found.rerouted},
        "notes": list(found.notes),
        "changes": [
            {
                "family": change.family,
                "m": [change.first, change.last],
                "kind": change.kind,
                "rerouted": change.rerouted,
                "ratio": change.ratio,
                "a": change.a.as_json() if change.a else None,
                "b": change.b.as_json() if change.b else None,
            }
            for change in found.changes
        ],
    }


def text(found: Diff) -> list[Any]:
    """The diff as lines and grids for :func:`autotune.report.tables.write`; two lines an interval: before, after."""
    parts: list[Any] = [tables.styled(summary(found), "bold")]
    parts += [tables.styled(f"note: {note}", "yellow") for note in found.notes]
    for family in dict.fromkeys(change.family for change in found.told):
        changes = sorted((each for each in found.told if each.family == family), key=lambda each: each.first)
        rows = [line for change in changes for line in _lines(change)]
        parts += ["", tables.styled(family, "bold"), tables.grid(rows, fold=3)]
    return [*parts, "", *(tables.styled(line, "dim") for line in _legend(found))]


def _lines(change: Change) -> list[tuple[Any, ...]]:
    """The older row, then the newer one, without the one that is absent."""
    both = [("was", change.a), ("now", change.b)]
    cells = [(word, *_cells(row)) for word, row in both if row is not None]
    kind = tables.styled(change.kind, MARKS[change.kind])
    m = tables.interval_of(change.first, change.last)
    return [(kind, m, *cells[0], ""), *(("", "", *rest, _percentage(change)) for rest in cells[1:])]


def _cells(row: Row) -> tuple[str, str]:
    return str(row.route), "" if tables.is_stock(row) else tables.speedup(tables.evidence(row))


def _percentage(change: Change) -> str:
    shown = change.kind in (FASTER, SLOWER) and change.ratio is not None
    return f"{100 * (change.ratio - 1):+.0f} %" if shown and change.ratio else ""


def _legend(found: Diff) -> list[str]:
    quiet = len(found.changes) - len(found.told)
    lines = ["Speedups are over stock. Slower and faster: their 95 % intervals say so for an M that both rows cover."]
    return lines + ([f"Not listed: {tables.count(quiet, 'tie')} on the same route."] if quiet else [])


def markdown(found: Diff) -> str:
    """The diff for a pull request: counts, notes, then a table of what changed."""
    (_, one), (_, two) = found.a, found.b
    lines = [f"**{_plain(summary(found))}**", "", f"{_plain(tables.device(two.chip))} (`{two.chip.id}`)"]
    if one.chip.id != two.chip.id:
        lines[-1] = f"`{one.chip.id}`, then {lines[-1]}"
    lines += [line for note in found.notes for line in ("", f"> {_plain(note)}")]
    if found.told:
        lines += ["", "| | family | M | before | after | |", "| --- | --- | --- | --- | --- | ---: |"]
    for c in found.told:
        m = tables.interval_of(c.first, c.last)
        cells = (c.kind, f"`{c.family}`", m, _markdown_row(c.a), _markdown_row(c.b), _percentage(c))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", " ".join(_legend(found)), ""])


def _markdown_row(row: Row | None) -> str:
    return "" if row is None else " ".join(filter(None, (f"`{row.route}`", _cells(row)[1])))


def _plain(text: str) -> str:
    """Text from a file without what Markdown would take for structure."""
    return "".join(f"\\{char}" if char in "\\`*_|<>[]" else char for char in " ".join(text.split()))
