"""A family's launches as ops: MLX's signatures, and MLX's rules for what transforms a function.

Under ``mx.grad``, ``mx.jvp`` and ``mx.vmap`` a custom kernel has no rule of its own: ``mx.custom_function`` hands those
transformations to the stock op. That costs 2.4 to 4.8 us a call (``benchmarks/launch.py``), nearly all of it for taking
the arguments apart and together again, which programs without such transformations can save (:func:`bare`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Optional

import mlx.core as mx

from ..mlx_ops import ORIGINAL
from ..problem import Problem, Quantization
from . import launch
from .base import Op
from .launch import Shape, Starts

Compact = Callable[..., mx.array]
"""What a and c of a dense product go through before a launch: ``mx.contiguous`` or :func:`as_it_is`."""
Rules = Callable[[Callable[..., mx.array], Callable[..., mx.array]], Callable[..., mx.array]]
"""From our function and the stock op, with the same arguments, to ours with the stock op's rules."""


def op(starts: Callable[..., Starts], compact: Compact, problem: Problem) -> Op:
    """The op of launches that ``starts`` gives for shapes, with rules for transformations."""
    q = problem.quantization
    if q is not None:
        return RuledQuantized(BareQuantized(starts), q, problem.layout == "nt")
    return (_matmul_op if problem.op == "matmul" else _addmm_op)(starts, compact, with_rules)


def bare(starts: Callable[..., Starts], compact: Compact, problem: Problem) -> Op:
    """The same without rules."""
    if problem.quantization is not None:
        return BareQuantized(starts)
    return (_matmul_op if problem.op == "matmul" else _addmm_op)(starts, compact, _no_rules)


def _no_rules(ours: Callable[..., mx.array], stock: Callable[..., mx.array]) -> Callable[..., mx.array]:
    return ours


def as_it_is(array: mx.array, stream: Any = None) -> mx.array:
    return array


def _matmul_op(starts: Callable[..., Starts], compact: Compact, rules: Rules) -> Op:
    stock = ORIGINAL["matmul"]

    def make(stream: Any) -> Callable[..., mx.array]:
        def ours(a, b):
            first, last = starts(a.shape, b.shape, None)
            out = first(compact(a, stream=stream), b, stream=stream)
            return out if last is None else last(out, stream=stream)

        return rules(ours, lambda a, b: stock(a, b, stream=stream))

    made = kept(make)

    def matmul(a, b, /, *, stream=None):
        return made(stream)(a, b)

    return matmul


def _addmm_op(starts: Callable[..., Starts], compact: Compact, rules: Rules) -> Op:
    stock = ORIGINAL["addmm"]

    def make(stream: Any, alpha: float, beta: float) -> Callable[..., mx.array]:
        factors = launch.scalars(alpha, beta)

        def ours(c, a, b):
            first, last = starts(a.shape, b.shape, c.shape)
            a, c = compact(a, stream=stream), compact(c, stream=stream)
            if last is None:
                return first(a, b, factors, c, stream=stream)
            return last(first(a, b, stream=stream), factors, c, stream=stream)

        return rules(ours, lambda c, a, b: stock(c, a, b, alpha, beta, stream=stream))

    made = kept(make)

    def addmm(c, a, b, /, alpha=1.0, beta=1.0, *, stream=None):
        return made(stream, float(alpha), float(beta))(c, a, b)

    return addmm


class BareQuantized:
    """``quantized_matmul`` without rules. Of all ops the one that is called most often in the shortest time."""

    __slots__ = ("_starts",)

    def __init__(self, starts: Callable[..., Starts]) -> None:
        self._starts = starts

    def __call__(
        self, x, w, /, scales, biases=None, transpose=True, group_size=None, bits=None, mode="affine", *, stream=None
    ):
        first, last = self._starts(x.shape, w.shape)
        out = first(x, w, scales, stream=stream) if biases is None else first(x, w, scales, biases, stream=stream)
        return out if last is None else last(out, stream=stream)

    def ready(self, x: Shape, w: Shape) -> Optional[launch.Bound]:
        """The launch of a call of these shapes that was made before, to be called with its arrays and a stream."""
        first, last = self._starts(x, w)
        product = first.bound
        if last is None or product is None:
            return product
        reduction = last.bound
        if reduction is None:
            return None
        return lambda arrays, stream: reduction((product(arrays, stream),), stream)


class RuledQuantized:
    """``quantized_matmul`` with the stock op's rules."""

    __slots__ = ("_made",)

    def __init__(self, bare: BareQuantized, q: Quantization, transposed: bool) -> None:
        stock = ORIGINAL["quantized_matmul"]

        def make(stream: Any) -> Callable[..., mx.array]:
            def theirs(x, w, scales, biases=None):
                return stock(x, w, scales, biases, transposed, q.group_size, q.bits, q.mode, stream=stream)

            return with_rules(partial(bare, stream=stream), theirs)

        self._made = kept(make)

    def __call__(
        self, x, w, /, scales, biases=None, transpose=True, group_size=None, bits=None, mode="affine", *, stream=None
    ):
        run = self._made(stream)
        return run(x, w, scales) if biases is None else run(x, w, scales, biases)

    def ready(self, x: Shape, w: Shape) -> launch.Bound:
        """As :meth:`BareQuantized.ready`, with rules."""
        run = self._made(None)
        return lambda arrays, stream: (run if stream is None else self._made(stream))(*arrays)


def with_rules(ours: Callable[..., mx.array], stock: Callable[..., mx.array]) -> Callable[..., mx.array]:
    """``ours`` with the stock op's rules for gradients, forward derivatives and vectorization."""
    made: Any = mx.custom_function(ours)

    @made.vjp
    def _vjp(primals, cotangents, outputs):
        # Packed weights and minifloat scales are integers, for which there is no gradient; what is built for arrays
        # that nobody asked for is never evaluated.
        primals = _tuple(primals)
        real = [at for at, primal in enumerate(primals) if mx.issubdtype(primal.dtype, mx.floating)]

        def of_real(*given):
            every = list(primals)
            for at, array in zip(real, given):
                every[at] = array
            return stock(*every)

        found = dict(zip(real, mx.vjp(of_real, [primals[at] for at in real], list(_tuple(cotangents)))[1]))
        return tuple(found.get(at, mx.zeros_like(primal)) for at, primal in enumerate(primals))

    @made.jvp
    def _jvp(primals, tangents):
        known = [mx.zeros_like(p) if t is None else t for p, t in zip(_tuple(primals), _tuple(tangents))]
        return mx.jvp(stock, list(_tuple(primals)), known)[1][0]

    @made.vmap
    def _vmap(inputs, axes):
        inputs, axes = _tuple(inputs), _tuple(axes)
        return mx.vmap(stock, in_axes=tuple(axes))(*inputs), 0

    return made


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


MOST_KEPT = 64
"""Pairs of alpha and beta for which an ``addmm`` is kept ready: a schedule of them must not fill the memory."""


def kept(make: Callable[..., Any]) -> Callable[..., Any]:
    """``make``, whose first argument is a stream, with its results kept by the others where the stream is None.

    Streams and devices hash by identity and MLX makes new ones at each asking, so that they are no keys: a call that
    names one pays for the rules anew, about ten microseconds.
    """
    known: dict[Any, Any] = {}

    def find(stream: Any, *rest: Any) -> Any:
        if stream is not None:
            return make(stream, *rest)
        found = known.get(rest)
        if found is None:
            if len(known) >= MOST_KEPT:
                known.clear()
            found = known[rest] = make(None, *rest)
        return found

    return find
