"""A measured boundary in words: where the second side overtakes, how sure that is, and the duels that say so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .. import stock_rules
from ..routing.table import ChipKey
from ..search.boundary import Crossing
from ..search.duel import MISSED, Duel, Found, Tried
from . import tables


def headline(found: Found, names: tuple[str, str]) -> str:
    """The finding in one sentence; ``names`` are those of the two sides."""
    axis, crossings = found.axis, found.boundary.crossings
    letter = axis.name.upper()
    if not crossings:
        signs = found.boundary.signs.values()
        clear = [sign.value for sign in signs if sign.clear]
        if not clear:
            return f"neither {names[0]} nor {names[1]} is clearly ahead at any {letter} that was compared in {axis}"
        ahead, behind = names if clear[0] < 0 else names[::-1]
        if any(sign.value != clear[0] for sign in signs):
            return f"{ahead} is ahead of {behind} at every {letter} in {axis} at which either is clearly ahead"
        sure = "" if all(sign.clear for sign in signs) else ", not everywhere clearly"
        return f"{ahead} is ahead of {behind} at every {letter} that was compared in {axis}{sure}"
    if len(crossings) == 1:
        (crossing,) = crossings
        ahead, behind = names[::-1] if crossing.second else names
        return f"{ahead} overtakes {behind} at {letter}={crossing.at}{_within(found, crossing)}"
    places = tables.list_of(
        f"{names[crossing.second]} from {letter}={crossing.at}{_within(found, crossing)}" for crossing in crossings
    )
    before = names[not crossings[0].second]
    return f"the sides change places {len(crossings)} times: {before} first, then {places}"


def _within(found: Found, crossing: Crossing) -> str:
    """Where the crossing may lie as well, as far as the data are clear."""
    first, last = crossing.low + found.axis.step, crossing.high
    if (first, last) == (crossing.at, crossing.at):
        return ""
    return f" (anywhere from {first} to {last}, as far as it can be told)"


def tried(found: Found) -> str:
    """What stands for searched kernels, and what that leaves open; empty where every route was tried."""
    by_kernel: dict[str, list[Tried]] = defaultdict(list)
    for duel in found.duels:
        for each in duel.tried:
            by_kernel[each.kernel].append(each)
    if not by_kernel:
        return ""
    parts = []
    for name, points in sorted(by_kernel.items()):
        least, most = min(each.of for each in points), max(each.of for each in points)
        of = str(least) if least == most else f"{least} to {most}"
        parts.append(f"{max(each.routes for each in points)} of {of} of {name}")
    return (
        f"not exact: searched, a part of the routes was tried at a point ({', '.join(parts)}); a side's best may be "
        f"another one. A lead counts as clear beyond the {MISSED:.0%} that a search may miss"
    )


def text(found: Found, names: tuple[str, str], chip: ChipKey) -> list[Any]:
    """The boundary as lines and grids for :func:`autotune.report.tables.write`."""
    parts: list[Any] = [tables.styled(f"{_title(found)}, {found.axis}", "bold"), headline(found, names)]
    said = tried(found)
    if said:
        parts.append(tables.styled(said, "yellow"))
    limit = compiled(found, chip)
    if limit is not None:
        line = f"MLX {stock_rules.MLX} has {limit} compiled in for this architecture, N and K"
        parts.append(tables.styled(line, "dim"))
    head = (found.axis.name.upper(), names[0], "us", names[1], "us", f"{names[1]} is", "rounds", "")
    rows = [_cells(duel, names) for duel in found.duels]
    return [*parts, "", tables.grid(rows, head, right=(0, 2, 4, 6), fold=1)]


def _title(found: Found) -> str:
    axis = f"{found.axis.name.upper()}="
    return " ".join(word for word in str(found.template).split() if not word.startswith(axis))


def _cells(duel: Duel, names: tuple[str, str]) -> tuple[Any, ...]:
    alone = not (duel.first and duel.second)
    ahead = names[duel.sign.value > 0]
    verdict = f"{ahead} alone" if alone else ahead if duel.sign.clear else f"{ahead}?"
    return (
        str(duel.value),
        duel.first or "-",
        tables.three(duel.first_us) if not alone else "",
        duel.second or "-",
        tables.three(duel.second_us) if not alone else "",
        "" if alone else tables.speedup(duel.ratio),
        str(duel.rounds),
        tables.styled(verdict, "" if duel.sign.clear else "yellow"),
    )


def compiled(found: Found, chip: ChipKey) -> int | None:
    """MLX's own ``vector_limit``, for a boundary along M of a quantized product."""
    problem = found.template
    if found.axis.name != "m" or problem.quantization is None:
        return None
    return stock_rules.vector_limit(chip.backend, chip.architecture, problem.n, problem.k, problem.layout == "nt")


def document(found: Found, names: Sequence[str], chip: ChipKey) -> dict[str, Any]:
    """The boundary as a JSON document. A crossing lies above ``low`` and at most at ``high``; ``exact`` is whether all
    routes of both sides were tried, and ``tried`` of each duel says of which kernels a part was."""
    limit = found.boundary.limit
    return {
        "problem": _title(found),
        "axis": {**asdict(found.axis)},
        "sides": list(names),
        "limit": None if limit is None else asdict(limit),
        "crossings": [asdict(each) for each in found.boundary.crossings],
        "exact": not any(duel.tried for duel in found.duels),
        "compiled": compiled(found, chip),
        "duels": [asdict(each) for each in found.duels],
    }
