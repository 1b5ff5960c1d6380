"""How well tuned shapes speak for shapes that nobody measured: found by leaving each of them out in turn.

A left-out shape is routed as :mod:`autotune.routing.neighbours` would route it if it were not in the table, and what
that route takes is compared with the best that was measured there. Only problems that the rule takes off stock count:
where it keeps stock it changes nothing, and such problems, however many, would only water the others down.

What is not known counts against the rule. A route without a time at the left-out problem (it was never dealt there, was
refused for its numbers, or failed) has an unbounded regret: a search passes over a route because its kind looked slow,
so that those which it left unmeasured are no fair sample. A route that was dropped after one round has a time, and that
is used.

The bound is distribution-free. Problems of one shape resemble each other, so shapes are the unit: the regret of each of
n left-out shapes has weight 1 / (n + 1), spread over its problems, and the weight of one more shape, the one that is
asked about, lies at infinity. The 95 % quantile of that mixture is exceeded by at most 5 % of the problems of a further
shape, if shapes come as the tuned ones came and the rule does not hang on single shapes (hierarchical conformal
prediction with the jackknife: Lee, Barber and Willett, "Distribution-free inference with hierarchical data",
arXiv:2306.06342). The second condition is not met for free: one nearest neighbour is an unstable rule, and where many
shapes have the same one the guarantee is weaker. It is marginal, too: of many classes those that pass are a selection,
and the bound of a class that was picked because it passed is not covered. With fewer than 19 shapes the quantile is
infinite whatever the data say, and nothing is routed.

Classes in which a route of a searched kernel was taken get no bound. A sweep starts each shape's search from its
neighbours' winners: the left-out shape has been told what its neighbour would say, and the best that a short search
found there is no measure of the best there is.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from .. import kernels
from ..kernels import STOCK, Route
from ..problem import Family
from ..routing.neighbours import Bound, Shapes, class_of, speaks
from ..routing.table import Row, route_at
from . import results
from .measured import Measured
from .results import Result

SHARE = 0.95
"""The share of problems of further shapes that a bound covers."""
LEAST_SHAPES = math.ceil(SHARE / (1 - SHARE) - 1e-9)
"""Left-out shapes below which no bound is finite: 19."""


LeftOut = tuple[float, list[tuple[Measured, Route]]]
"""A left-out shape: how far its neighbour is, and its problems that the rule takes off stock, with the route."""


def bounds(measured: Mapping[Family, Sequence[Measured]], rows: Mapping[Family, Sequence[Row]]) -> tuple[Bound, ...]:
    """A bound for each class of families, by the class's text; ``rows`` are the routes that the measurements give."""
    return tuple(
        _bound(class_, _left_out(each, measured, rows), _searched(each, rows))
        for class_, each in _classes(measured).items()
    )


def _classes(families: Iterable[Family]) -> dict[str, list[Family]]:
    found: dict[str, list[Family]] = defaultdict(list)
    for family in sorted(families):
        found[class_of(str(family))].append(family)
    return dict(sorted(found.items()))


def _searched(families: Iterable[Family], rows: Mapping[Family, Sequence[Row]]) -> bool:
    """Whether any of their routes is of a kernel whose space is searched."""
    return any(kernels.kernel(row.route.kernel).searched for family in families for row in rows[family])


def _left_out(
    families: Sequence[Family], measured: Mapping[Family, Sequence[Measured]], rows: Mapping[Family, Sequence[Row]]
) -> list[LeftOut]:
    """Every shape of a class that has a neighbour once it is left out, and problems that this one takes off stock."""
    shapes = Shapes(families)
    found = []
    for family in families:
        near = shapes.nearest(family)
        taken = [] if near is None else list(off_stock(measured[family], _passing(family, near[0], rows)))
        if near is not None and taken:
            found.append((near[1], taken))
    return found


def _passing(family: Family, tuned: Family, rows: Mapping[Family, Sequence[Row]]) -> list[Row]:
    return [row for row in rows[tuned] if speaks(row.route.kernel, family, tuned)]


def _bound(class_: str, left_out: Sequence[LeftOut], searched: bool) -> Bound:
    losses = [[regret(each, route) for each, route in taken] for _, taken in left_out]
    every = [loss for each in losses for loss in each]
    bound = quantile(losses)
    slower = [speedup_of(each, route) for _, taken in left_out for each, route in taken]
    return Bound(
        class_,
        _up(bound, 4) if math.isfinite(bound) and not searched else None,
        _up(max((factor for factor, _ in left_out), default=1.0), 3),
        len(left_out),
        len(every),
        sum(math.isinf(loss) for loss in every),
        sum(0 < speedup < 1 for speedup in slower),
    )


def off_stock(problems: Iterable[Measured], rows: Sequence[Row]) -> Iterable[tuple[Measured, Route]]:
    """The problems that those rows take off stock, with the route, as the router would."""
    for each in problems:
        route = route_at(rows, each.problem.m)
        if route is not None and route != STOCK and kernels.accepts(route, each.problem):
            yield each, route


def regret(measured: Measured, route: Route) -> float:
    """How much longer the route takes than the best measured one, as a ratio minus one; infinite where it has no time.

    Times are compared by their speedups over stock, which are paired. Noise makes the best of many look better than it
    is, which errs on the side of a larger regret.
    """
    speedup = speedup_of(measured, route)
    if not speedup:
        return math.inf
    timed = [row.speedup for other, row in measured.rows.items() if other != STOCK and row.status == results.OK]
    return max(0.0, max([1.0, *timed]) / speedup - 1)


def quantile(groups: Sequence[Sequence[float]], share: float = SHARE) -> float:
    """The least value that, over the groups and one more of which nothing is known, covers that share.

    Each group weighs the same, whatever its size. Infinite where the unknown one alone is too heavy.
    """
    weighted = sorted((value, 1 / len(group)) for group in groups for value in group)
    wanted, covered = share * (len(groups) + 1) - 1e-9, 0.0
    for value, weight in weighted:
        covered += weight
        if covered >= wanted:
            return value
    return math.inf


def speedup_of(measured: Measured, route: Route) -> float:
    """The route's speedup over stock there; 0 where it has no time."""
    row = _row(measured, route)
    return row.speedup if row is not None and row.status in (results.OK, results.PRUNED) else 0.0


def _row(measured: Measured, route: Route) -> Result | None:
    """The route's row, or that of a config which does the same work there, of which a sweep measures but one."""
    row = measured.rows.get(route)
    if row is not None:
        return row
    problem, kernel = measured.problem, kernels.kernel(route.kernel)
    work = kernel.same(problem, route.config)
    alike = (other for other in measured.rows if other.kernel == route.kernel and kernels.accepts(other, problem))
    return next((measured.rows[other] for other in alike if kernel.same(problem, other.config) == work), None)


def _up(value: float, digits: int) -> float:
    """Rounded up, so that what is written bounds what was found."""
    return math.ceil(round(value * 10**digits, 6)) / 10**digits
