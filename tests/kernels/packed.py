"""Quantized products for the tests of the Metal families: inputs, float64 results, and how far from them one may be."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from autotune.devices import operands, reference
from autotune.kernels.base import Config, Kernel
from autotune.kernels.program import Launch
from autotune.problem import Problem

UNIT_ROUNDOFF = {"f32": 2.0**-24, "f16": 2.0**-11, "bf16": 2.0**-8}
SMALLEST = {"f32": 2.0**-126, "f16": 2.0**-14, "bf16": 2.0**-126}
"""The least normal number of each dtype: below it, rounding errors are absolute."""
QUANTIZATIONS = (
    *(f"affine-b{bits}-g{group}" for bits in (2, 3, 4, 5, 6, 8) for group in (32, 64, 128)),
    "mxfp4-b4-g32",
    "nvfp4-b4-g16",
    "mxfp8-b8-g32",
)
"""All that the Metal families serve."""


@dataclass(frozen=True)
class Product:
    """One call's arrays, its exact result (M, N), and the most that the result may be off, element by element.

    With S = |x| (|scale| code + |bias|), summed over K: float32 sums in any order are off by no more than K 2^-24 S
    (Higham, Accuracy and Stability of Numerical Algorithms, section 4.2); a few more roundings make a weight. Rounding
    the result to the dtype adds its unit roundoff of the result; rounding each weight to the dtype first, as MLX's own
    tiled kernels do, adds its unit roundoff of the sum of |x| |w|.
    """

    problem: Problem
    x: mx.array
    weights: tuple[mx.array, ...]
    exact: np.ndarray
    bound: np.ndarray

    def arguments(self, x: mx.array | None = None) -> tuple[object, ...]:
        return operands.arguments(self.problem, self.x if x is None else x, self.weights, None)

    def check(self, y: mx.array, lead: tuple[int, ...] | None = None) -> None:
        """Asserts shape, dtype and every element; ``lead`` are the leading axes into which the rows were split."""
        assert y.dtype == self.x.dtype
        assert y.shape == (*(lead or (self.problem.m,)), self.problem.n)
        over = np.abs(doubles(y).reshape(self.exact.shape) - self.exact) / self.bound
        assert over.max() <= 1, (str(self.problem), np.unravel_index(over.argmax(), over.shape), over.max())


def product(text: str, rounds_weights: bool = False, seed: int = 0) -> Product:
    """Random inputs of a problem: every pattern of bits is among the weights (of E4M3 codes, the finite half)."""
    problem = Problem.parse(text)
    drawn = operands.draw(problem, mx.random.key(zlib.crc32(str(problem).encode()) + seed))
    return of(problem, drawn.a, drawn.weights, rounds_weights)


def of(problem: Problem, x: mx.array, weights: tuple[mx.array, ...], rounds_weights: bool = False) -> Product:
    """The product of given inputs, x of two axes."""
    w, scales, *biases = weights
    affine = problem.quantization.has_biases
    wide = [doubles(array) if affine else np.array(array) for array in (scales, *biases)]
    b = _across(reference.dequantize(np.array(w), wide[0], wide[1] if affine else None, problem.quantization), problem)
    size = np.abs(b)
    if affine:
        parts = reference.dequantize(np.array(w), np.abs(wide[0]), np.abs(wide[1]), problem.quantization)
        size = _across(parts, problem)
    a = doubles(x)
    u, smallest = UNIT_ROUNDOFF[problem.dtype], SMALLEST[problem.dtype]
    exact = a @ b
    bound = (problem.k + 8) * UNIT_ROUNDOFF["f32"] * (np.abs(a) @ size) + u * np.maximum(np.abs(exact), smallest)
    if rounds_weights:
        bound += u * (np.abs(a) @ np.maximum(np.abs(b), smallest))
    return Product(problem, x, weights, exact, 1.01 * bound)


def _across(stored: np.ndarray, problem: Problem) -> np.ndarray:
    """Stored weights as the (K, N) matrix of the product."""
    return stored.T if problem.layout == "nt" else stored


def doubles(array: mx.array) -> np.ndarray:
    return np.array(array.astype(mx.float32)).astype(np.float64)


def config(kernel: Kernel, text: str) -> Config:
    """A config of the kernel from its values in order, as in ``4 4 2 1 16 0``."""
    values: list[int | str] = [int(word) for word in text.split()]
    if "math" in kernel.parameters:
        values.append("safe")
    assert len(values) == len(kernel.parameters)
    return dict(zip(kernel.parameters, values))


class Recorder:
    """A runner that computes nothing and keeps what it was asked for."""

    def __init__(self) -> None:
        self.launches: list[Launch] = []

    def __call__(self, asked: Launch) -> list[mx.array]:
        self.launches.append(asked)
        return [mx.zeros(shape, dtype) for shape, dtype in zip(asked.shapes, asked.dtypes)]
