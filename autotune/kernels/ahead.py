"""Compiles the programs of many routes before any of them is measured, on all processors.

Only CUDA needs it: NVRTC takes a third of a second for a program, while Apple's compiler is a service of the system
with a cache of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import mlx.core as mx

from ..errors import AutotuneError
from ..problem import Problem
from . import launch
from .base import Kernel, Route
from .family import Family
from .program import DTYPES, Launch


def compile_ahead(kernels: dict[str, Kernel], wanted: Iterable[tuple[Problem, Route]]) -> None:
    """Compiles what the routes would launch. A route that cannot be built, or that the compiler refuses, costs nothing
    here: whoever tries it will be told."""
    found: list[Launch] = []
    seen = set()
    for problem, route in wanted:
        kernel = kernels[route.kernel]
        kind = (route, problem.op, problem.dtype, problem.layout, problem.quantization, problem.epilogue)
        if kind in seen or not isinstance(kernel, Family):
            continue
        seen.add(kind)
        try:
            found += launches(kernel, problem, route)
        except (AutotuneError, ValueError, RuntimeError):
            continue
    launch.compile_ahead(found)


def launches(kernel: Family, problem: Problem, route: Route) -> Sequence[Launch]:
    """What the route would launch for the problem. Nothing is computed: MLX's arrays are lazy."""
    seen: list[Launch] = []

    def runner(asked: Launch) -> Sequence[mx.array]:
        seen.append(asked)
        return [mx.zeros(shape, dtype) for shape, dtype in zip(asked.shapes, asked.dtypes)]

    with launch.through(runner):
        kernel.build(problem, dict(route.config))(*_arguments(problem))
    return seen


def _arguments(problem: Problem) -> tuple[object, ...]:
    """Arrays of the problem's kind that nobody will evaluate."""
    dtype = DTYPES[problem.dtype]
    lead = () if problem.batch == 1 else (problem.batch,)
    a = mx.zeros((*lead, problem.m, problem.k), dtype)
    q = problem.quantization
    if q is not None:
        across = problem.layout == "nt"
        rows, columns = (problem.n, problem.k) if across else (problem.k, problem.n)
        w = mx.zeros((rows, columns * q.bits // 32), mx.uint32)
        scales = mx.zeros((rows, columns // q.group_size), dtype if q.has_biases else mx.uint8)
        biases = scales if q.has_biases else None
        return a, w, scales, biases, across, q.group_size, q.bits, q.mode
    b = mx.zeros((*lead, problem.k, problem.n), dtype)
    if problem.op == "matmul":
        return a, b
    shape = (problem.n,) if problem.epilogue == "row" else (*lead, problem.m, problem.n)
    return mx.zeros(shape, dtype), a, b
