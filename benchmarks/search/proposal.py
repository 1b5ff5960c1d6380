"""Milliseconds that a proposal takes on 20,000 points; the goal is ten.

    python benchmarks/search/proposal.py [--busy 1]

The median and the mean over 150 proposals of a search on made-up costs, wall time; with ``--busy``, beside so many
processes that compute all the time, as the programs do that a sweep times.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from statistics import mean, median

from autotune.search.points import enumerate_points
from autotune.search.portfolio import Portfolio

GOAL_MS = 10.0
POINTS, PROPOSALS = 20_000, 150


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=0)
    busy = parser.parse_args().busy
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        took = measured()
    finally:
        for other in others:
            other.kill()
            other.wait()
    print(f"{median(took):.2f} ms a proposal in the median, {mean(took):.2f} in the mean", end=" ")
    print(f"on {POINTS} points{f' beside {busy} busy processes' if busy else ''} (goal {GOAL_MS:.0f})")


def measured() -> list[float]:
    """Milliseconds of each proposal."""
    points = enumerate_points({f"p{place}": [1, 2, 4, 8, 16] for place in range(6)} | {"q": [0, 1]})
    points = points.keep(range(POINTS))
    cost = 1 + (points.codes * [3, 1, 4, 1, 5, 9, 2]).sum(axis=1) % 97
    portfolio = Portfolio(points, seed=0)
    took = []
    for _ in range(PROPOSALS):
        began = time.perf_counter()
        number = portfolio.propose()
        took.append((time.perf_counter() - began) * 1e3)
        portfolio.tell(number, float(cost[number]))
    return took


if __name__ == "__main__":
    main()
