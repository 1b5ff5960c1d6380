"""A case's arrays, drawn at random and laid out as its variant says, with the float64 reference beside them.

Values are drawn and rounded to the dtype by NumPy and handed to MLX bit by bit, so that none of the arithmetic under
test has touched them. Everything in a buffer that is not the array itself is NaN (words of ones in packed weights).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import mlx.core as mx
import numpy as np

from ..problem import Problem, Quantization
from . import operands, reference
from .bounds import FLUSHED, Magnitudes
from .cases import Case
from .reference import Doubles

LARGEST_CODE = {"affine": 255.0, "mxfp4": 6.0, "nvfp4": 6.0, "mxfp8": 448.0}
"""Largest magnitude of an element before its scale."""
_LARGE = {False: 100.0, True: 1e4}
"""Size of x in the variant ``large``, for dense weights (all positive) and packed ones (of either sign)."""


@dataclass(frozen=True)
class Specimen:
    """Arguments of one call as the op takes them, and what must come out: ``reference`` (..., M, N), with the
    magnitudes that bound the error."""

    arguments: tuple[Any, ...]
    reference: Doubles
    magnitudes: Magnitudes


@lru_cache(maxsize=64)
def specimen(case: Case, seed: int) -> Specimen:
    """The case's inputs under a seed: equal for equal case and seed on every machine."""
    rng = np.random.default_rng([seed & 0xFFFFFFFF, zlib.crc32(str(case).encode())])
    p = case.problem
    a = _draw_a(case, rng)
    if p.quantization is None:
        b, drawn = _dense_b(case, a, rng)
        magnitude, code = np.abs(b), 1.0
        weights: tuple[mx.array, ...] = (drawn,)
    else:
        b, magnitude, weights = _quantized_b(case, a, p.quantization, rng)
        code = LARGEST_CODE[p.quantization.mode]
    c = _draw_c(case, rng)
    x = _lay(_matrix_like(a, p.layout[0]), p, _form(case), swap=p.layout[0] == "t", first=True)
    arguments = operands.arguments(p, x, weights, None if c is None else _lay_c(c, case))
    if p.op == "addmm":
        arguments = (*arguments, case.alpha, case.beta)
    mx.eval([array for array in arguments if isinstance(array, mx.array)])
    with np.errstate(invalid="ignore", over="ignore"):
        expected, sizes = case.alpha * (a @ b), np.abs(a)
        addend: Doubles = np.zeros(1)
        if c is not None and case.beta:
            expected, addend = expected + case.beta * c, np.abs(c)
        tiny = FLUSHED * (code * sizes.sum(-1, keepdims=True) + np.abs(b).sum(-2, keepdims=True) + p.k)
        magnitudes = Magnitudes(sizes @ magnitude, sizes @ np.abs(b), addend, tiny)
    return Specimen(arguments, expected, magnitudes)


def rounded(values: Doubles, dtype: str) -> Doubles:
    """The nearest numbers of the dtype, as float64."""
    return _decode(_encode(values, dtype), dtype)


def doubles(array: mx.array) -> Doubles:
    """An evaluated array's values, exactly."""
    if array.dtype == mx.bfloat16:
        return _decode(np.array(array.view(mx.uint16)), "bf16")
    return np.array(array).astype(np.float64)


def _encode(values: Doubles, dtype: str) -> Any:
    """float32, float16, or the 16 bits of bfloat16, rounded to nearest, ties to even."""
    with np.errstate(over="ignore"):
        if dtype == "f16":
            return values.astype(np.float16)
        single = values.astype(np.float32)
    if dtype == "f32":
        return single
    bits = single.view(np.uint32)
    upper = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(single), 0x7FC0, upper).astype(np.uint16)


def _decode(encoded: Any, dtype: str) -> Doubles:
    if dtype == "bf16":
        encoded = (encoded.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(encoded.astype(np.float64))


def _to_mlx(encoded: Any, dtype: str) -> mx.array:
    return mx.array(encoded).view(mx.bfloat16) if dtype == "bf16" else mx.array(encoded)


def _draw_a(case: Case, rng: np.random.Generator) -> Doubles:
    """A as the product needs it: (*lead, M, K), (batch, M, K) or (M, K)."""
    p = case.problem
    shape = (*case.lead, p.m // int(np.prod(case.lead)), p.k) if case.lead else (*_batch(p), p.m, p.k)
    a: Doubles = rng.standard_normal(shape)
    if case.variant == "broadcast":
        a = np.broadcast_to(a[..., :1, :], shape)
    elif case.variant == "special":
        a = _with_specials(a, rng)
    elif case.variant == "zeros":
        a[..., ::2, :] = 0.0
    elif case.variant == "subnormal" and p.quantization is None:
        a = np.where(rng.random(shape) < 0.5, a, a * _subnormal(p.dtype))
    elif case.variant == "large":
        a = _LARGE[p.quantization is not None] * rng.uniform(1, 2, shape)
    return rounded(a, p.dtype)


def _with_specials(a: Doubles, rng: np.random.Generator) -> Doubles:
    """Every third row gets an infinity of either sign or a NaN, the first of them in its last element: a tail of K that
    is not read, or is read twice, shows."""
    rows = a.reshape(-1, a.shape[-1])
    for number, row in enumerate(range(0, len(rows), 3)):
        at = -1 if number == 0 else int(rng.integers(a.shape[-1]))
        rows[row, at] = (np.inf, np.nan, -np.inf)[(number + int(rng.integers(3))) % 3]
    return rows.reshape(a.shape)


def _dense_b(case: Case, a: Doubles, rng: np.random.Generator) -> tuple[Doubles, mx.array]:
    """B (..., K, N) and its array. ``large`` makes both halves of K cancel but for the first element of each row of A,
    which it changes in place."""
    p = case.problem
    b: Doubles = rng.standard_normal((*_batch(p), p.k, p.n)) * p.k**-0.5
    if case.variant == "zeros":
        b[..., ::2] = 0.0
    elif case.variant == "subnormal":
        b = b * p.k**0.5
    elif case.variant == "large":
        b = rng.uniform(50, 100, b.shape)
    b = rounded(b, p.dtype)
    if case.variant == "large":
        half = p.k // 2
        b[..., half : 2 * half, :] = b[..., :half, :]
        _cancel(a, half, p.dtype)
    swap = (p.layout[1] == "t") != (case.variant == "crossed")
    return b, _lay(_matrix_like(b, "t" if swap else "n"), p, _form(case), swap)


def _cancel(a: Doubles, half: int, dtype: str) -> None:
    """Makes the second half of A's columns the first one's negative, whatever is left over zero; then lifts the first
    column, so that the sum is not zero."""
    a[..., half : 2 * half] = -a[..., :half]
    a[..., 2 * half :] = 0.0
    a[..., 0] = rounded(a[..., 0] * 1.0625, dtype)


def _quantized_b(
    case: Case, a: Doubles, q: Quantization, rng: np.random.Generator
) -> tuple[Doubles, Doubles, tuple[mx.array, ...]]:
    """B (K, N) in float64, the magnitudes that its terms are added up from, and the packed arrays."""
    p = case.problem
    rows, columns = (p.n, p.k) if p.layout == "nt" else (p.k, p.n)
    groups = columns // q.group_size
    words = rng.integers(0, 1 << 32, (rows, columns * q.bits // 32), dtype=np.uint32)
    if q.mode == "mxfp8":
        words &= np.uint32(0xB7B7B7B7)  # exponents without their top bit: no NaN among the codes
    scales, biases = _scales(case, q, (rows, groups), rng)
    if case.variant == "large":
        # Both halves of K alike: groups of a row where K is the packed axis, rows where it is not.
        half = groups // 2 * q.group_size if p.layout == "nt" else p.k // 2
        for array in (words, scales, *(() if biases is None else (biases,))):
            if p.layout == "nt":
                part = array.shape[1] // groups * (groups // 2)
                array[:, part : 2 * part] = array[:, :part]
            else:
                array[half : 2 * half] = array[:half]
        if half:
            _cancel(a, half, p.dtype)
        else:
            a[...] = rounded(a / _LARGE[True], p.dtype)
    values = [None if each is None else _decode(each, p.dtype) for each in (scales, biases)]
    if q.mode != "affine":
        stored = reference.dequantize(words, scales, None, q)
        sizes = np.abs(stored)
    else:
        stored = reference.dequantize(words, values[0], values[1], q)  # type: ignore[arg-type]
        sizes = reference.dequantize(words, np.abs(values[0]), np.abs(values[1]), q)  # type: ignore[arg-type]
    form = _form(case) if case.variant in ("offset", "surrounded") else "plain"
    arrays: tuple[mx.array, ...] = (_laid_words(words, form), _laid_scales(scales, p.dtype, q, form))
    if biases is not None:
        arrays = (*arrays, _laid_scales(biases, p.dtype, q, form))
    return (stored.T, sizes.T, arrays) if p.layout == "nt" else (stored, sizes, arrays)


def _scales(case: Case, q: Quantization, shape: tuple[int, int], rng: np.random.Generator) -> tuple[Any, Any]:
    """Scales and biases as they are stored, so that weights are of the order K^-1/2: those of floating-point modes are
    bytes, E8M0 or E4M3."""
    p = case.problem
    size = p.k**-0.5 * (16 if case.variant == "large" else 1)
    small = rng.random(shape) < 0.5 if case.variant == "subnormal" else np.zeros(shape, bool)
    zero = np.zeros(shape, bool)
    if case.variant == "zeros":
        zero[::2, ::2] = True
    if q.mode == "affine":
        step = size / 2 ** max(q.bits - 1, 0)
        scales = rng.uniform(0.5 * step, 1.5 * step, shape) * np.where(small, _subnormal(p.dtype) / step, 1.0)
        scales = np.where(zero, 0.0, scales)
        biases = scales * -(2 ** (q.bits - 1)) * rng.uniform(0.8, 1.2, shape)
        return _encode(scales, p.dtype), _encode(biases, p.dtype)
    exponent = int(np.round(np.log2(size)))
    if q.mode == "nvfp4":  # E4M3: 7 is the bias; codes below 8 are subnormal
        codes = (7 + max(exponent - 2, -6)) * 8 + rng.integers(0, 12, shape)
        return np.where(zero, 0, np.where(small, codes % 8, codes)).astype(np.uint8), None
    largest = 2 if q.mode == "mxfp4" else 4
    codes = 127 + exponent - largest + rng.integers(-1, 2, shape)
    return np.where(zero | small, rng.integers(0, 2, shape), codes).astype(np.uint8), None


def _draw_c(case: Case, rng: np.random.Generator) -> Doubles | None:
    """The addend: (N,) or of the result's shape; NaN where beta says that it is not read."""
    p = case.problem
    if p.op != "addmm":
        return None
    shape: tuple[int, ...] = (p.n,)
    if p.epilogue == "full":
        shape = (*case.lead, p.m // int(np.prod(case.lead)), p.n) if case.lead else (*_batch(p), p.m, p.n)
    if case.beta == 0:
        return np.full(shape, np.nan)
    c: Doubles = rng.standard_normal(shape)
    if case.variant == "broadcast" and p.epilogue == "full":
        c = np.broadcast_to(c[..., :1, :], shape)
    return rounded(c, p.dtype)


def _batch(problem: Problem) -> tuple[int, ...]:
    return (problem.batch,) if problem.batch > 1 else ()


def _subnormal(dtype: str) -> float:
    """A size at which numbers of the dtype are subnormal."""
    return 2.0**-18 if dtype == "f16" else 2.0**-129


def _form(case: Case) -> str:
    return case.variant if case.variant in ("transposed", "strided", "offset", "surrounded", "broadcast") else "plain"


def _matrix_like(values: Doubles, letter: str) -> Doubles:
    """The matrix as it is stored: ``t`` is the transpose."""
    return values if letter == "n" else np.swapaxes(values, -1, -2)


def _lay(stored: Doubles, problem: Problem, form: str, swap: bool, first: bool = False) -> mx.array:
    """An array of ``stored``'s values, swapped back where it is stored as the transpose; ``first`` for x and a whole c,
    which alone are strided, transposed and broadcast."""
    if form in ("transposed", "strided", "broadcast") and not first:
        form = "plain"
    if form == "transposed":
        stored, swap = np.swapaxes(stored, -1, -2), not swap
    if form == "broadcast" and swap:
        stored, swap = np.swapaxes(stored, -1, -2), False
    if form == "broadcast":
        row = _to_mlx(np.ascontiguousarray(_encode(stored[..., :1, :], problem.dtype)), problem.dtype)
        array = mx.broadcast_to(row, stored.shape)
    else:
        encoded = _encode(np.ascontiguousarray(stored), problem.dtype)
        array = _placed(encoded, problem.dtype, _encode(np.array(np.nan), problem.dtype), form)
    return mx.swapaxes(array, -1, -2) if swap else array


def _placed(encoded: Any, dtype: str, outside: Any, form: str) -> mx.array:
    """The values in a buffer that holds ``outside`` around them."""
    *lead, rows, columns = encoded.shape
    if form == "strided":
        wide = np.full((*lead, rows, 2 * columns), outside, encoded.dtype)
        wide[..., ::2] = encoded
        return _to_mlx(wide, dtype)[..., ::2]
    if form == "offset":
        flat = np.full(encoded.size + 8, outside, encoded.dtype)
        flat[3 : 3 + encoded.size] = encoded.ravel()
        return mx.reshape(_to_mlx(flat, dtype)[3 : 3 + encoded.size], encoded.shape)
    if form == "surrounded":
        block = np.full((*lead, rows + 3, columns + 5), outside, encoded.dtype)
        block[..., 1 : 1 + rows, 3 : 3 + columns] = encoded
        return _to_mlx(block, dtype)[..., 1 : 1 + rows, 3 : 3 + columns]
    return _to_mlx(encoded, dtype)


def _laid_words(words: Any, form: str) -> mx.array:
    """Packed weights: their views start at whole rows, as those of a slice of a model's weights do."""
    return _rows_of(words, "f32", np.uint32(0xFFFFFFFF), form)


def _laid_scales(scales: Any, dtype: str, q: Quantization, form: str) -> mx.array:
    if q.mode != "affine":
        return _rows_of(scales, "f32", np.uint8(0xFF), form)
    return _rows_of(scales, dtype, _encode(np.array(np.nan), dtype), form)


def _rows_of(encoded: Any, dtype: str, outside: Any, form: str) -> mx.array:
    if form != "offset":
        return _placed(encoded, dtype, outside, form)
    rows, columns = encoded.shape
    taller = np.full((rows + 3, columns), outside, encoded.dtype)
    taller[1 : 1 + rows] = encoded
    return _to_mlx(taller, dtype)[1 : 1 + rows]


def _lay_c(c: Doubles, case: Case) -> mx.array:
    p = case.problem
    form = _form(case)
    if c.ndim == 1:
        encoded = _encode(c, p.dtype)
        if form == "surrounded":  # one row of a matrix: (1, N)
            return _placed(encoded[None, :], p.dtype, _encode(np.array(np.nan), p.dtype), form)
        flat = "offset" if form == "offset" else "strided" if form == "strided" else "plain"
        placed = _placed(encoded[None, :], p.dtype, _encode(np.array(np.nan), p.dtype), flat)
        return mx.reshape(placed, (p.n,)) if flat != "strided" else placed[0]
    return _lay(c, p, form, swap=False, first=True)
