"""How much of a GPU's bandwidth the routed products of a bench reach.

    autotune bench --workload small-batch --json > bench.json
    python benchmarks/bandwidth.py bench.json

Prints, for each quantized product of the bench, the bytes of packed weights, scales and biases, once, over the time of
a call, stock and routed, and what share that is of a copy: bytes read and written by MLX's ``a + 1`` over 512 MiB, the
best of ten. Calls of a chained bench include the small kernel that links one call to the next
(``autotune/devices/operands.py``), which is timed here alone, in a chain of its own: shares are given with it and
without.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import mlx.core as mx

from autotune.devices import clock, operands
from autotune.kernels import STOCK
from autotune.problem import DTYPES, Problem

COPIED = 512 << 20
LINKS = 200


def copy_bandwidth() -> float:
    """Bytes a second, read and written."""
    a = mx.zeros((COPIED // 2,), mx.float16)
    mx.eval(a)
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        mx.eval(a + 1)
        mx.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * COPIED / best


def link(problem: Problem) -> float:
    """Seconds of one link in a chain of links alone, timed as a bench times its calls."""
    a = mx.random.normal((problem.m, problem.k)).astype(mx.float16)
    mx.eval(a)
    timer = clock.here()

    def links(gate: mx.array, calls: int) -> list[mx.array]:
        out = operands.gated(problem, a, gate)
        for _ in range(calls):
            out = operands.linked(problem, a, out)
        return [out]

    return min(timer.seconds(STOCK, links, LINKS) for _ in range(20)) / LINKS


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
