"""A program's own calls, timed: stock against routed, for one product or for several that feed one another."""

from __future__ import annotations

import math

import mlx.core as mx

from ..kernels import STOCK, Op, Route
from ..mlx_ops import ORIGINAL
from ..problem import Problem
from ..routing import ops
from . import clock, operands
from .base import Accuracy
from .mlx import MOST_RING_BYTES, distance, stray, submitted

ROUTED = Route("routed")
"""Stands for the routed ops: whatever a program's own call of each product takes."""


class ChainSession:
    """Products computed one after another, each result the next one's A.

    A :class:`Session` for ``STOCK`` and ``ROUTED``. Weights rotate as in a sweep. Repetitions of the chain are linked
    like a sweep's chained load (``chained``) or independent of each other (``queued``).
    """

    def __init__(self, products: tuple[Problem, ...], cache_bytes: int, load: str = "chained", seed: int = 0) -> None:
        self.products = products
        self.load = load
        self._ops: dict[Route, list[Op]] = {
            STOCK: [ORIGINAL[problem.op] for problem in products],
            ROUTED: [getattr(ops, problem.op) for problem in products],
        }
        keys = mx.random.split(mx.random.key(seed), 3 * len(products))
        self._keys = [keys[2 * len(products) + i] for i in range(len(products))]
        drawn = [operands.draw(problem, keys[2 * i], corner=True) for i, problem in enumerate(products)]
        self._first = drawn[0].a
        self._addends = [each.c for each in drawn]
        self._sets = [
            operands.ring(problem, cache_bytes, MOST_RING_BYTES // len(products), keys[2 * i + 1])
            for i, problem in enumerate(products)
        ]
        self._turn = 0
        self._clock = clock.here()

    def check(self, route: Route) -> Accuracy:
        """The distance between stock and routed results alone: references are a sweep's business. Infinite where the
        result's shape or dtype is not stock's, or an element of either is not finite. The inputs are not those that are
        timed, whose first column of results is zero."""
        drawn = [operands.draw(problem, key) for problem, key in zip(self.products, self._keys)]
        weights, addends = [each.weights for each in drawn], [each.c for each in drawn]
        out, stock = (self._through(self._ops[which], drawn[0].a, weights, addends) for which in (route, STOCK))
        if out.shape != stock.shape or out.dtype != stock.dtype:
            return Accuracy(*[math.inf] * 4)
        out, stock = out.astype(mx.float32), stock.astype(mx.float32)
        if not mx.all(mx.isfinite(out) & mx.isfinite(stock)).item():
            return Accuracy(*[math.inf] * 4)
        apart, largest = distance(out, stock), stray(out, stock)
        return Accuracy(apart, largest, apart, largest)

    def time(self, route: Route, calls: int) -> float:
        return self._clock.seconds(route, lambda some: self._calls(route, some), calls)

    def _calls(self, route: Route, calls: int) -> list[mx.array]:
        ops, chained = self._ops[route], self.load == "chained"
        outs: list[mx.array] = []
        for _ in range(calls):
            a = operands.linked(self.products[-1], self._first, outs[-1]) if outs and chained else self._first
            outs = [self._once(ops, a)] if chained else [*outs, self._once(ops, a)]
        return outs

    def host(self, route: Route, calls: int) -> float:
        ops = self._ops[route]
        return submitted(lambda: [self._once(ops, self._first) for _ in range(calls)])

    def _once(self, ops: list[Op], a: mx.array) -> mx.array:
        weights = [sets[self._turn % len(sets)] for sets in self._sets]
        self._turn += 1
        return self._through(ops, a, weights, self._addends)

    def _through(
        self,
        ops: list[Op],
        a: mx.array,
        weights: list[tuple[mx.array, ...]],
        addends: list[mx.array | None],
    ) -> mx.array:
        for op, problem, own, c in zip(ops, self.products, weights, addends):
            a = op(*operands.arguments(problem, a, own, c), stream=None)
        return a
