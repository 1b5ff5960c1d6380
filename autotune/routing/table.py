"""The routing table: for one chip, which route to take for which problem, with the evidence for each.

JSON with one route a line, so that a pull request shows which routes changed. The header says which machine the numbers
come from; identity is compared with it and never taken from the file's name. Nothing in a table is executed: a route is
accepted only if its config lies in the declared space of a kernel that this code has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Optional

from .. import kernels, paths
from ..errors import AutotuneError, TableError
from ..kernels import Route
from ..problem import Family, Problem
from . import neighbours
from .neighbours import Bound, Neighbour, Shapes, Size

SCHEMA = 1
SOURCES = ("measured", "simulated")


@dataclass(frozen=True)
class ChipKey:
    """Which device a table belongs to; fields as in :class:`autotune.machine.Machine`, ``id`` as in chips.yaml."""

    id: str
    backend: str
    device_name: str
    architecture: str
    cores: int
    nax: bool

    @property
    def identity(self) -> tuple[str, str, str, int, bool]:
        """What must agree with :attr:`Machine.identity`."""
        return (self.backend, self.device_name, self.architecture, self.cores, self.nax)


@dataclass(frozen=True)
class Header:
    """What a table says of itself: whose numbers, from what, and how sure.

    ``noise`` is the median noise floor of the results (stock against itself, as a ratio minus one) and ``margin`` the
    least speedup minus one that a route had to clear. ``workloads`` names those that were covered when the table was
    exported: ``autotune check`` holds the table to them. ``neighbours`` says for each class of shapes how far its tuned
    shapes speak for others; None in a table that was exported before there was such a rule. ``gpu_bound`` says that
    routes were chosen for programs that wait for the device alone. ``sessions`` is what one session differed from the
    next by, as the standard deviation of a speedup's log; 0 where that was not told.
    """

    chip: ChipKey
    source: str
    autotune: str
    load: str
    margin: float
    noise: float
    workloads: tuple[str, ...] = ()
    neighbours: Optional[tuple[Bound, ...]] = None
    gpu_bound: bool = False
    sessions: float = 0.0

    def bound(self, class_: str) -> Bound | None:
        """The class's bound, None where nothing was fitted."""
        return next((each for each in self.neighbours or () if each.class_ == class_), None)

    def as_json(self) -> dict[str, Any]:
        raw = asdict(self)
        del raw["neighbours"]
        for name in ("gpu_bound", "sessions"):
            if not raw[name]:
                del raw[name]
        return raw if self.neighbours is None else {**raw, "neighbours": [each.as_json() for each in self.neighbours]}


_SIZE = re.compile(r"(\S+) N=([1-9]\d{0,9}) K=([1-9]\d{0,9}) (.+)")
"""A family's text: op, N, K and the rest of its class."""


@dataclass(frozen=True)
class Row:
    """A route for the M of one interval, ends included, and the evidence for it.

    The evidence is that of the measured M of the interval, or beside it where it lies between two, at which the route
    gains least: ``speedup`` over stock with the bounds of its 95 % confidence interval, measured at ``at`` with
    ``samples`` paired rounds. ``error`` is relative to a float64 reference. Rows whose route is stock carry what stock
    was compared with: the speedup of the best rival.
    """

    first: int
    last: int
    route: Route
    at: int
    speedup: float
    low: float
    high: float
    samples: int
    error: float
    kernel: str
    space: str
    mlx: str
    os: str
    date: str

    def as_json(self) -> dict[str, Any]:
        return {
            "m": [self.first, self.last],
            "route": str(self.route),
            "speedup": [self.speedup, self.low, self.high],
            "at": self.at,
            "samples": self.samples,
            "error": self.error,
            "kernel": self.kernel,
            "space": self.space,
            "mlx": self.mlx,
            "os": self.os,
            "date": self.date,
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Row:
        (first, last), (speedup, low, high) = raw["m"], raw["speedup"]
        return cls(
            int(first),
            int(last),
            Route.parse(raw["route"]),
            int(raw["at"]),
            float(speedup),
            float(low),
            float(high),
            int(raw["samples"]),
            float(raw["error"]),
            str(raw["kernel"]),
            str(raw["space"]),
            str(raw["mlx"]),
            str(raw["os"]),
            str(raw["date"]),
        )


@dataclass(frozen=True)
class Table:
    """A header and, for each family's text, its rows as they stand in the file.

    Rows are parsed and checked when a family is first asked for: a program uses a few families of a large table, and
    loading 10,000 routes must stay cheap.
    """

    header: Header
    families: dict[str, list[dict[str, Any]]] = field(repr=False)
    path: str = ""
    _parsed: dict[str, tuple[Row, ...]] = field(default_factory=dict, repr=False, compare=False)

    def rows(self, family: str) -> tuple[Row, ...]:
        """The family's rows in order of M, empty if the table has none. Raises :class:`TableError` for bad rows."""
        if family in self.families and family not in self._parsed:
            self._parsed[family] = self._parse(family)
        return self._parsed.get(family, ())

    def _parse(self, family: str) -> tuple[Row, ...]:
        try:
            rows = tuple(Row.from_json(row) for row in self.families[family])
            for row in rows:
                _check(problem_at(family, row.first), row)
                if row.last != row.first:
                    _check(problem_at(family, row.last), row)
        except AutotuneError as error:
            raise TableError(f"{self.path}: {family}: {error.cause}", error.remedy) from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise TableError(f"{self.path}: {family}: malformed route ({error})", "export the table again") from None
        previous = 0
        for row in rows:
            if row.first <= previous or row.last < row.first:
                raise TableError(
                    f"{self.path}: {family}: intervals of M overlap at {row.first}", "export the table again"
                )
            previous = row.last
        return rows

    def neighbour(self, family: Family) -> Neighbour | None:
        """The tuned family that speaks for one which the table does not have; None where the rule allows none."""
        if str(family) in self.families:
            return None
        bound = self.header.bound(neighbours.class_of(str(family)))
        if bound is None or not bound.holds:
            return None
        shapes = self.index().get(bound.class_)
        found = None if shapes is None else shapes.nearest(family, min(bound.reach, neighbours.REACH))
        return None if found is None else Neighbour(replace(family, n=found[0].n, k=found[0].k), found[1], bound)

    def index(self) -> Mapping[str, Shapes[Size]]:
        """The sizes of each class whose bound holds, made once, and for no other class: it takes a microsecond or two
        for each family, which is more than a look-up may take in a table of thousands. Texts that are not written as
        families are have no part in it, since no problem would ask for them."""
        return self._sizes

    @cached_property
    def _sizes(self) -> Mapping[str, Shapes[Size]]:
        sizes: dict[str, list[Size]] = {each.class_: [] for each in self.header.neighbours or () if each.holds}
        for match in map(_SIZE.fullmatch, self.families) if sizes else ():
            class_ = match and f"{match[1]} {match[4]}"
            if match and class_ in sizes:
                sizes[class_].append(Size(int(match[2]), int(match[3])))
        return {class_: Shapes(each) for class_, each in sizes.items()}

    def __iter__(self) -> Iterator[tuple[str, tuple[Row, ...]]]:
        for family in self.families:
            yield family, self.rows(family)

    @property
    def count(self) -> int:
        """Number of routes."""
        return sum(len(rows) for rows in self.families.values())


def route_at(rows: Iterable[Row], m: int) -> Route | None:
    """The route of the row that covers M, stock included; None where none does."""
    return next((row.route for row in rows if row.first <= m <= row.last), None)


def problem_at(family: str, m: int) -> Problem:
    """The problem of a family's text at M."""
    return _at_one(family).with_m(m)


@lru_cache(maxsize=4096)
def _at_one(family: str) -> Problem:
    op, _, rest = family.partition(" ")
    return Problem.parse(f"{op} M=1 {rest}")


def parse_family(text: str) -> Family:
    """The family of that text. Raises :class:`UsageError`."""
    return _at_one(text).family


def _check(problem: Problem, row: Row) -> None:
    if not kernels.accepts(row.route, problem):
        kernels.kernel(row.route.kernel)
        raise TableError(
            f"route {row.route} is outside its kernel's space at M={problem.m}",
            "the table is newer than this autotune, or was edited: export it again",
        )


def dumps(table: Table) -> str:
    """The table as text: the same table gives the same bytes."""
    lines = [f'"schema": {SCHEMA},'] + [f'"{key}": {_value(value)},' for key, value in table.header.as_json().items()]
    blocks = []
    for family in sorted(table.families, key=parse_family):
        rows = ",\n".join("    " + json.dumps(row) for row in table.families[family])
        blocks.append(f'  {{"family": {json.dumps(family)}, "routes": [\n{rows}\n  ]}}')
    return "{\n" + "\n".join(lines) + '\n"families": [\n' + ",\n".join(blocks) + "\n]\n}\n"


def _value(value: Any) -> str:
    """A header's value, one entry a line where it is a list of entries."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join("  " + json.dumps(each) for each in value) + "\n]"
    return json.dumps(value)


def save(table: Table, path: Path) -> None:
    """Writes the table in one step: a reader sees the old file or the new one. Raises :class:`AutotuneError`."""
    write_atomically(path, dumps(table))


def write_atomically(path: Path, text: str) -> None:
    """Puts the text at ``path``, whole. Raises :class:`AutotuneError` where the folder or the disk forbids it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        paths.put_whole(path, lambda fresh: fresh.write_text(text, "utf-8"))
    except OSError as error:
        raise AutotuneError(
            f"cannot write {path} ({error.strerror})", "the old file is untouched; choose another place with --out"
        ) from None


def peek(path: Path) -> Header:
    """The header alone, without reading the routes. Raises :class:`TableError`."""
    try:
        with path.open(encoding="utf-8") as file:
            head: list[str] = []
            for line in file:
                if line.startswith('"families"'):
                    return _header(json.loads("".join(head).rstrip().rstrip(",") + "}"), path)
                head.append(line)
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None
    except json.JSONDecodeError:
        pass
    return load(path).header


def of_chip(chip: str, folders: Sequence[Path]) -> Path | None:
    """The first table in the folders whose header names that chip, a measured one if there is any; unreadable files
    are passed over."""
    simulated = None
    for folder in folders:
        for path in sorted(folder.glob("*.json")):
            try:
                header = peek(path)
            except TableError:
                continue
            if header.chip.id == chip and header.source == "measured":
                return path
            if header.chip.id == chip:
                simulated = simulated or path
    return simulated


def load(path: Path) -> Table:
    """Reads a table. Raises :class:`TableError` for a missing, truncated, malformed or newer file."""
    try:
        raw = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None
    except json.JSONDecodeError as error:
        raise TableError(
            f"{path}: truncated or no JSON (line {error.lineno}: {error.msg})", "export the table again"
        ) from None
    except (RecursionError, ValueError):
        raise TableError(f"{path}: no routing table", "export the table again") from None
    if not isinstance(raw, dict):
        raise TableError(f"{path}: no routing table", "export the table again")
    header = _header(raw, path)
    try:
        families = {block["family"]: block["routes"] for block in raw["families"]}
        if len(families) != len(raw["families"]) or not all(isinstance(rows, list) for rows in families.values()):
            raise ValueError("a family stands twice or has no list of routes")
    except (KeyError, TypeError, ValueError) as error:
        raise TableError(f"{path}: malformed families ({error})", "export the table again") from None
    return Table(header, families, str(path))


def _header(raw: dict[str, Any], path: Path) -> Header:
    schema = raw.get("schema")
    if not isinstance(schema, int):
        raise TableError(f"{path}: no routing table (no schema)", "give a file that autotune export wrote")
    if schema > SCHEMA:
        raise TableError(f"{path}: schema {schema} is newer than this autotune's {SCHEMA}", "upgrade autotune")
    try:
        chip = ChipKey(**raw["chip"])
        header = Header(
            chip,
            raw["source"],
            raw["autotune"],
            raw["load"],
            float(raw["margin"]),
            float(raw["noise"]),
            tuple(raw["workloads"]),
            tuple(Bound.from_json(each) for each in raw["neighbours"]) if "neighbours" in raw else None,
            bool(raw.get("gpu_bound", False)),
            float(raw.get("sessions", 0.0)),
        )
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise TableError(f"{path}: malformed header ({error})", "export the table again") from None
    if not all(isinstance(name, str) for name in header.workloads):
        raise TableError(f"{path}: malformed header (workloads are no names)", "export the table again")
    if header.source not in SOURCES:
        raise TableError(f"{path}: source {header.source!r} is none of {', '.join(SOURCES)}", "export the table again")
    return header


def _unreadable(path: Path, error: Exception) -> TableError:
    reason = error.strerror if isinstance(error, OSError) else "no UTF-8"
    return TableError(f"{path}: cannot be read ({reason})", "check the path, or run: autotune export")
