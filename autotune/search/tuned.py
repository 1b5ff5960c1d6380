"""What routing tables say beforehand about a problem that a sweep comes to: routes to begin with.

The table of this very chip comes first. Its route for the problem is the *held* one: it keeps its place unless
something else is clearly faster, so that it is measured whatever else is, and enters every play-off. Then come its
routes for the nearest M and the nearest shape, then those of other tables: what is fast on one chip is a guess on
another, and a better one than a random config.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import AutotuneError
from ..kernels import STOCK, Route
from ..problem import Family, Problem
from ..routing import table
from ..routing.neighbours import class_of, factor
from ..routing.table import ChipKey, Row, Table

NEAR = 2
"""Routes that a table gives besides the held one: of its own chip, and of all others together."""


@dataclass(frozen=True)
class Tuned:
    """Tables to begin with: ``own`` is this chip's, if there is one; ``others`` are of other chips."""

    own: Table | None = None
    others: tuple[Table, ...] = ()

    def held(self, problem: Problem) -> Route | None:
        """The route that this chip's table has for the problem, stock included; None where it has none."""
        if self.own is None:
            return None
        return table.route_at(_rows(self.own, str(problem.family)), problem.m)

    def seeds(self, problem: Problem) -> list[Route]:
        """Routes besides the held one that may be good, the likeliest first: a few of this chip's, then a few of other
        chips'. They need not be legal for the problem."""
        held = self.held(problem)
        own = (route for route in _near(self.own, problem) if route != held) if self.own is not None else iter(())
        near = list(_first(own, NEAR))
        known = {held, *near}
        others = [_near(each, problem) for each in self.others]
        return near + list(_first((route for route in _in_turns(others) if route not in known), NEAR))


UNTUNED = Tuned()
"""Where there is no table yet."""


def load(key: ChipKey, source: str, folders: Sequence[Path], own: Path | None = None) -> Tuned:
    """The tables of the folders. This chip's is the one at ``own``, or the first of its device and ``source``; others
    count where they were measured. What cannot be read is passed over."""
    mine: Table | None = None
    others: list[Table] = []
    paths = [own] if own is not None and own.is_file() else []
    paths += [path for folder in folders if folder.is_dir() for path in sorted(folder.glob("*.json"))]
    for path in dict.fromkeys(paths):
        try:
            found = table.load(path)
        except AutotuneError:
            continue
        if found.header.chip.identity == key.identity and found.header.source == source:
            mine = mine or found
        elif found.header.chip.id != key.id and found.header.source == "measured":
            others.append(found)
    return Tuned(mine, tuple(others))


def _near(of: Table, problem: Problem) -> Iterator[Route]:
    """The table's routes for the problem's class, but stock: by how near the shape is, then by how near the M."""
    class_ = class_of(str(problem))
    alike = [family for text in of.families if class_of(text) == class_ and (family := _family(text)) is not None]
    for family in sorted(alike, key=lambda each: (factor(each, problem.family), each)):
        rows = _rows(of, str(family))
        for row in sorted(rows, key=lambda row: (_away(row, problem.m), row.first)):
            if row.route != STOCK:
                yield row.route


def _away(row: Row, m: int) -> float:
    """How far an interval of M is from one, as a factor."""
    return max(row.first / m, m / row.last, 1.0)


def _rows(of: Table, family: str) -> tuple[Row, ...]:
    """A family's rows; none where they cannot be read or name what this code does not have."""
    try:
        return of.rows(family)
    except AutotuneError:
        return ()


def _family(text: str) -> Family | None:
    try:
        return table.parse_family(text)
    except AutotuneError:
        return None


def _in_turns(streams: Iterable[Iterator[Route]]) -> Iterator[Route]:
    """The first of each, then the second of each, and so on."""
    left = list(streams)
    while left:
        for stream in list(left):
            found = next(stream, None)
            if found is None:
                left.remove(stream)
            else:
                yield found


def _first(routes: Iterable[Route], most: int) -> Iterator[Route]:
    """So many different ones at most."""
    seen: set[Route] = set()
    for route in routes:
        if route not in seen:
            seen.add(route)
            yield route
        if len(seen) >= most:
            return
