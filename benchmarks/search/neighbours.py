"""How far one tuned shape speaks for another, pair by pair, in recorded results.

    python benchmarks/search/neighbours.py tuned_tables/h100.csv

First what the rule of ``autotune.search.generalize`` makes of the results. Then, without the rule's limits on distance
and alignment, every shape is routed as every other of its class: of the problems that this takes off stock, the median
and the 95th percentile of the regret (how much longer the route takes than the best measured there; infinite without a
time), on how many the route has no time, and on how many it loses to stock.
"""

from __future__ import annotations

import argparse
import math
from itertools import permutations
from pathlib import Path
from statistics import median

from autotune.report import tables
from autotune.routing.neighbours import class_of, factor
from autotune.search import export, generalize, measured, results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    families = measured.by_family(results.read(parser.parse_args().csv))
    routes = export.routes(families)
    for bound in generalize.bounds(families, routes):
        print(f"{bound.class_}: {'routed' if bound.holds else 'stock'}; {tables.bound(bound)}")
    print("\n| shape | as | factor | problems | median | 95 % | unmeasured | slower |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for shape, other in permutations(families, 2):
        taken = list(generalize.off_stock(families[shape], routes[other]))
        if class_of(str(shape)) == class_of(str(other)) and taken:
            losses = sorted(generalize.regret(each, route) for each, route in taken)
            slower = sum(0 < generalize.speedup_of(each, route) < 1 for each, route in taken)
            high = losses[min(len(losses) - 1, int(0.95 * len(losses)))]
            unmeasured = sum(math.isinf(loss) for loss in losses)
            cells = (tables.shape(shape), tables.shape(other), f"{factor(shape, other):.2f}", len(taken))
            found = (f"{median(losses):.1%}", f"{high:.1%}", unmeasured, slower)
            print("|", " | ".join(map(str, (*cells, *found))), "|")


if __name__ == "__main__":
    main()
