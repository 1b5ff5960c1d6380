"""What a program computes: each call as a problem, or why it is none; and the products that this process has seen.

The routed ops note a call when they look its key up for the first time (``ops._first``), so that noting costs later
calls nothing. What the keys do not tell apart is therefore seen once: one shape in both 16-bit dtypes, or one ``addmm``
with both kinds of addend. A recorder (:mod:`autotune.routing.recorder`) sees every call.
"""

from __future__ import annotations

import contextlib
from typing import Any

import mlx.core as mx

from ..problem import Problem
from . import resolve

Product = tuple[Problem, bool]
"""A problem and whether it is computed on the GPU."""
WRONG = "wrong"
"""In place of a problem: stock refuses the call, or there is nothing to compute."""
MOST = 1 << 16
"""Products that are kept. A server that sees every prompt length would otherwise keep ever more."""
NAMES = resolve.DTYPES

SEEN: dict[Product, None] = {}
"""The products of this process, in the order of their first calls."""
OUTSIDE: dict[tuple[Any, ...], str] = {}
"""Calls that are no tuned product, by op, shapes and item size, with the reason."""


def of_dense(op: str, a: Any, b: Any, c: Any = None, alpha: Any = 1.0, beta: Any = 1.0) -> Problem | str:
    """The problem of a ``matmul`` or ``addmm``, with layout ``nt`` standing for either, or why it is none."""
    dtype = a.dtype
    if min(a.ndim, b.ndim) < 2:
        return "vectors"
    if 0 in (a.size, b.size) or a.shape[-1] != b.shape[-2]:
        return WRONG
    if dtype not in NAMES:
        return str(dtype).rpartition(".")[2]
    if b.dtype != dtype or (op == "addmm" and c.dtype != dtype):
        return "mixed dtypes"
    if b.ndim > 2 and a.shape[:-2] != b.shape[:-2]:
        return "broadcast batches"
    if op == "matmul":
        return resolve.dense_problem(op, a, b, dtype) or WRONG
    # As the route is picked (``resolve._by_addend``), which spells it out again to be quick.
    n = b.shape[-1]
    if c.shape == (*a.shape[:-1], n):
        addend = "full"
    elif c.shape in ((n,), (1, n)):
        addend = "row"
    else:
        return "broadcast addends"
    if not all(type(factor) in (float, int) for factor in (alpha, beta)):
        return "factors that are no numbers"
    return resolve.dense_problem(op, a, b, dtype, addend) or WRONG


def of_quantized(
    x: Any, w: Any, scales: Any, biases: Any, transpose: Any, group_size: Any, bits: Any, mode: Any
) -> Problem | str:
    """The problem of a ``quantized_matmul``, or the reason why it is none."""
    dtype = x.dtype
    if x.ndim < 2:
        return "vectors"
    if 0 in (x.size, w.size):
        return WRONG
    if dtype not in NAMES:
        return str(dtype).rpartition(".")[2]
    if w.ndim != 2:
        return "batches of weights"
    problem = resolve.quantized_problem(x, w, dtype, transpose, group_size, bits, mode)
    if problem is None or problem.quantization is None:
        return "other quantizations"
    # As the route is picked (``resolve._quantized_by_dtype``).
    alike = scales.dtype == dtype and biases is not None and biases.dtype == dtype
    return problem if alike or not problem.quantization.has_biases else "mixed dtypes"


def note(product: Problem | str, gpu: bool, key: tuple[Any, ...]) -> None:
    """Keeps the first call of a key: its problem, or why it is none."""
    if isinstance(product, Problem):
        if len(SEEN) < MOST:
            SEEN[product, gpu] = None
    elif product != WRONG and len(OUTSIDE) < MOST:
        OUTSIDE[key] = product


def note_dense(op: str, a: mx.array, b: mx.array, c: Any, gpu: bool) -> None:
    """Notes a ``matmul`` or ``addmm``. Raises nothing: what cannot be noted, stock has something to say of."""
    with contextlib.suppress(Exception):
        note(of_dense(op, a, b, c), gpu, (op, a.shape, b.shape, a.itemsize))


def note_quantized(
    x: mx.array, w: mx.array, scales: Any, biases: Any, transpose: Any, group_size: Any, bits: Any, mode: Any, gpu: bool
) -> None:
    """Notes a ``quantized_matmul``. Raises nothing."""
    with contextlib.suppress(Exception):
        product = of_quantized(x, w, scales, biases, transpose, group_size, bits, mode)
        note(product, gpu, ("quantized_matmul", x.shape, w.shape, x.itemsize, bits, mode))


def forget() -> None:
    """Begins anew."""
    SEEN.clear()
    OUTSIDE.clear()
