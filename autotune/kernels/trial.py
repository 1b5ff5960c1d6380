"""The first try of a kernel on this machine: one small product, against one that MLX computes on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy
from typing import Any

import mlx.core as mx

from ..mlx_ops import ORIGINAL
from ..problem import LAYOUTS, Problem
from .base import Op
from .program import DTYPES

TRIED: set[tuple[Any, ...]] = set()
"""What has passed in this process."""
FAILED: dict[tuple[Any, ...], Exception] = {}
"""What has failed in this process, with what was raised: a program that a compiler refuses, which may take it seconds,
is refused again."""
MOMENTARY = ("alloc", "out of memory", "no space left")
"""What MLX says of a want of memory or disk, in a RuntimeError: another time there may be enough."""
M, N, K = 69, 96, 256
"""Shape of the product on which a config is tried: whole tiles and a rest in M, whole groups in K. Weights that are
quantized along N are square, since their groups have to be whole there."""
FARTHEST = {"f32": 1e-3, "f16": 0.05, "bf16": 0.3}
"""Largest difference from the float32 product over its root mean square at which a compiled kernel passes its first
try: about ten times what rounding the result gives, far below what a wrong index does."""


def once(what: tuple[Any, ...], build: Callable[[], Op], problem: Problem) -> None:
    """Tries what ``build`` makes, unless ``what``, which stands for it, was tried on a problem of this kind before.

    Raises what MLX or its compiler raises, and :class:`ArithmeticError` where the result is wrong; the same again,
    without another try, where ``what`` has failed on a problem of this kind before.
    """
    batched = problem.batch > 1
    kind = (problem.op, problem.dtype, problem.layout, problem.quantization, problem.epilogue, batched)
    if (what, kind) in FAILED:
        raise _afresh(FAILED[what, kind])
    if (what, kind) not in TRIED:
        try:
            _small_product(build(), problem)
        except (OSError, MemoryError):  # the machine's trouble of that moment, and no fault of the program
            raise
        except Exception as error:
            if not any(words in str(error).lower() for words in MOMENTARY):
                FAILED[what, kind] = _afresh(error)
            raise
        TRIED.add((what, kind))


def _afresh(error: Exception) -> Exception:
    """The same error without a traceback: one that is kept would keep the frames of the program that called, and the
    arrays in them, alive."""
    try:
        return copy(error)
    except TypeError:  # its class wants other arguments than it keeps
        return RuntimeError(str(error))


def _small_product(op: Op, problem: Problem) -> None:
    """One small product through ``op``, against MLX's float32 product on the CPU: the stock kernel of the device is no
    reference, since some were wrong (``addmm`` on M5, ml-explore/mlx #3422). A dense call may have any layout, whatever
    the problem says, so all of them are tried."""
    for layout in LAYOUTS if problem.quantization is None else (problem.layout,):
        _in_layout(op, problem, layout)


def _in_layout(op: Op, problem: Problem, layout: str) -> None:
    dtype, key = DTYPES[problem.dtype], mx.random.key(0)
    keys = mx.random.split(key, 3)
    lead = () if problem.batch == 1 else (2,)
    stream = mx.gpu if mx.metal.is_available() else None  # wherever the program's default device is
    a = mx.random.normal((*lead, M, K), key=keys[0]).astype(dtype)
    if layout[0] == "t":
        a = _turned(a)
    wide = a.astype(mx.float32)
    cpu = mx.cpu
    if problem.quantization is not None:
        q, across = problem.quantization, problem.layout == "nt"
        stored = mx.random.normal((N, K) if across else (K, K), key=keys[1])
        packed = mx.quantize(stored.astype(dtype), group_size=q.group_size, bits=q.bits, mode=q.mode, stream=cpu)
        biases = packed[2] if len(packed) > 2 else None
        out = op(a, packed[0], packed[1], biases, across, q.group_size, q.bits, q.mode, stream=stream)
        exact = mx.dequantize(*packed, group_size=q.group_size, bits=q.bits, mode=q.mode, stream=cpu)
        exact = exact.astype(mx.float32, stream=cpu)
        b = mx.swapaxes(exact, 0, 1) if across else exact
    else:
        b = mx.random.normal((*lead, K, N), key=keys[1]).astype(dtype)
        if layout[1] == "t":
            b = _turned(b)
        out = op(a, b, stream=stream) if problem.op == "matmul" else None
    expected = ORIGINAL["matmul"](wide, b.astype(mx.float32), stream=cpu)
    if problem.op == "addmm":
        shape = (N,) if problem.epilogue == "row" else (*lead, M, N)
        c = mx.random.normal(shape, key=keys[2]).astype(dtype)
        out = op(c, a, b, 0.5, 2.0, stream=stream)
        expected = 0.5 * expected + 2.0 * c.astype(mx.float32)
    mx.eval(out, expected)
    if out.shape != expected.shape or out.dtype != dtype or reach(out, expected) > FARTHEST[problem.dtype]:
        raise ArithmeticError("its result on a first small product is wrong")


def _turned(array: mx.array) -> mx.array:
    """The same matrix, its columns contiguous."""
    return mx.swapaxes(mx.contiguous(mx.swapaxes(array, -1, -2)), -1, -2)


def reach(values: mx.array, expected: mx.array) -> float:
    """Largest difference over the root mean square of what is expected."""
    wide, other = values.astype(mx.float32), expected.astype(mx.float32)
    scale = mx.maximum(mx.sqrt(mx.mean(mx.square(other))), 1e-30)
    largest: Any = (mx.max(mx.abs(wide - other)) / scale).item()
    return float(largest) if math.isfinite(largest) else math.inf
