"""How much of a GPU's bandwidth the routed products of a bench reach.

    autotune bench --workload small-batch --json > bench.json
    python benchmarks/bandwidth.py bench.json

Prints, for each quantized product of the bench, the bytes of packed weights, scales and biases, once, over the time of
a call, stock and routed, and what share that is of a copy: bytes read and written by MLX's ``a + 1`` over 512 MiB, each
on the result of the one before. Calls of a chained bench include the small kernel that links one call to the next
(``autotune/devices/operands.py``), which is timed here alone, in a chain of its own: shares are given with it and
without. Copies, links and the bench's calls are all timed by the same clock (``autotune/devices/clock.py``), each the
median of nine; run it on the machine of the bench.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median

import mlx.core as mx

from autotune import machine
from autotune.devices import clock, operands
from autotune.kernels import STOCK
from autotune.problem import DTYPES, Problem

COPIED = 512 << 20
COPIES, LINKS, TIMES = 20, 500, 9


def copy_bandwidth() -> float:
    """Bytes a second, read and written."""
    a = mx.zeros((COPIED // 2,), mx.float16)
    mx.eval(a)

    def copies(calls: int) -> list[mx.array]:
        out = a
        for _ in range(calls):
            out = out + 1
        return [out]

    return 2 * COPIED / timed(copies, COPIES)


def timed(build: clock.Build, calls: int) -> float:
    """Median seconds a call, after one evaluation to warm up."""
    timer = clock.here()
    return median([timer.seconds(STOCK, build, calls) for _ in range(TIMES + 1)][1:]) / calls


def link(problem: Problem) -> float:
    """Seconds of one link in a chain of links alone, timed as a bench times its calls."""
    a = mx.random.normal((problem.m, problem.k)).astype(mx.float16)
    mx.eval(a)

    def links(calls: int) -> list[mx.array]:
        out = a
        for _ in range(calls):
            out = operands.linked(problem, a, out)
        return [out]

    return timed(links, LINKS)


def weight_bytes(problem: Problem) -> int:
    """Packed weights, scales and biases."""
    q = problem.quantization
    assert q is not None
    item = DTYPES[problem.dtype] * 2 if q.has_biases else 1
    return problem.n * problem.k * q.bits // 8 + problem.n * problem.k // q.group_size * item


def main() -> None:
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        sys.exit("usage: bandwidth.py BENCH.json, a file that `autotune bench --json` wrote")
    bench = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    here = machine.local(machine.default_kind()).device_name
    if not bench["machine"].startswith(here):
        sys.exit(f"{sys.argv[1]} was measured on {bench['machine']}, this is {here}: run both on one machine")
    copied = copy_bandwidth()
    print(f"{bench['machine']}, MLX {bench['mlx']}, {bench['date']}; copy {copied / 1e9:.0f} GB/s")
    for line in bench["lines"]:
        problem = Problem.parse(line["label"])
        if problem.quantization is None:
            continue
        linked = link(problem) * 1e6 if bench["load"] == "chained" else 0.0
        moved = weight_bytes(problem)
        shares = [
            moved / (us - away) * 1e6 / copied for us in (line["before_us"], line["after_us"]) for away in (0.0, linked)
        ]
        print(
            f"{problem}, {moved / 1e6:.1f} MB, link {linked:.1f} us: "
            f"stock {shares[0]:.0%} ({shares[1]:.0%}), routed {shares[2]:.0%} ({shares[3]:.0%})"
        )
    print("in parentheses without the link")


if __name__ == "__main__":
    main()
