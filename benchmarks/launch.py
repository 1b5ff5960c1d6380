"""What it costs to build a call of a kernel of ours, in microseconds.

    python benchmarks/launch.py [--json]

``stock`` is MLX's op; ``mlx`` is MLX's own function for custom kernels, called with everything prepared; ``call`` is
our op, which finds what was prepared for these shapes and hands gradients to the stock op; ``bare`` is the same without
gradients, which is what ``autotune.enable()`` calls where nobody transforms, and ``routed`` that as a program calls it,
router and all. The goal is 6 us: for ``call`` on CUDA, and elsewhere for what it adds to ``mlx``. Calls build MLX's
graph and are not evaluated. Without a GPU they are built inside ``mx.export_function``, where MLX records Metal kernels
that it cannot run; the time to build is the same code's. On a GPU ``stock+`` and ``bare+`` are what it costs to
evaluate a call: to hand it to the GPU, which computes meanwhile.

Each value is the least of ``GROUPS`` batches of ``CALLS`` calls: what disturbs a loop only ever makes it slower.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import mlx.core as mx

from autotune import kernels, machine
from autotune.kernels import Op, Route, launch
from autotune.kernels.program import Launch
from autotune.mlx_ops import ORIGINAL
from autotune.problem import Problem
from autotune.routing import ops
from autotune.routing.router import ROUTERS, Routed
from autotune.search import space

GROUPS, CALLS = 20, 500
FEW = 48
"""Calls that are evaluated at once: less than MLX puts into one CUDA graph (100), so that none is waited for."""
GOAL_US = 6.0
COLUMNS = ("stock_us", "mlx_us", "bare_us", "routed_us", "call_us", "stock_eval_us", "bare_eval_us")
PROBLEMS = (
    "quantized_matmul M=1 N=4096 K=4096 f16 affine-b4-g64 nt",
    "quantized_matmul M=4 N=4096 K=4096 f16 affine-b4-g64 nt",
    "matmul M=4 N=4096 K=4096 f16 nt",
    "addmm M=4 N=4096 K=4096 f16 nt row",
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


def scheduled(call: Callable[[], mx.array]) -> float:
    """Microseconds to evaluate a call, on the CPU's side."""
    best = float("inf")
    for _ in range(GROUPS):
        outs = [call() for _ in range(FEW)]
        start = time.perf_counter()
        mx.async_eval(outs)
        best = min(best, (time.perf_counter() - start) / FEW)
        mx.synchronize()
    return best * 1e6


def measure(problem: Problem, route: Route) -> dict[str, Any]:
    """Times of one route; has to run where custom kernels can be built."""
    arguments = operands(problem)
    op = kernels.build(route, problem)
    seen: list[Launch] = []

    def keep(each: Launch) -> list[mx.array]:
        seen.append(each)
        return [mx.zeros(shape, dtype) for shape, dtype in zip(each.shapes, each.dtypes)]

    with launch.through(keep):
        op(*arguments, stream=None)
    ready = [(start_of(each).bind(each.inputs[1:]), each.inputs[1:]) for each in seen]

    def mlx() -> None:
        for function, arrays in ready:
            function(arrays, None)

    stock, bare = ORIGINAL[problem.op], kernels.build(route, problem, bare=True)
    times = {
        "stock_us": least(lambda: stock(*arguments)),
        "mlx_us": least(mlx),
        "bare_us": least(lambda: bare(*arguments, stream=None)),
        "call_us": least(lambda: op(*arguments, stream=None)),
    }
    if problem.op == "quantized_matmul":
        with routing(route):
            times["routed_us"] = least(lambda: ops.quantized_matmul(*arguments))
    if mx.metal.is_available() or mx.cuda.is_available():
        times["stock_eval_us"] = scheduled(lambda: stock(*arguments))
        times["bare_eval_us"] = scheduled(lambda: bare(*arguments, stream=None))
    return {
        "problem": str(problem),
        "route": str(route),
        "launches": len(seen),
        "bytes": sum(map(passed_bytes, seen)),
        **{name: round(us, 2) for name, us in times.items()},
        "judged_us": round(times["call_us"] - (0 if mx.cuda.is_available() else times["mlx_us"]), 2),
    }


@contextlib.contextmanager
def routing(route: Route) -> Iterator[None]:
    """Routed ops take the route without a table and a first try, and the default device for the GPU."""

    def op(problem: Problem, kind: str, stock: Op) -> Op:
        run, bare = kernels.build(route, problem), kernels.build(route, problem, bare=True)
        return Routed(ROUTERS, run, bare, stock, problem.family, route)

    ops.forget()
    with mock.patch.object(ROUTERS, "op", op), mock.patch.object(ops, "_GPU", mx.default_device().type):
        yield
    ops.forget()


def start_of(each: Launch) -> launch.Start:
    """What was launched, made ready once more."""
    sizes = tuple(int(size) for size in each.inputs[0].tolist())
    return launch.Start(each.program, sizes, each.grid, each.threadgroup, each.shapes[0], each.dtypes[0])


def passed_bytes(each: Launch) -> int:
    """Bytes of source or machine code that MLX is passed at each call."""
    code = launch.code(each) if mx.cuda.is_available() else None
    return len(each.program.header) + len(each.program.body) if code is None else len(launch.handed_over(code)[1])


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
    """Of each kernel of ours a config from the middle of its legal set, one that splits K over threadgroups and one
    that does not."""
    found, here = [], machine.local(machine.default_kind())
    backend, nax = (here.backend, here.nax) if here.backend == "cuda" else ("metal", True)
    for problem in map(Problem.parse, PROBLEMS):
        for kernel in kernels.KERNELS.values():
            if not (kernel.searched and kernel.runs_on(backend, nax)):
                continue
            legal = space.legal_set(kernel, problem, backend)
            split = [route for route in legal if route.config.get("split_k", 1) != 1]
            found += [(problem, some[len(some) // 2]) for some in ([r for r in legal if r not in split], split) if some]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []

    def everything(x: mx.array) -> mx.array:
        rows.extend(measure(problem, route) for problem, route in routes())
        return x

    if mx.metal.is_available() or mx.cuda.is_available():
        everything(mx.zeros(1))
    else:
        with tempfile.TemporaryDirectory() as folder:
            mx.export_function(str(Path(folder) / "calls.mlxfn"), everything, mx.zeros(1))
    worst = max(row["judged_us"] for row in rows)
    if options.json:
        json.dump({"mlx": mx.__version__, "machine": platform.machine(), "goal_us": GOAL_US, "rows": rows}, sys.stdout)
        return
    columns = [name for name in COLUMNS if name in rows[0]]
    heads = " ".join(f"{name.removesuffix('_us').replace('_eval', '+'):>7}" for name in columns)
    print(f"{heads} {'bytes':>7}   route and problem (us, bytes passed)")
    for row in rows:
        times = " ".join(f"{row[name]:7.2f}" if name in row else f"{'':7}" for name in columns)
        print(f"{times} {row['bytes']:7}   {row['route']}: {row['problem']}")
    what = "call" if mx.cuda.is_available() else "call beyond mlx"
    print(f"worst {what} {worst:.2f} us, goal {GOAL_US} us: {'met' if worst <= GOAL_US else 'missed'}")


if __name__ == "__main__":
    main()
