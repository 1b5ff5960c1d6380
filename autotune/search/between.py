"""Which route is used for the M between two measured ones.

A table that is exact at 8 and 16 rows and leaves 9 to 15 to stock costs a server with ten requests all that it gains.
So a route that is good at both ends is taken for what lies between, if what its kernel gains changes smoothly with M.
It need not be the best at either: the best of an M often is so at that one alone, with other tiles of the same kernel a
few per cent behind, and the more precise the clock, the rarer the ties that would give two neighbours one route.

Where the ends differ, evidence of one session counts too, since screening saw more routes than the play-offs: against a
bar that is higher by what one session differs from the next.
"""

from __future__ import annotations

from typing import Optional

from .. import kernels
from ..kernels import STOCK, Route
from . import results
from .measured import NEARLY, Measured, played_off

GAP = 2.0
"""Largest ratio of two measured M between which a route is used."""


def route(
    before: Measured, after: Measured, ends: tuple[Route, Route], margin: float, gpu_bound: bool, luck: float
) -> Optional[Route]:
    """The route between two measured M, at which ``ends`` are used; None where that is stock.

    The ends' own where they have the same; else, of the routes that may be used at both, the one whose weaker lower
    bound is largest, or an end's own that comes close to it: then there is one route less. The other arguments are
    those of :meth:`Measured.eligible`.
    """
    if STOCK in ends or after.problem.m > GAP * before.problem.m:
        return None
    first, last = before.problem.with_m(before.problem.m + 1), after.problem.with_m(after.problem.m - 1)

    def fits(each: Route) -> bool:
        smooth = each != STOCK and kernels.kernel(each.kernel).smooth
        return smooth and kernels.accepts(each, first) and kernels.accepts(each, last)

    if ends[0] == ends[1]:
        return ends[0] if fits(ends[0]) else None
    costs = _costs(before, after)

    def usable(at: Measured, each: Route) -> bool:
        row = at.rows[each]
        if played_off(row):
            return at.clears(row, margin, row.host_us, gpu_bound, luck)
        cost = 0.0 if gpu_bound else costs.get(each.kernel)
        timed = row.status in (results.OK, results.PRUNED)
        return timed and cost is not None and at.clears(row, margin, cost, gpu_bound, luck, sessions=1)

    worth = {
        each: min(before.rows[each].low, after.rows[each].low)
        for each in sorted(before.rows.keys() & after.rows.keys(), key=str)
        if fits(each) and usable(before, each) and usable(after, each)
    }
    if not worth:
        return None
    enough = (1 - NEARLY) * max(worth.values())
    near = [end for end in ends if worth.get(end, 0.0) >= enough]
    return max(near or worth, key=worth.__getitem__)


def _costs(*ends: Measured) -> dict[str, float]:
    """The most that a call of each kernel costs the program, of its play-offs: only these find it out, and calls of one
    kernel differ little in it."""
    found: dict[str, float] = {}
    for each, row in (pair for end in ends for pair in end.rows.items()):
        if played_off(row):
            found[each.kernel] = max(row.host_us, found.get(each.kernel, row.host_us))
    return found
