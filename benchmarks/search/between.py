"""What the routes between two measured M are worth, by leaving measured M out.

    python benchmarks/search/between.py tuned_tables/h100.csv
    python benchmarks/search/between.py tuned_tables/h100.csv --keep 1 2 4 8 16 32 64 128 256 512
    autotune sweep --chip m4pro --simulate --out m4pro.csv && python benchmarks/search/between.py m4pro.csv --model

Routes are derived without one M of a family at a time, or without all that are not kept, and what they have for the M
that was left out is held against what was measured there: the speedup over stock of the route taken, of the best
measured, and of what is taken if a route has to win at both ends. A route that was not timed at the M has no speedup
and counts as unmeasured. M beside which no M is left within a factor of two are not counted: they take stock.

``--model`` asks the model of the chip that a simulated CSV is of, which knows every M: the rule is applied to each two
measured M that are no more than a factor of two apart, whatever was measured between them, and what it takes for the M
between is held against stock there. The same is said of the rule without its least gain.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from unittest import mock

from autotune.devices.simulated import chip as chips
from autotune.devices.simulated import model
from autotune.errors import AutotuneError
from autotune.kernels import STOCK, Route
from autotune.problem import Family, Problem
from autotune.routing.neighbours import class_of
from autotune.routing.table import Row, route_at
from autotune.search import between, export, generalize, measured, results
from autotune.search.measured import MARGIN, Measured
from autotune.search.results import Result
from autotune.search.stats import geometric_mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--keep", type=int, nargs="+", help="the M that are left; default: all but one at a time")
    parser.add_argument("--model", action="store_true", help="ask a simulated chip's model for the M between")
    options = parser.parse_args()
    try:
        rows = results.read(options.csv)
    except AutotuneError as error:
        parser.exit(2, f"{error}\n")
    families, luck = measured.by_family(rows), measured.luck(rows)
    if options.model:
        by_model(rows, families, luck)
        return
    found: dict[str, list[tuple[Measured, Route, Route]]] = {}
    for family, every in families.items():
        for left, out in splits(every, options.keep):
            routes = export.routes({family: left}, luck=luck)[family]
            for each in out:
                if ends := around(left, each.problem.m):
                    found.setdefault(class_of(str(family)), []).append((each, *taken(routes, each.problem.m, ends)))
    print("| class | M left out | taken | of the best | winners alone | slower than stock | unmeasured |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for class_, lines in found.items():
        known = [line for line in lines if speedup(line[0], line[1]) and speedup(line[0], line[2])]
        now = [speedup(each, route) for each, route, _ in known]
        cells = (
            len(lines),
            f"{geometric(now):.2f}x",
            f"{geometric([speedup(each, route) / best(each, luck) for each, route, _ in known]):.0%}",
            f"{geometric([speedup(each, winner) for each, _, winner in known]):.2f}x",
            sum(each < 1 for each in now),
            len(lines) - len(known),
        )
        print("|", " | ".join(map(str, (class_, *cells))), "|")


def by_model(rows: Sequence[Result], families: Mapping[Family, Sequence[Measured]], luck: float) -> None:
    """Prints, with the least gain asked for and without, how many M between are routed and how they fare."""
    if any(row.source != "simulated" for row in rows):
        sys.exit("--model is for the results of one simulated chip")
    chip = chips.get(rows[0].chip)

    def seconds(problem: Problem, route: Route) -> float:
        """With the link of a chain."""
        linked = model.predict(problem, chip, model.NEWEST, route, "chained").seconds
        return linked + chip.constants.launch_us * 1e-6

    print("| rule | M between, routed | slower than stock | least gain | mean gain |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, least in (("shipped", between.least), ("without its least gain", lambda *_: math.inf)):
        gains = []
        with mock.patch.object(between, "least", least):
            for before, after in (pair for every in families.values() for pair in near(every)):
                ends = tuple(each.ties(MARGIN, luck=luck)[0] for each in (before, after))
                route = between.route(before, after, ends, MARGIN, luck=luck)
                family = before.problem.family
                problems = [family.at(m) for m in range(before.problem.m + 1, after.problem.m)] if route else []
                gains += [seconds(each, STOCK) / seconds(each, route) for each in problems]
        slower = sum(gain < 1 for gain in gains)
        print(f"| {name} | {len(gains)} | {slower} | {min(gains, default=math.nan):.2f}x | {geometric(gains):.2f}x |")


def near(every: Sequence[Measured]) -> Iterator[tuple[Measured, Measured]]:
    """Each two measured M that are no more than a factor of two apart."""
    for before, after in combinations(every, 2):
        if after.problem.m <= between.GAP * before.problem.m:
            yield before, after


def splits(every: Sequence[Measured], keep: Sequence[int] | None) -> Iterator[tuple[list[Measured], list[Measured]]]:
    """The measured M that are left, and those that are not."""
    if keep:
        yield [each for each in every if each.problem.m in keep], [each for each in every if each.problem.m not in keep]
        return
    for out in every:
        yield [each for each in every if each is not out], [out]


def around(left: Sequence[Measured], m: int) -> tuple[int, int] | None:
    """The two M that are left on both sides of M; None where they are more than a factor of two apart."""
    below = max((each.problem.m for each in left if each.problem.m < m), default=0)
    above = min((each.problem.m for each in left if each.problem.m > m), default=0)
    return (below, above) if 0 < above <= between.GAP * below else None


def taken(routes: Sequence[Row], m: int, ends: tuple[int, int]) -> tuple[Route, Route]:
    """The route for M, and the one of an older rule: that of both ends where they have the same."""
    now, one, other = (route_at(routes, each) or STOCK for each in (m, *ends))
    return now, now if one == other else STOCK


def speedup(each: Measured, route: Route) -> float:
    """Over stock; 0 where the route was not timed."""
    return 1.0 if route == STOCK else generalize.speedup_of(each, route)


def best(each: Measured, luck: float) -> float:
    return max((row.speedup for _, row in each.eligible(MARGIN, luck=luck)), default=1.0)


def geometric(values: Sequence[float]) -> float:
    return geometric_mean(values) if values else math.nan


if __name__ == "__main__":
    main()
