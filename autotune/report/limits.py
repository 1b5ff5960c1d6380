"""Where a chip's matrix-matrix kernels overtake its matrix-vector ones (``vector_limit``), for one quantized family.

The answer comes from the measurements beside a table: at each measured M the fastest route of either side, and the
first M at which the matrix-matrix one is clearly ahead. Without measurements it comes from the table's rows, which say
which side the table takes, and no more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from .. import kernels, stock_rules
from ..kernels import STOCK, Route
from ..kernels.pad import ALWAYS_LEGAL
from ..problem import Problem
from ..routing.table import ChipKey, Row, parse_family, problem_at
from ..search.measure import HOPELESS
from ..search.results import OK, PRUNED, Result
from ..search.sides import left_to_mlx, side
from ..search.stats import NONE, Interval
from ..stock_rules import MATRIX, VECTOR, versions
from . import tables

FOUND, BEYOND, LEFT, UNTOLD = "found", "beyond", "stock", "untold"
MEASURED, ROWS = "measured", "rows"


@dataclass(frozen=True)
class Best:
    """The fastest route of one side at one M: microseconds a call, and its speedup over stock."""

    route: str
    time_us: float
    speedup: Interval


@dataclass(frozen=True)
class Contest:
    """Both sides at one M. ``ratio`` says how many times as fast as the matrix-vector route the matrix-matrix one is.

    It is the quotient of their speedups over stock: each was timed in turns with stock, the two not with one another.
    """

    m: int
    vector: Best
    matrix: Best
    ratio: Interval

    @property
    def ahead(self) -> str:
        """The side that is clearly faster, empty where neither is.

        Clearly: the 95 % interval does not hold 1. One round has no interval; a route that got no second one was slower
        by ``HOPELESS`` than the best until then, and that is asked of the ratio.
        """
        low, high = self.ratio.low, self.ratio.high
        if low <= 0:
            low, high = self.ratio.value / HOPELESS, self.ratio.value * HOPELESS
        return MATRIX if low > 1 else VECTOR if high < 1 else ""


@dataclass(frozen=True)
class Limit:
    """A family's ``vector_limit``, where it comes from (``source``, ``measured`` or ``rows``), and MLX's own
    (``compiled``, None where there is none).

    ``kind`` is ``found``: it is one of ``least`` to ``m``, which are the same where the measurements leave no gap;
    ``beyond``: the matrix-vector side is ahead as far as ``m``, and never clearly behind; ``stock``: the table leaves
    the decision to MLX (rows only); ``untold``: see ``reason``.

    ``contests`` are all M at which both sides were measured, ``returns`` those beyond ``m`` at which the matrix-vector
    side is clearly ahead again, and ``vector_alone`` and ``matrix_alone`` the M that have routes of one side only;
    ``mlx`` is the version whose rules ``compiled`` and the sides are of, empty for the newest known.
    """

    source: str
    compiled: int | None
    kind: str
    m: int | None = None
    least: int | None = None
    reason: str = ""
    contests: tuple[Contest, ...] = ()
    returns: tuple[int, ...] = ()
    vector_alone: tuple[int, ...] = ()
    matrix_alone: tuple[int, ...] = ()
    mlx: str = ""

    def __str__(self) -> str:
        if self.kind == FOUND and self.m and self.least:
            return tables.interval_of(self.least, self.m)
        return {BEYOND: f"past {self.m}", LEFT: "stock"}.get(self.kind, "?")


Measurements = Mapping[str, Mapping[int, Mapping[Route, Result]]]
"""Timed results by family, M and route."""


def timed(results: Iterable[Result], load: str) -> Measurements:
    """The results of quantized products under that load that have times; of a route that occurs twice, the later.

    Raises :class:`UsageError` for a problem or a route that is not understood.
    """
    latest: dict[str, dict[Route, Result]] = {}
    for result in sorted(results, key=lambda each: each.date):
        if result.load == load and result.status in (OK, PRUNED) and result.problem.startswith("quantized_matmul "):
            latest.setdefault(result.problem, {})[Route.parse(result.route)] = result
    found: dict[str, dict[int, Mapping[Route, Result]]] = {}
    for text, by_route in latest.items():
        problem = Problem.parse(text)
        found.setdefault(str(problem.family), {})[problem.m] = by_route
    return found


def of_family(family: str, rows: Sequence[Row], measured: Measurements, chip: ChipKey) -> Limit | None:
    """The limit from the measurements, or from the rows where the family has none. None for a dense family.

    Which side a stock call took follows from the rules of the MLX that the rows were measured with (:func:`_version`).
    """
    parsed = parse_family(family)
    if not parsed.quantization:
        return None
    mlx = _version(rows)
    compiled = stock_rules.vector_limit(chip.backend, chip.architecture, parsed.n, parsed.k, parsed.layout == "nt", mlx)
    by_m = measured.get(family)
    source = MEASURED if by_m else ROWS
    if chip.backend == "cpu":
        return Limit(source, compiled, UNTOLD, reason="MLX's CPU build has one kernel for every M")
    if by_m:
        found = from_measurements(family, by_m, chip, compiled, mlx)
    else:
        found = from_rows(family, rows, chip, compiled, mlx)
    return replace(found, mlx=mlx)


def _version(rows: Sequence[Row]) -> str:
    """The newest MLX that a row was measured with; empty where the rules of none of them are known."""
    known = [row.mlx for row in rows if versions.known(row.mlx)]
    return max(known, key=versions.parse, default="")


def from_measurements(
    family: str, by_m: Mapping[int, Mapping[Route, Result]], chip: ChipKey, compiled: int | None, mlx: str = ""
) -> Limit:
    """The limit that the fastest routes of either side give at the measured M."""
    contests: list[Contest] = []
    alone: dict[str, list[int]] = {VECTOR: [], MATRIX: []}
    for m in sorted(by_m):
        best = _best(by_m[m], problem_at(family, m), chip, mlx)
        if len(best) == 2:
            ratio = _quotient(best[MATRIX].speedup, best[VECTOR].speedup)
            contests.append(Contest(m, best[VECTOR], best[MATRIX], ratio))
        for each in best if len(best) == 1 else ():
            alone[each].append(m)
    limit = next((each.m for each in contests if each.ahead == MATRIX), None)
    vector = [each.m for each in contests if each.ahead == VECTOR]
    facts: dict[str, Any] = {
        "contests": tuple(contests),
        "vector_alone": tuple(alone[VECTOR]),
        "matrix_alone": tuple(alone[MATRIX]),
    }
    if limit is not None:
        least = max((m for m in vector if m < limit), default=0) + 1
        returns = tuple(m for m in vector if m > limit)
        return Limit(MEASURED, compiled, FOUND, limit, least, returns=returns, **facts)
    if vector:
        return Limit(MEASURED, compiled, BEYOND, vector[-1], **facts)
    if contests:
        reason = "the two sides cannot be told apart at any measured M"
    elif any(alone.values()):
        measured = "matrix-vector" if alone[VECTOR] else "matrix-matrix"
        both = alone[VECTOR] and alone[MATRIX]
        reason = "no M has measured routes of both sides" if both else f"only {measured} routes were measured"
    else:
        reason = "of no measured route it is known which side it takes"
    return Limit(MEASURED, compiled, UNTOLD, reason=reason, **facts)


def _best(by_route: Mapping[Route, Result], problem: Problem, chip: ChipKey, mlx: str) -> dict[str, Best]:
    """The fastest route of each side. By speedup: it is paired with stock, and times of different minutes are not."""
    best: dict[str, Best] = {}
    for route, result in by_route.items():
        taken = side(route, problem, chip, mlx)
        # Stock's own row compares stock with itself, and is no gain or loss.
        speedup = NONE if route == STOCK else result.interval
        if taken and (taken not in best or speedup.value > best[taken].speedup.value):
            best[taken] = Best(result.route, result.time_us, speedup)
    return best


def _quotient(over: Interval, under: Interval) -> Interval:
    """The quotient of two independent speedups: on the log scale the squares of the intervals' half-widths add up. A
    single round bounds nothing, and neither does a quotient with one."""
    value = over.value / under.value
    if over.low <= 0 or under.low <= 0:
        return Interval(value, 0.0, tables.BOUNDLESS)
    half = math.hypot(math.log(over.value / over.low), math.log(under.value / under.low))
    return Interval(value, value * math.exp(-half), value * math.exp(half))


def from_rows(family: str, rows: Sequence[Row], chip: ChipKey, compiled: int | None, mlx: str = "") -> Limit:
    """The M from which the table's routes are on the matrix-matrix side. An M that no row covers counts for neither.

    It is ``stock`` where M itself reaches MLX on both ends of the change, or where the routes are on one side only for
    that reason, and untold where a route's side is not known, or the table goes back at a larger M.
    """
    steps = [(m, *_taken(row.route, problem_at(family, m), chip, mlx)) for row in rows for m in _inside(row)]
    unknown = next(((m, route) for m, route, taken in steps if not taken), None)
    if unknown is not None:
        return Limit(ROWS, compiled, UNTOLD, reason=f"{unknown[1]} at M={unknown[0]} may be on either side")
    changes = [(before, after) for before, after in pairwise(steps) if before[2] != after[2]]
    if not changes:
        return _unchanged(steps, compiled)
    (last, from_, taken), (m, to, _) = changes[0]
    if len(changes) > 1 or taken == MATRIX:
        there, back = (steps[0], changes[0][1]) if taken == MATRIX else (changes[0][1], changes[1][1])
        reason = f"{there[1]} is matrix-matrix at M={there[0]}, {back[1]} matrix-vector at M={back[0]}"
        return Limit(ROWS, compiled, UNTOLD, reason=reason)
    if left_to_mlx(from_) and left_to_mlx(to):
        return Limit(ROWS, compiled, LEFT)
    return Limit(ROWS, compiled, FOUND, m, last + 1)


def _taken(route: Route, problem: Problem, chip: ChipKey, mlx: str) -> tuple[Route, str]:
    """The route that the table takes, which is stock where its own is not legal for that very M, and its side."""
    taken = route if kernels.accepts(route, problem) else STOCK
    return taken, side(taken, problem, chip, mlx)


def _unchanged(steps: Sequence[tuple[int, Route, str]], compiled: int | None) -> Limit:
    """The limit of rows that are all on one side."""
    if not steps or all(left_to_mlx(route) for _, route, _ in steps):
        return Limit(ROWS, compiled, LEFT)
    if steps[0][2] == VECTOR:
        return Limit(ROWS, compiled, BEYOND, steps[-1][0])
    return Limit(ROWS, compiled, LEFT) if left_to_mlx(steps[0][1]) else Limit(ROWS, compiled, FOUND, steps[0][0], 1)


def _inside(row: Row) -> list[int]:
    """Every M of the row up to the highest limit that MLX has, and its ends: past that no route changes sides."""
    return sorted({row.first, row.last, *range(row.first, min(row.last, ALWAYS_LEGAL) + 1)})


def title(limit: Limit) -> str:
    """``vector_limit 3 (MLX: 8)``."""
    compiled = "" if limit.compiled is None else f" (MLX: {limit.compiled})"
    return f"vector_limit {limit}{compiled}"


def text(limit: Limit) -> list[Any]:
    """The evidence: the M on both ends of the limit, each with its two routes, then what does not fit the picture."""
    shown = [each for each in limit.contests if each.m in _ends(limit)]
    parts: list[Any] = []
    if shown:
        parts.append(tables.grid((line for each in shown for line in _lines(each)), right=(3,), fold=4))
    if limit.reason:
        parts.append(tables.styled(f"vector_limit cannot be told: {limit.reason}", "yellow"))
    if limit.returns:
        places = _places(limit.returns, limit)
        parts.append(tables.styled(f"the sides change places again: matrix-vector is ahead at M={places}", "yellow"))
    for side_, alone in (("matrix-vector", limit.vector_alone), ("matrix-matrix", limit.matrix_alone)):
        if alone and limit.contests:
            parts.append(tables.styled(f"only {side_} routes were measured at M={_places(alone, limit)}", "dim"))
    return parts


def legend(found: Sequence[Limit]) -> list[str]:
    """What the words mean, as far as they occur."""
    lines = []
    if any(each.source == MEASURED for each in found):
        lines += [
            "vector_limit: the first M at which the best matrix-matrix route is clearly faster than the best",
            "matrix-vector one, as measured; a..b where some M in between were not measured or do not tell.",
            "Its lines: how many times as fast the matrix-matrix route is, and each one's time for a call.",
        ]
    if any(each.source == ROWS for each in found):
        lines += [
            "vector_limit, where no measurements are beside the table: the M from which the table's routes are",
            "matrix-matrix ones; 'stock' where it leaves that to MLX, '?' where the rows do not tell.",
        ]
    if any(each.compiled is not None for each in found):
        told = tables.list_of(dict.fromkeys(each.mlx or stock_rules.MLX for each in found if each.compiled is not None))
        lines.append(f"(MLX: n): the limit that MLX {told} has compiled in for this architecture, N and K.")
    return lines


def _ends(limit: Limit) -> tuple[int, ...]:
    """The M whose contests are shown: the last that the matrix-vector side wins, the first that it loses."""
    if limit.m is None:
        return ()
    return (limit.m,) if limit.least is None else (limit.least - 1, limit.m, *limit.returns[:1])


def _lines(contest: Contest) -> list[tuple[Any, ...]]:
    matrix, vector = contest.matrix, contest.vector
    return [
        (f"M={contest.m}", tables.speedup(contest.ratio), MATRIX, f"{tables.three(matrix.time_us)} us", matrix.route),
        ("", "", VECTOR, f"{tables.three(vector.time_us)} us", vector.route),
    ]


def _places(ms: Sequence[int], limit: Limit) -> str:
    """The M in words; those with no other measured M between them are run together: ``15 and 33..512``."""
    known = sorted({*limit.vector_alone, *limit.matrix_alone, *(each.m for each in limit.contests)})
    place = {m: number for number, m in enumerate(known)}
    runs: list[list[int]] = []
    for m in ms:
        if runs and place[m] == place[runs[-1][1]] + 1:
            runs[-1][1] = m
        else:
            runs.append([m, m])
    return tables.list_of(tables.interval_of(first, last) for first, last in runs)
