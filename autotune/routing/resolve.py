"""From a call's arguments to the callable that computes it: the slow path, taken once for each key of shapes.

MLX does not tell Python an array's strides, so a dense call cannot say whether B is a transposed view: it is looked up
in both layouts (:func:`autotune.routing.decision.of_call`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mlx.core as mx

from ..kernels import STOCK
from ..mlx_ops import ORIGINAL
from ..problem import DEFAULTS, MODES, Problem, Quantization
from . import ready
from .router import ROUTERS, Routed, warn_once

DTYPES = {mx.float32: "f32", mx.float16: "f16", mx.bfloat16: "bf16"}
"""The tuned dtypes, by MLX's."""


def safely(resolve: Callable[..., Any], stock: Any, *arguments: Any) -> Any:
    """What ``resolve`` finds, or stock: whatever is wrong with tables, folders or this machine, no call may raise."""
    try:
        return resolve(*arguments)
    except Exception as error:
        warn_once(f"no route can be looked up ({type(error).__name__}: {error}); stock is used")
        return stock


def dense(op: str, a: Any, b: Any, gpu: bool) -> Any:
    """The callable for a ``matmul`` or ``addmm`` of A and B with these shapes and A's item size."""
    stock = ORIGINAL[op]
    routed = {}
    for dtype in _dtypes_like(a):
        if op == "matmul":
            routed[dtype] = _agreed(dense_problem(op, a, b, dtype), gpu, stock)
        else:
            row, full = (_agreed(dense_problem(op, a, b, dtype, which), gpu, stock) for which in ("row", "full"))
            routed[dtype] = stock if row is stock and full is stock else _by_addend(row, full, stock)
    if all(run is stock for run in routed.values()):
        return stock
    return _matmul_by_dtype(routed, stock) if op == "matmul" else _addmm_by_dtype(routed, stock)


def quantized(x: Any, w: Any, transpose: Any, group_size: Any, bits: Any, mode: Any, gpu: bool) -> Any:
    """The callable for a ``quantized_matmul`` of x and w with these shapes and x's item size."""
    stock = ORIGINAL["quantized_matmul"]
    if 0 in (x.size, w.size):
        return empty
    routed = {}
    generation, quantization = ready.generation, None
    for dtype in _dtypes_like(x):
        problem = quantized_problem(x, w, dtype, transpose, group_size, bits, mode)
        if problem is not None:
            quantization = problem.quantization
            routed[dtype] = ROUTERS.op(problem, kind_of(gpu), stock)
    if quantization is None or all(run is stock for run in routed.values()):
        return stock
    groups = (w.shape[0], w.shape[1] * 32 // quantization.bits // quantization.group_size)
    return _quantized_by_dtype(routed, stock, groups, quantization.has_biases, generation)


def kind_of(gpu: bool) -> str:
    """MLX's name of the device kind."""
    return "gpu" if gpu else "cpu"


def empty(*args: Any, stream: Any = None) -> mx.array:
    """A quantized product of nothing: stock checks the arguments and infers the shape and is never evaluated. A product
    over no K at all is zero."""
    out = ORIGINAL["quantized_matmul"](*args, stream=stream)
    return mx.zeros(out.shape, out.dtype, stream=stream)


def dense_problem(op: str, a: Any, b: Any, dtype: mx.Dtype, epilogue: str = "") -> Problem | None:
    """The problem of a dense call, with layout ``nt`` standing for either, or None where it goes to stock untouched."""
    if a.ndim < 2 or b.ndim < 2:
        return None
    if 0 in (a.size, b.size) or a.shape[-1] != b.shape[-2]:
        return None
    m, k, n, batch = a.shape[-2], a.shape[-1], b.shape[-1], 1
    if b.ndim == 2:
        m = a.size // k
    elif a.shape[:-2] == b.shape[:-2]:
        batch = math.prod(b.shape[:-2])
    else:
        return None
    return Problem(op, m, n, k, DTYPES[dtype], "nt", None, batch, epilogue)


def quantized_problem(
    x: Any, w: Any, dtype: mx.Dtype, transpose: Any, group_size: Any, bits: Any, mode: Any
) -> Problem | None:
    """The problem of a quantized call, or None where it goes to stock untouched."""
    if mode not in MODES or x.ndim < 2 or w.ndim != 2:
        return None
    bits = DEFAULTS[mode][0] if bits is None else bits
    group_size = DEFAULTS[mode][1] if group_size is None else group_size
    if bits not in MODES[mode][0] or group_size not in MODES[mode][1]:
        return None
    columns = w.shape[1] * 32 // bits
    k, n = (columns, w.shape[0]) if transpose else (w.shape[0], columns)
    if x.shape[-1] != k or columns % group_size:
        return None
    quantization = Quantization(mode, bits, group_size)
    return Problem("quantized_matmul", x.size // k, n, k, DTYPES[dtype], "nt" if transpose else "nn", quantization)


def _dtypes_like(a: mx.array) -> list[mx.Dtype]:
    """The tuned dtypes of A's item size: a later call with this key may have any of them."""
    return [dtype for dtype in DTYPES if dtype.size == a.itemsize]


def _agreed(problem: Problem | None, gpu: bool, stock: Any) -> Any:
    """The route on which the layouts of the problem agree (:func:`autotune.routing.decision.of_call`), else stock."""
    if problem is None or not ROUTERS.on:
        return stock
    taken = ROUTERS.of(kind_of(gpu)).call(problem)
    return stock if taken.route == STOCK else ROUTERS.op(taken.problem, kind_of(gpu), stock)


def _matmul_by_dtype(routed: dict[mx.Dtype, Any], stock: Any) -> Any:
    def matmul(a: Any, b: Any, *, stream: Any) -> Any:
        dtype = a.dtype
        run = routed.get(dtype, stock) if b.dtype == dtype else stock
        return run(a, b, stream=stream)

    return matmul


def _addmm_by_dtype(routed: dict[mx.Dtype, Any], stock: Any) -> Any:
    def addmm(c: Any, a: Any, b: Any, alpha: Any, beta: Any, *, stream: Any) -> Any:
        dtype = a.dtype
        alike = isinstance(c, mx.array) and c.dtype == dtype and b.dtype == dtype
        plain = type(alpha) in (float, int) and type(beta) in (float, int)
        run = routed.get(dtype, stock) if alike and plain else stock
        return run(c, a, b, alpha, beta, stream=stream)

    return addmm


def _by_addend(row: Any, full: Any, stock: Any) -> Any:
    """Picks between the routes for an addend of one row and of all rows; any other addend goes to stock."""

    def addmm(c: Any, a: Any, b: Any, alpha: Any, beta: Any, *, stream: Any) -> Any:
        run, n = stock, b.shape[-1]
        if c.shape == (*a.shape[:-1], n):
            run = full
        elif c.shape in ((n,), (1, n)):
            run = row
        return run(c, a, b, alpha, beta, stream=stream)

    return addmm


def _quantized_by_dtype(
    routed: dict[mx.Dtype, Any], stock: Any, groups: tuple[int, int], has_biases: bool, generation: int
) -> Any:
    """Picks the route by x's dtype; a call whose scales and biases are not what the op wants goes to stock, which
    refuses them or promotes the result. Affine scales have to be of x's dtype, the other modes' are uint8."""

    def quantized_matmul(
        x: Any, w: Any, scales: Any, biases: Any, transpose: Any, group_size: Any, bits: Any, mode: Any, *, stream: Any
    ) -> Any:
        dtype = x.dtype
        run = routed.get(dtype, stock)
        plain = type(transpose) is bool and type(bits) is not float and type(group_size) is not float
        fits = plain and w.dtype == mx.uint32 and isinstance(scales, mx.array) and scales.shape == groups
        if fits and has_biases:
            fits = isinstance(biases, mx.array) and biases.shape == groups and scales.dtype == dtype == biases.dtype
        elif fits:
            fits = biases is None and scales.dtype == mx.uint8
        if not fits:
            run = stock
        out = run(x, w, scales, biases, transpose, group_size, bits, mode, stream=stream)
        if stream is None and isinstance(run, Routed) and run.ready is not None:
            launch = run.ready(x.shape, w.shape)
            if launch is not None:
                ready.remember(generation, x, w, scales, biases, (transpose, group_size, bits, mode), launch)
        return out

    return quantized_matmul
