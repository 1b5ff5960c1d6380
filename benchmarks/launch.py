"""What the launch path of our Metal kernels adds to building a call, in microseconds.

    python benchmarks/launch.py [--json]

``bare`` is ``mx.fast.metal_kernel``'s own object, called with everything prepared; ``call`` is the routed op, which
checks nothing more but finds its program and its arrays of sizes, and hands gradients to the stock op; ``added`` is the
difference, with a goal of 6 us. Calls build MLX's graph and are not evaluated. Without Metal they are built inside
``mx.export_function``, where MLX records custom kernels that it cannot run; the time to build is the same code's.

Each value is the least of ``GROUPS`` batches of ``CALLS`` calls: what disturbs a loop only ever makes it slower.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx

from autotune import kernels
from autotune.kernels import Route, launch
from autotune.problem import Problem
from autotune.search import space

GROUPS, CALLS = 20, 500
GOAL_US = 6.0
PROBLEMS = (
    "quantized_matmul M=4 N=64 K=256 f16 affine-b4-g64 nt",
    "matmul M=4 N=64 K=256 f16 nt",
    "addmm M=4 N=64 K=256 f16 nt row",
)


def least(call: Callable[[], Any]) -> float:
    """Microseconds a call."""
    best = float("inf")
    for _ in range(GROUPS):
        start = time.perf_counter()
        for _ in range(CALLS):
            call()
        best = min(best, (time.perf_counter() - start) / CALLS)
    return best * 1e6


def measure(problem: Problem, route: Route) -> dict[str, Any]:
    """Times of one route; has to run where custom kernels can be built."""
    arguments = operands(problem)
    op = kernels.build(route, problem)
    seen: list[launch.Launch] = []

    def keep(each: launch.Launch) -> list[mx.array]:
        seen.append(each)
        return [mx.zeros(shape, dtype) for shape, dtype in zip(each.shapes, each.dtypes)]

    with launch.through(keep):
        op(*arguments, stream=None)

    def bare() -> None:
        for each in seen:
            launch.kernel(each.program)(
                inputs=each.inputs,
                grid=each.grid,
                threadgroup=each.threadgroup,
                output_shapes=each.shapes,
                output_dtypes=each.dtypes,
            )

    source = sum(len(each.program.header) + len(each.program.body) for each in seen)
    call_us, bare_us = least(lambda: op(*arguments, stream=None)), least(bare)
    return {
        "problem": str(problem),
        "route": str(route),
        "launches": len(seen),
        "source_bytes": source,
        "call_us": round(call_us, 2),
        "bare_us": round(bare_us, 2),
        "added_us": round(call_us - bare_us, 2),
    }


def operands(problem: Problem) -> tuple[Any, ...]:
    """Zeros in the shapes of a call's arguments."""
    x = mx.zeros((problem.m, problem.k), mx.float16)
    if problem.op == "matmul":
        return x, mx.zeros((problem.n, problem.k), mx.float16).T
    if problem.op == "addmm":
        return mx.zeros((problem.n,), mx.float16), x, mx.zeros((problem.n, problem.k), mx.float16).T
    q = problem.quantization
    assert q is not None
    packed = mx.quantize(mx.zeros((problem.n, problem.k), mx.float16), group_size=q.group_size, bits=q.bits)
    return (x, *packed, True, q.group_size, q.bits, q.mode)


def routes() -> list[tuple[Problem, Route]]:
    """The first legal config of each kernel of ours that splits K over threadgroups, and of each that does not."""
    found = []
    for problem in map(Problem.parse, PROBLEMS):
        for kernel in kernels.KERNELS.values():
            if not kernel.searched:
                continue
            legal = space.legal_set(kernel, problem, "metal")
            split = [route for route in legal if route.config.get("split_k", 1) != 1]
            found += [(problem, some[0]) for some in ([r for r in legal if r not in split], split) if some]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []

    def everything(x: mx.array) -> mx.array:
        rows.extend(measure(problem, route) for problem, route in routes())
        return x

    if mx.metal.is_available():
        everything(mx.zeros(1))
    else:
        with tempfile.TemporaryDirectory() as folder:
            mx.export_function(str(Path(folder) / "calls.mlxfn"), everything, mx.zeros(1))
    worst = max(row["added_us"] for row in rows)
    if options.json:
        json.dump({"mlx": mx.__version__, "machine": platform.machine(), "goal_us": GOAL_US, "rows": rows}, sys.stdout)
        return
    print(f"{'call':>7} {'bare':>7} {'added':>7} {'source':>7}   route and problem (us, us, us, bytes)")
    for row in rows:
        print(
            f"{row['call_us']:7.2f} {row['bare_us']:7.2f} {row['added_us']:7.2f} {row['source_bytes']:7}   "
            f"{row['route']}: {row['problem']}"
        )
    print(f"worst added {worst:.2f} us, goal {GOAL_US} us: {'met' if worst <= GOAL_US else 'missed'}")


if __name__ == "__main__":
    main()
