"""Which route is used for the M between two measured ones.

A table that is exact at 8 and 16 rows and leaves 9 to 15 to stock costs a server with ten requests all that it gains.
So a route that is good at both ends is taken for what lies between, if its kernel's time changes smoothly with M.
It need not be the best at either: the best of an M often is so at that one alone, with other tiles of the same kernel a
few per cent behind, and the more precise the clock, the rarer the ties that would give two neighbours one route.

Speedups at the ends say little of those between: kernels take rows in groups, stock does so in others, and where the
one has begun a group and the other has not, a route that gains 1.5x at both ends may lose a quarter. What holds for
either is that its time lies between its times at the ends. So a route is held to its **least** gain: stock's shorter
time over the route's longer one.

Evidence of one session counts too, since screening saw more routes than the play-offs, against a bar that is higher by
what one session differs from the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from .. import kernels
from ..devices.clock import PLAIN
from ..kernels import STOCK, Route
from . import results
from .measured import NEARLY, Measured, played_off
from .results import Result

GAP = 2.0
"""Largest ratio of two measured M between which a route is used."""
LEAST_SHARE = 0.72
"""The least that a GPU's own time was of a plain one, of 46 problems on an H100 (docs/measuring.md)."""


def route(
    before: Measured,
    after: Measured,
    ends: tuple[Route, Route],
    margin: float,
    gpu_bound: bool = False,
    luck: float = 0.0,
    held: Route | None = None,
) -> Optional[Route]:
    """The route between two measured M, at which ``ends`` are used; None where that is stock.

    Of the routes that may be used at both ends and whose least gain clears the margin: the ends' own where they have
    the same; else the one that gains most by that measure, or, where it comes close, the one that a table ``held``
    there, or an end's. The other arguments are those of :meth:`Measured.eligible`.
    """
    if STOCK in ends or after.problem.m > GAP * before.problem.m:
        return None
    known = costs(before, after)

    def usable(at: Measured, each: Route) -> bool:
        row = at.rows[each]
        cost = 0.0 if gpu_bound else cost_of(row, each, known)
        timed = row.status in (results.OK, results.PRUNED) and cost is not None
        return timed and at.clears(row, margin, cost or 0.0, gpu_bound, luck)

    worth = {
        each: gain
        for each in sorted(before.rows.keys() & after.rows.keys(), key=str)
        if _fits(each, before, after) and usable(before, each) and usable(after, each)
        if (gain := least(before, after, each)) > 1 + margin
    }
    if not worth:
        return None
    if ends[0] == ends[1] and ends[0] in worth:
        return ends[0]
    enough = (1 - NEARLY) * max(worth.values())
    if held is not None and worth.get(held, 0.0) >= enough:
        return held
    near = [end for end in ends if worth.get(end, 0.0) >= enough]
    return max(near or worth, key=worth.__getitem__)


def _fits(each: Route, before: Measured, after: Measured) -> bool:
    """Whether the route may be used between, as far as numbers do not matter: it is legal there, changes smoothly, and
    its rows at both ends speak of one kernel, under one MLX."""
    legal = each != STOCK and legal_between(before, after, each)
    return legal and kernels.kernel(each.kernel).smooth and one_evidence(before.rows[each], after.rows[each])


def legal_between(before: Measured, after: Measured, each: Route) -> bool:
    """Whether the route is legal at the first and at the last M between."""
    first, last = before.problem.with_m(before.problem.m + 1), after.problem.with_m(after.problem.m - 1)
    return kernels.accepts(each, first) and kernels.accepts(each, last)


def one_evidence(one: Result, other: Result) -> bool:
    """Whether two rows of a route are as fresh as each other: a row of a table has one kernel, space and MLX."""
    return (one.kernel, one.space, one.mlx) == (other.kernel, other.space, other.mlx)


def least(before: Measured, after: Measured, each: Route) -> float:
    """The least speedup that the lower bounds at the ends leave possible where times lie between those at the ends.

    Times of two clocks are no measure of one another. Where one end's are plain, which are longer, stock's there counts
    for as little as it may be, and the route's for all that it is.
    """
    ends = (before.rows[each], after.rows[each])
    mixed = len({row.clock == PLAIN for row in ends}) > 1
    stocks = (at.rows[STOCK] for at in (before, after))
    stock = min(row.stock_us * (LEAST_SHARE if mixed and row.clock == PLAIN else 1.0) for row in stocks)
    return stock / max(row.stock_us / row.low for row in ends)


def cost_of(row: Result, each: Route, known: Mapping[str, float]) -> Optional[float]:
    """Microseconds that a call of the route costs the program: its own, or what is ``known`` of its kernel; None where
    nobody knows. A play-off that did not look, as in older results, is held to nothing then, as at its own M."""
    return row.host_us or known.get(each.kernel) or (0.0 if played_off(row) or each.kernel in known else None)


def costs(*ends: Measured) -> dict[str, float]:
    """The most that a call of each kernel costs the program, of its play-offs: only these find it out. It stands for
    routes of the kernel of which it was not measured. On a CPU, and by a model, it is nothing; elsewhere 0 means that
    it was not measured."""
    found: dict[str, float] = {}
    for each, row in (pair for end in ends for pair in end.rows.items()):
        known = row.host_us or row.backend == "cpu" or row.source == "simulated"
        if played_off(row) and known:
            found[each.kernel] = max(row.host_us, found.get(each.kernel, row.host_us))
    return found
