"""Float64 references, computed with NumPy alone: nothing of MLX's arithmetic checks MLX's arithmetic.

Packed weights are unpacked here from their bits. Formats: affine as in ``mx.quantize``'s documentation, a little-endian
stream of b-bit integers q with w = scale * q + bias; FP4 (E2M1) and FP8 (E4M3) elements with E8M0 scales as in the OCP
Microscaling Formats specification 1.0, and NVFP4's E4M3 scales.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..problem import Problem, Quantization

Doubles = npt.NDArray[np.float64]

MOST_ROWS = 96
MOST_COLUMNS = 256


@dataclass(frozen=True)
class Sample:
    """Rows and columns of the result that the reference covers: the edges, where ragged tiles go wrong, and a random
    choice of the rest."""

    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]


def sample(problem: Problem, rng: np.random.Generator) -> Sample:
    """Which elements to compute in float64; columns come in whole groups for weights quantized along N."""
    block = 1
    if problem.quantization and problem.layout == "nn":
        block = problem.quantization.group_size
    blocks = _choice(problem.n // block, max(2, MOST_COLUMNS // block), rng)
    columns = (blocks[:, None] * block + np.arange(block)).ravel()
    return Sample(_choice(problem.m, MOST_ROWS, rng), columns)


def _choice(length: int, most: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    if length <= most:
        return np.arange(length)
    edge = max(1, most // 3)
    middle = rng.choice(np.arange(edge, length - edge), size=most - 2 * edge, replace=False)
    return np.concatenate([np.arange(edge), np.sort(middle), np.arange(length - edge, length)])


def product(a: Doubles, b: Doubles, c: Doubles | None) -> Doubles:
    """A (..., M, K) times B (..., K, N), plus C."""
    out = a @ b
    return out if c is None else out + c


def dequantize(
    words: npt.NDArray[np.uint32], scales: np.ndarray, biases: Doubles | None, quantization: Quantization
) -> Doubles:
    """Packed (rows, columns * bits / 32) words to (rows, columns) values.

    ``scales`` are float64 for affine, and the raw uint8 for the other modes.
    """
    codes = unpack(words, quantization.bits)
    grouped = codes.reshape(codes.shape[0], -1, quantization.group_size)
    if quantization.mode == "affine":
        assert biases is not None
        values = grouped * scales[..., None] + biases[..., None]
    else:
        elements = _E4M3 if quantization.bits == 8 else _E2M1
        scale = _E4M3[scales] if quantization.mode == "nvfp4" else np.exp2(scales.astype(np.float64) - 127)
        values = elements[grouped] * scale[..., None]
    return values.reshape(codes.shape)


def unpack(words: npt.NDArray[np.uint32], bits: int) -> npt.NDArray[np.int64]:
    """(rows, words) to (rows, words * 32 / bits) unsigned integers, least significant bits first."""
    stream = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")
    fields = stream.reshape(words.shape[0], -1, bits).astype(np.int64)
    return fields @ (1 << np.arange(bits))


def _minifloat(exponent_bits: int, mantissa_bits: int) -> Doubles:
    """The values of all codes of a signed minifloat with the usual bias and subnormals, NaNs read as numbers."""
    width = 1 + exponent_bits + mantissa_bits
    codes = np.arange(1 << width)
    sign = np.where(codes >> (width - 1), -1.0, 1.0)
    exponent = (codes >> mantissa_bits) & ((1 << exponent_bits) - 1)
    mantissa = codes & ((1 << mantissa_bits) - 1)
    bias = (1 << (exponent_bits - 1)) - 1
    normal = (1 + mantissa / (1 << mantissa_bits)) * np.exp2(exponent - float(bias))
    subnormal = mantissa / (1 << mantissa_bits) * np.exp2(1.0 - bias)
    return sign * np.where(exponent == 0, subnormal, normal)


_E2M1 = _minifloat(2, 1)
_E4M3 = _minifloat(4, 3)
