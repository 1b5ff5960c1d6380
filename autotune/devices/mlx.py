"""MLX's own backends as devices: Metal, CUDA and the CPU, timed through ``mx.eval``.

How a load is chained: each call's input is linked to the result before it by adding that result's first element, which
the operands make zero (``operands.linked``). ``mx.depends`` would order the nodes of MLX's graph but hands the array's
buffer through, and gives the GPU no dependency between two kernels: they overlap as no decoding ever does. The small
kernel that links is counted in the time of both sides, which makes speedups look smaller than they are, never larger.
docs/measuring.md has the measured difference.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

from .. import kernels, machine
from ..kernels import STOCK, Op, Route
from ..problem import Problem
from . import clock, operands, reference
from .base import LOADS, Accuracy

MOST_RING_BYTES = 4 << 30


class MlxDevice:
    """MLX's ``gpu`` or ``cpu`` of this machine, in this process. Sets MLX's default device."""

    def __init__(self, kind: str, cache_bytes: int) -> None:
        """``cache_bytes`` is the last-level cache's size, which rotating weights have to exceed."""
        self.machine = machine.local(kind)
        self._cache_bytes = cache_bytes
        mx.set_default_device(mx.Device(getattr(mx, kind)))

    def open(self, problem: Problem, seed: int, load: str) -> MlxSession:
        mx.clear_cache()
        return MlxSession(problem, seed, load, self._cache_bytes)

    def close(self) -> None:
        mx.clear_cache()


class MlxSession:
    """One problem with its inputs on the device."""

    def __init__(self, problem: Problem, seed: int, load: str, cache_bytes: int) -> None:
        """On MLX's default device."""
        if load not in LOADS:
            raise ValueError(f"load {load!r} is none of {LOADS}")
        self.problem = problem
        self.load = load
        self._key = mx.random.key(seed)
        self._rng = np.random.default_rng(seed)
        self._cache_bytes = cache_bytes
        self._ops: dict[Route, Op] = {}
        self._turn = 0
        self._clock = clock.here()
        self._checked: _Check | None = None
        self._timed: tuple[mx.array, mx.array | None, list[tuple[mx.array, ...]]] | None = None

    def check(self, route: Route) -> Accuracy:
        if self._checked is None:
            self._checked = _Check(self.problem, self._next_key(), self._rng, self._op(STOCK))
        return self._checked.of(self._op(route))

    def time(self, route: Route, calls: int) -> float:
        return self._clock.seconds(route, lambda some: self._calls(route, some), calls)

    def _calls(self, route: Route, calls: int) -> list[mx.array]:
        """What to evaluate for so many calls."""
        first, c, sets = self._timing_operands()
        run, chained = self._op(route), self.load == "chained"
        outs: list[mx.array] = []
        for _ in range(calls):
            a = operands.linked(self.problem, first, outs[-1]) if outs and chained else first
            out = run(*operands.arguments(self.problem, a, sets[self._turn % len(sets)], c), stream=None)
            outs = [out] if chained else [*outs, out]
            self._turn += 1
        return outs

    def host(self, route: Route, calls: int) -> float:
        a, c, sets = self._timing_operands()
        run = self._op(route)
        arguments = [operands.arguments(self.problem, a, sets[number % len(sets)], c) for number in range(calls)]
        return submitted(lambda: [run(*each, stream=None) for each in arguments])

    def _op(self, route: Route) -> Op:
        if route not in self._ops:
            # Bare: nobody differentiates here, and MLX's rules for it add nodes to evaluate that are no kernel's time.
            self._ops[route] = kernels.build(route, self.problem, bare=True)
        return self._ops[route]

    def _next_key(self) -> mx.array:
        self._key, key = mx.random.split(self._key, 2)
        return key

    def _timing_operands(self) -> tuple[mx.array, mx.array | None, list[tuple[mx.array, ...]]]:
        """Made at the first timing, after the check's inputs have been let go: both need not fit at once."""
        if self._timed is None:
            drawn = operands.draw(self.problem, self._next_key(), corner=True)
            sets = operands.ring(self.problem, self._cache_bytes, MOST_RING_BYTES, self._next_key())
            self._timed = (drawn.a, drawn.c, sets)
        return self._timed


def submitted(build: Callable[[], list[mx.array]]) -> float:
    """Seconds in which arrays are built and handed to the device, which computes them meanwhile or afterwards."""
    start = time.perf_counter()
    outs = build()
    mx.async_eval(outs)
    seconds = time.perf_counter() - start
    mx.synchronize()
    return seconds


class _Check:
    """Fresh inputs, their float64 reference on a sample of elements, and the stock op's result."""

    def __init__(self, problem: Problem, key: mx.array, rng: np.random.Generator, stock: Op) -> None:
        self.problem = problem
        drawn = operands.draw(problem, key)
        self._arguments = operands.arguments(problem, drawn.a, drawn.weights, drawn.c)
        self._sample = reference.sample(problem, rng)
        self._expected = _expected(problem, drawn, self._sample)
        self._stock = self._run(stock)

    def of(self, op: Op) -> Accuracy:
        out = self._run(op)
        if out.shape != self._stock.shape or out.dtype != self._stock.dtype:
            return Accuracy(*[float("inf")] * 4)
        rows, columns = self._sample.rows, self._sample.columns
        seen = _doubles(out)[..., rows[:, None], columns[None, :]]
        wide, stock = out.astype(mx.float32), self._stock.astype(mx.float32)
        finite = bool(mx.all(mx.isfinite(wide)).item()) or not bool(mx.all(mx.isfinite(stock)).item())
        if not finite:
            return Accuracy(*[float("inf")] * 4)
        difference = np.abs(seen - self._expected)
        norm = float(np.linalg.norm(self._expected)) or 1.0
        rms = norm / np.sqrt(self._expected.size)
        return Accuracy(
            float(np.linalg.norm(difference)) / norm,
            float(difference.max() / rms),
            distance(wide, stock),
            stray(wide, stock),
        )

    def _run(self, op: Op) -> mx.array:
        """Runs with MLX's buffer cache full of NaNs of the output's size: an element that is not written shows."""
        p = self.problem
        poison = [mx.full((p.batch, p.m, p.n), float("nan"), self._arguments[0].dtype) for _ in range(3)]
        mx.eval(poison)
        del poison
        out: mx.array = op(*self._arguments, stream=None)
        mx.eval(out)
        return out


def distance(a: mx.array, b: mx.array) -> float:
    """Frobenius norm of a - b over that of b."""
    apart: Any = mx.sqrt(mx.sum(mx.square(a - b)) / mx.maximum(mx.sum(mx.square(b)), 1e-30)).item()
    return float(apart)


def stray(a: mx.array, b: mx.array) -> float:
    """Largest single |a - b| over the root mean square of b."""
    largest: Any = (mx.max(mx.abs(a - b)) / mx.maximum(mx.sqrt(mx.mean(mx.square(b))), 1e-30)).item()
    return float(largest)


def _expected(problem: Problem, drawn: operands.Operands, sample: reference.Sample) -> reference.Doubles:
    a = _doubles(drawn.a)[..., sample.rows, :]
    if problem.quantization is None:
        b = _doubles(drawn.weights[0][..., mx.array(sample.columns)])
    else:
        w, scales, *biases = (_numpy(array) for array in drawn.weights)
        b = _sampled_weights(problem, w, scales, biases[0] if biases else None, sample)
    c = None
    if drawn.c is not None:
        full = np.broadcast_to(_doubles(drawn.c), (*drawn.a.shape[:-1], problem.n))
        c = full[..., sample.rows[:, None], sample.columns[None, :]]
    return reference.product(a, b, c)


def _sampled_weights(problem: Problem, w: Any, scales: Any, biases: Any, sample: reference.Sample) -> reference.Doubles:
    """The sampled columns of B (K, N) in float64, unpacking no more than they need."""
    q = problem.quantization
    assert q is not None
    if problem.layout == "nt":
        keep = sample.columns
        part = reference.dequantize(w[keep], scales[keep], None if biases is None else biases[keep], q)
        return part.T
    # Quantized along N: the sample holds whole groups, and every group fills whole words.
    groups = sample.columns[:: q.group_size] // q.group_size
    per_group = q.group_size * q.bits // 32
    words = (groups[:, None] * per_group + np.arange(per_group)).ravel()
    return reference.dequantize(w[:, words], scales[:, groups], None if biases is None else biases[:, groups], q)


def _numpy(array: mx.array) -> Any:
    return np.array(array) if array.dtype in (mx.uint32, mx.uint8) else _doubles(array)


def _doubles(array: mx.array) -> reference.Doubles:
    return np.array(array.astype(mx.float32)).astype(np.float64)
