"""What the row compositions share: A's leading axes folded into rows, and the stock product over a block of rows.

``pad``, ``chunk`` and their like change which rows of A reach the stock op in one call. For the three ops that is the
same work, so it is written once: a composition is a function of ``product`` (the stock op over a block of rows, and of
the addend's rows where there is one), A, the addend and the stream.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import mlx.core as mx

from ..mlx_ops import ORIGINAL
from ..problem import Problem
from .base import Op

_matmul, _addmm, _quantized_matmul = (ORIGINAL["matmul"], ORIGINAL["addmm"], ORIGINAL["quantized_matmul"])

Product = Callable[[mx.array, Optional[mx.array]], mx.array]
Composition = Callable[[Product, mx.array, Optional[mx.array], Any], mx.array]


def over_rows(problem: Problem, compose: Composition) -> Op:
    """The op of ``problem`` with its stock product taken through ``compose``.

    A (..., M, K) becomes (rows, K) where B is shared, and the result gets A's leading axes back. With a batch of Bs the
    axes stay, and compositions work along axis -2.
    """
    shared = problem.batch == 1

    def folded(a: mx.array, c: mx.array | None, product: Product, stream: Any) -> mx.array:
        lead = a.shape[:-1]
        fold = shared and len(lead) > 1
        if fold:
            a = mx.reshape(a, (-1, a.shape[-1]), stream=stream)
            if c is not None:
                c = mx.reshape(c, (-1, c.shape[-1]), stream=stream)
        out = compose(product, a, c, stream)
        return mx.reshape(out, (*lead, out.shape[-1]), stream=stream) if fold else out

    if problem.op == "matmul":

        def matmul(a, b, /, *, stream=None):
            return folded(a, None, lambda rows, _: _matmul(rows, b, stream=stream), stream)

        return matmul

    if problem.op == "addmm":
        full = problem.epilogue == "full"

        def addmm(c, a, b, /, alpha=1.0, beta=1.0, *, stream=None):
            def product(rows: mx.array, addend: mx.array | None) -> mx.array:
                return _addmm(c if addend is None else addend, rows, b, alpha, beta, stream=stream)

            return folded(a, c if full else None, product, stream)

        return addmm

    def quantized_matmul(
        x, w, /, scales, biases=None, transpose=True, group_size=None, bits=None, mode="affine", *, stream=None
    ):
        def product(rows: mx.array, _: mx.array | None) -> mx.array:
            return _quantized_matmul(rows, w, scales, biases, transpose, group_size, bits, mode, stream=stream)

        return folded(x, None, product, stream)

    return quantized_matmul
