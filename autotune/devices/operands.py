"""Operands of a problem, drawn at random, and weights in as many copies as keep them out of the cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from ..problem import Problem

MOST_SETS = 4096
"""Sets of weights at most: tiny ones would take seconds to make, and no more than 512 are used in one evaluation."""
DTYPES = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}


@dataclass(frozen=True)
class Operands:
    """A call's arrays: ``a`` is (M, K), or (B, M, K) with a batch; ``weights`` are (b,) or (w, scales[, biases])
    as the op takes them; ``c`` is the addend of ``addmm``."""

    a: mx.array
    weights: tuple[mx.array, ...]
    c: mx.array | None


def draw(problem: Problem, key: mx.array, corner: bool = False) -> Operands:
    """Fresh operands. Elements of A are standard normal; weights are scaled so that results are of order one, which
    keeps float16 within its range for every K that fits in memory.

    ``corner`` makes the first element of the result zero, which :func:`linked` needs. Results that are to be checked
    have no such gap: a route that forgets a column would go unseen there.
    """
    keys = mx.random.split(key, 3)
    dtype = DTYPES[problem.dtype]
    lead = (problem.batch,) if problem.batch > 1 else ()
    a_shape = (problem.m, problem.k) if problem.layout[0] == "n" else (problem.k, problem.m)
    a = mx.random.normal((*lead, *a_shape), key=keys[0]).astype(dtype)
    if problem.layout[0] == "t":
        a = mx.swapaxes(a, -1, -2)
    c = None
    if problem.op == "addmm":
        shape = (problem.n,) if problem.epilogue == "row" else (*lead, problem.m, problem.n)
        c = (mx.random.normal(shape, key=keys[2]) * _but_first(problem.n, int(corner), -1)).astype(dtype)
    operands = Operands(a, weights(problem, keys[1], corner), c)
    mx.eval(operands.a, *operands.weights, *(() if c is None else (c,)))
    return operands


def weights(problem: Problem, key: mx.array, corner: bool = False) -> tuple[mx.array, ...]:
    """One set of weights, random under ``key``; ``corner`` as in :func:`draw`.

    Quantized ones are random words with random scales, not a quantized random matrix: every pattern of bits is valid
    (mxfp8 aside, whose NaN patterns are avoided), and quantizing takes longer than all the timing.
    """
    dtype = DTYPES[problem.dtype]
    if problem.quantization is None:
        lead = (problem.batch,) if problem.batch > 1 else ()
        stored = (problem.n, problem.k) if problem.layout[1] == "t" else (problem.k, problem.n)
        n_axis = -2 if problem.layout[1] == "t" else -1
        b = mx.random.normal((*lead, *stored), key=key) * problem.k**-0.5 * _but_first(problem.n, int(corner), n_axis)
        b = b.astype(dtype)
        mx.eval(b)
        return (mx.swapaxes(b, -1, -2) if problem.layout[1] == "t" else b,)
    q = problem.quantization
    rows, columns = (problem.n, problem.k) if problem.layout == "nt" else (problem.k, problem.n)
    words, scales_key = mx.random.split(key, 2)
    w = _words((rows, columns * q.bits // 32), words)
    groups = (rows, columns // q.group_size)
    # Of weights packed along N, a whole first group is made zero: its columns share their scale.
    zeros = int(corner and not _one_group(problem))
    kept = _but_first(groups[0], zeros, -2) if problem.layout == "nt" else _but_first(groups[1], zeros, -1)
    size = problem.k**-0.5
    if q.mode == "affine":
        step = size / 2 ** (q.bits - 1)
        scales = (mx.random.uniform(0.5 * step, 1.5 * step, groups, key=scales_key) * kept).astype(dtype)
        biases = (scales * -(2 ** (q.bits - 1))).astype(dtype)
        return w, scales, biases
    first_words = zeros * q.group_size * q.bits // 32
    zero = _but_first(rows, zeros, -2) if problem.layout == "nt" else _but_first(w.shape[1], first_words, -1)
    w = mx.where(zero > 0, w, mx.zeros((), dtype=mx.uint32))
    if q.mode == "mxfp8":
        w = mx.bitwise_and(w, mx.array(0xB7B7B7B7, dtype=mx.uint32))  # exponents without their top bit: no NaN, small
    if q.mode == "nvfp4":  # e4m3 scales between 2^-6 and 2^-4
        scales = mx.random.randint(0x08, 0x18, groups, key=scales_key).astype(mx.uint8)
    else:  # e8m0 scales between 2^-8 and 2^-5
        scales = mx.random.randint(119, 123, groups, key=scales_key).astype(mx.uint8)
    return w, scales


def ring(problem: Problem, cache_bytes: int, most_bytes: int, key: mx.array) -> list[tuple[mx.array, ...]]:
    """Sets of weights to rotate through: together at least three times the last-level cache, two at least, so that a
    call's weights have left the cache when their turn comes again; no more than ``most_bytes`` together. They make the
    first element of the result zero (see :func:`linked`)."""
    one = problem.weight_bytes
    count = max(2, min(-(-3 * cache_bytes // one), most_bytes // one, MOST_SETS))
    first = weights(problem, key, corner=True)
    sets = [first]
    for _ in range(count - 1):
        copy = tuple(_copy(array, problem) for array in first)
        mx.eval(*copy)
        sets.append(copy)
    mx.eval(*first)
    return sets


def linked(problem: Problem, a: mx.array, out: mx.array) -> mx.array:
    """A again, but not before ``out`` is there.

    The operands make the first element of every result zero, and adding it changes nothing. One small kernel that
    keeps A's layout; ``mx.depends`` would order the graph's nodes and leave the GPU's kernels free to overlap. Where no
    column can be made zero, a select that always takes A does the same at a little more cost.
    """
    corner = out[(slice(1),) * out.ndim]
    if _one_group(problem):
        return mx.where(mx.array(False), corner, a)
    return a + mx.reshape(corner, (1,))


def _one_group(problem: Problem) -> bool:
    """Whether all columns of quantized weights share their scales, so that zeroing one would zero all."""
    q = problem.quantization
    return q is not None and problem.layout == "nn" and problem.n == q.group_size


def _words(shape: tuple[int, int], key: mx.array) -> mx.array:
    """Random uint32, by halves: MLX's ``randint`` goes through float32, whose 24 bits leave the low ones of 32 zero."""
    halves = mx.random.randint(0, 1 << 16, (2, *shape), mx.uint32, key=key)
    return mx.bitwise_or(mx.left_shift(halves[0], mx.array(16, mx.uint32)), halves[1])


def _but_first(length: int, zeros: int, axis: int) -> mx.array:
    """Ones but for the first ``zeros`` along one of the last two axes, shaped to broadcast there."""
    mask = (mx.arange(length) >= zeros).astype(mx.float32)
    return mask[:, None] if axis == -2 else mask


def _copy(array: mx.array, problem: Problem) -> mx.array:
    """The same values at another place in memory, in the same layout."""
    if problem.quantization is None and problem.layout[1] == "t":
        return mx.swapaxes(_copied(mx.swapaxes(array, -1, -2)), -1, -2)
    return _copied(array)


def _copied(array: mx.array) -> mx.array:
    return mx.where(mx.array(True), array, mx.zeros((), dtype=array.dtype))


def arguments(problem: Problem, a: mx.array, weight_set: tuple[mx.array, ...], c: mx.array | None) -> tuple[Any, ...]:
    """A call's arguments in the op's order; for quantized products all eight of them."""
    if problem.op == "matmul":
        return (a, *weight_set)
    if problem.op == "addmm":
        return (c, a, *weight_set)
    q = problem.quantization
    assert q is not None
    w, scales, *biases = weight_set
    return (
        a,
        w,
        scales,
        biases[0] if biases else None,
        problem.layout == "nt",
        q.group_size,
        q.bits,
        q.mode,
    )
