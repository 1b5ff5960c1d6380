"""Milliseconds that a proposal takes on 20,000 points; the goal is ten.

    python benchmarks/search/proposal.py [--known 100] [--proposals 600] [--busy 1]

The median and the 95th percentile over the proposals of a search on made-up costs, by hundreds and over all, in wall
time and in time of the processor: the first says what a sweep waits for, the second what it would wait on a machine
that does nothing else. As many costs of other problems are known as a sweep has from its second problem on (``--known
0``: as in its first one). With ``--busy``, beside so many processes that compute all the time, as the programs do that
a sweep times.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

import numpy as np

from autotune.search.points import enumerate_points
from autotune.search.portfolio import FITTED, Known, Portfolio

GOAL_MS = 10.0
POINTS, PROPOSALS = 20_000, 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--known", type=int, default=FITTED)
    parser.add_argument("--proposals", type=int, default=PROPOSALS)
    options = parser.parse_args()
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.busy)]
    try:
        took = measured(options.known, options.proposals)
    finally:
        for other in others:
            other.kill()
            other.wait()
    beside = f" beside {options.busy} busy processes" if options.busy else ""
    print(f"{POINTS} points, {options.known} known costs{beside}: ms a proposal, median and p95 (goal {GOAL_MS:.0f})")
    for start in range(0, len(took), 100):
        part = took[start : start + 100]
        print(f"{start + 1:4}-{start + len(part):<4} {_said(part)}")
    print(f"{'all':9} {_said(took)}")


def _said(took: np.ndarray) -> str:
    (wall, wall_95), (cpu, cpu_95) = (np.percentile(column, (50, 95)) for column in took.T)
    return f"wall {wall:5.2f} {wall_95:6.2f}   processor {cpu:5.2f} {cpu_95:6.2f}"


def measured(known: int, proposals: int) -> np.ndarray:
    """Milliseconds of each proposal, wall time and time of the processor: (proposals, 2)."""
    points = enumerate_points({f"p{place}": [1, 2, 4, 8, 16] for place in range(6)} | {"q": [0, 1]})
    points = points.keep(range(POINTS))
    cost = 1 + (points.codes * [3, 1, 4, 1, 5, 9, 2]).sum(axis=1) % 97
    rng = np.random.default_rng(0)
    # Three problems that differ in one coordinate, of whose costs each is off by up to a tenth.
    others = [
        Known(points.config(int(number)), (0.4, 1.5 + place % 3 / 8, 1.5), float(cost[number] * rng.uniform(0.9, 1.1)))
        for place, number in enumerate(rng.choice(POINTS, known, replace=False))
    ]
    portfolio = Portfolio(points, 0, problem=(0.4, 1.5, 1.5), known=others)
    took = []
    for _ in range(proposals):
        wall, cpu = time.perf_counter(), time.process_time()
        number = portfolio.propose()
        took.append(((time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3))
        portfolio.tell(number, float(cost[number]))
    return np.array(took)


if __name__ == "__main__":
    main()
