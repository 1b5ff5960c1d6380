"""What links calls into a chain: `python benchmarks/chaining.py [--device gpu|cpu] [PROBLEM ...]`.

Prints microseconds a call of the stock op, with cold rotating weights, for calls that are

- independent of each other,
- linked by ``mx.depends``,
- fed the result before them as their input, with nothing in between (square products only): a true chain,
- linked as autotune's chained load links them (``operands.linked``: one small kernel in between),
- linked so, and timed from when they are handed over, without a gate (``devices/clock.py``).

Where kernels overlap, the first column is far below the third, and no decoding can ever reach it. Where ``mx.depends``
gives the device no dependency, the second column is as low as the first. What the last column has more than the fourth
is the host's time and the start of an evaluation, spread over the calls.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from statistics import median

import mlx.core as mx

from autotune.chips import cache_bytes
from autotune.devices import clock, operands
from autotune.kernels import STOCK
from autotune.machine import default_kind
from autotune.mlx_ops import ORIGINAL
from autotune.problem import Problem

PROBLEMS = [
    f"quantized_matmul M={m} N={n} K=5120 f16 affine-b4-g64 nt" for n in (5120, 1024, 13824) for m in (1, 3, 8)
] + ["matmul M=1 N=5120 K=5120 f16 nt", "matmul M=8 N=5120 K=5120 f16 nt"]

Link = Callable[[mx.array, mx.array], mx.array]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", nargs="*", default=PROBLEMS)
    parser.add_argument("--device", choices=("gpu", "cpu"), default=default_kind())
    parser.add_argument("--calls", type=int, default=200)
    options = parser.parse_args()
    mx.set_default_device(mx.Device(getattr(mx, options.device)))
    print(f"MLX {mx.__version__}, {mx.device_info()['device_name']}, {options.calls} calls, median of 7, us a call")
    print(f"{'problem':58} {'independent':>11} {'depends':>8} {'direct':>8} {'linked':>8} {'no gate':>8}")
    for text in options.problems:
        cells = [f"{us:8.1f}" if us else "       -" for us in measure(Problem.parse(text), options)]
        print(f"{text:58}    {' '.join(cells)}", flush=True)


def measure(problem: Problem, options: argparse.Namespace) -> list[float]:
    key, other = mx.random.split(mx.random.key(0), 2)
    drawn = operands.draw(problem, key, corner=True)
    sets = operands.ring(problem, cache_bytes(options.device), 4 << 30, other)
    op = ORIGINAL[problem.op]

    def chain(link: Link | None, calls: int) -> list[mx.array]:
        outs: list[mx.array] = []
        for turn in range(calls):
            a = link(drawn.a, outs[-1]) if outs and link else drawn.a
            outs.append(op(*operands.arguments(problem, a, sets[turn % len(sets)], drawn.c)))
        return outs if link is None else outs[-1:]

    def linked(a: mx.array, out: mx.array) -> mx.array:
        return operands.linked(problem, a, out)

    direct: Link | None = (lambda a, out: out) if problem.n == problem.k else None
    return [
        timed(clock.here(), partial(chain, None), options.calls),
        timed(clock.here(), partial(chain, lambda a, out: mx.depends([a], [out])[0]), options.calls),
        timed(clock.here(), partial(chain, direct), options.calls) if direct else 0.0,
        timed(clock.here(), partial(chain, linked), options.calls),
        timed(clock.Plain(), partial(chain, linked), options.calls),
    ]


def timed(timer: clock.Clock, build: clock.Build, calls: int) -> float:
    """Median microseconds a call of seven evaluations after one to warm up; building the graph is not timed."""
    return median([timer.seconds(STOCK, build, calls) for _ in range(8)][1:]) / calls * 1e6


if __name__ == "__main__":
    main()
