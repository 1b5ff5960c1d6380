"""What links calls into a chain: `python benchmarks/chaining.py [--device gpu|cpu] [PROBLEM ...]`.

Prints microseconds a call of the stock op for calls that are independent, linked by ``mx.depends`` alone, and linked by
the select that autotune's chained load uses, with cold rotating weights; and the select's own time. Where a kernel's
launch or tail overlaps with the next one's, independent calls look faster than decoding can ever be, and ``mx.depends``
shows whether it prevents that on this backend.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import mlx.core as mx

from autotune.chips import cache_bytes
from autotune.devices import operands
from autotune.mlx_ops import ORIGINAL
from autotune.problem import Problem

PROBLEMS = [
    "quantized_matmul M=1 N=5120 K=5120 f16 affine-b4-g64 nt",
    "quantized_matmul M=1 N=1024 K=5120 f16 affine-b4-g64 nt",
    "quantized_matmul M=8 N=1024 K=5120 f16 affine-b4-g64 nt",
    "quantized_matmul M=8 N=13824 K=5120 f16 affine-b4-g64 nt",
    "matmul M=1 N=1024 K=5120 f16 nt",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", nargs="*", default=PROBLEMS)
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu" if mx.is_available(mx.gpu) else "cpu")
    parser.add_argument("--calls", type=int, default=200)
    options = parser.parse_args()
    mx.set_default_device(mx.Device(getattr(mx, options.device)))
    print(f"MLX {mx.__version__}, {mx.device_info()['device_name']}, {options.calls} calls, median of 7, us a call")
    print(f"{'problem':62} {'independent':>12} {'depends':>9} {'select':>9} {'select alone':>13}")
    for text in options.problems:
        print(f"{text:62} " + " ".join(f"{us:>10.2f}" for us in measure(Problem.parse(text), options)))


def measure(problem: Problem, options: argparse.Namespace) -> list[float]:
    key, other = mx.random.split(mx.random.key(0), 2)
    drawn = operands.draw(problem, key)
    sets = operands.ring(problem, cache_bytes(options.device), 4 << 30, other)
    never, op = mx.array(False), ORIGINAL[problem.op]

    def call(a: mx.array, turn: int) -> mx.array:
        return op(*operands.arguments(problem, a, sets[turn % len(sets)], drawn.c))

    def chain(link: object) -> list[mx.array]:
        outs: list[mx.array] = []
        for turn in range(options.calls):
            outs.append(call(link(drawn.a, outs[-1]) if outs else drawn.a, turn))
        return outs

    def selects() -> list[mx.array]:
        a = drawn.a
        for _ in range(options.calls):
            a = mx.where(never, a[..., :1], a)
        return [a]

    loads = [
        lambda: chain(lambda a, out: a),
        lambda: chain(lambda a, out: mx.depends([a], [out])[0]),
        lambda: chain(lambda a, out: mx.where(never, out[..., :1], a)),
        selects,
    ]
    return [timed(load) / options.calls * 1e6 for load in loads]


def timed(load: object) -> float:
    seconds = []
    for _ in range(8):
        outs = load()
        start = time.perf_counter()
        mx.eval(outs)
        mx.synchronize()
        seconds.append(time.perf_counter() - start)
    return median(seconds[1:])


if __name__ == "__main__":
    main()
