"""What error a product may have, element by element, from what a kernel does with its numbers.

The bounds are worst cases, so that no draw of inputs makes a right kernel fail. For a sum of n products in float32, in
whatever order it is added up, |error| <= n u |a| |b| to first order, with u = 2^-24 the unit roundoff (Higham,
*Accuracy and Stability of Numerical Algorithms*, 2nd ed., section 3.1). Here |a| |b| is a product of magnitudes.
Rounding a number to a type with unit roundoff u changes it by u times itself at most (section 2.2), or by half of the
smallest subnormal number. An affine weight is scale * q + bias, and a kernel
may add up scale * q and bias apart from each other, so its magnitude is |scale| q + |bias|.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..problem import Problem
from .reference import Doubles

UNIT_ROUNDOFF = {"f32": 2.0**-24, "f16": 2.0**-11, "bf16": 2.0**-8}
LARGEST = {"f32": 2.0**128 - 2.0**104, "f16": 65504.0, "bf16": 2.0**128 - 2.0**120}
SMALLEST = {"f32": 2.0**-149, "f16": 2.0**-24, "bf16": 2.0**-133}
"""The smallest subnormal number of each type."""
STEPS = 8
"""Roundings that a product may meet besides the K of the sum: the weight's scale and bias, the sums' last join, alpha,
beta and the addend."""
FLUSHED = 2.0**-126
"""Below this, a float32 (or bfloat16) number may be taken for zero: GPUs may flush subnormal float32 numbers (Metal
Shading Language Specification, "INF, NaN, and Denormalized Numbers"); it speaks of no other type."""
ANYTHING = ("x", "weights", "partials")
"""What a composition of stock ops may round to the op's dtype on the way."""


@dataclass(frozen=True)
class Magnitudes:
    """What the bound of each element of a (..., M, N) result depends on, of the operands' magnitudes.

    ``terms`` is |a| times the magnitudes that are added up, ``products`` |a| |b| with the weights as they are,
    ``addend`` |c| (or 0), ``tiny`` what elements of A and weights below ``FLUSHED`` can be worth if they are taken for
    zero.
    """

    terms: Doubles
    products: Doubles
    addend: Doubles
    tiny: Doubles


def bound(
    problem: Problem, reference: Doubles, of: Magnitudes, rounded: tuple[str, ...], alpha: float, beta: float
) -> Doubles:
    """Largest |result - reference| of each element, for a kernel that sums in float32 and rounds its result once.

    ``rounded`` names what it rounds to the problem's dtype besides (weights that it unpacks, x, partial sums): each is
    worth one unit roundoff of the products.
    """
    u, u32 = UNIT_ROUNDOFF[problem.dtype], UNIT_ROUNDOFF["f32"]
    with np.errstate(invalid="ignore", over="ignore"):  # infinite magnitudes belong to results that are not finite
        sums = (problem.k + STEPS) * u32 * of.terms + len(rounded) * u * of.products + of.tiny
        error = abs(alpha) * sums + STEPS * u32 * abs(beta) * of.addend
        result = u * (np.abs(reference) + error) + SMALLEST[problem.dtype] / 2 + FLUSHED * (problem.dtype != "f16")
        return np.asarray(error + result)


def shares(out: Doubles, reference: Doubles, allowed: Doubles, problem: Problem) -> Doubles:
    """Each element's |out - reference| as a share of what is allowed: up to 1 is right.

    Where the reference is not finite, the result must be the same infinity or NaN. An infinite x times a quantized
    weight may come out as either: a kernel that adds up scale * q and bias apart meets infinity minus infinity. A
    result may be infinite where the reference is so near the largest number that rounding may carry it over.
    """
    finite, seen = np.isfinite(reference), np.isfinite(out)
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(out - reference)
        share = np.where(finite & seen, difference / allowed, np.inf)
        carried = np.isinf(out) & (np.abs(reference) + allowed >= LARGEST[problem.dtype]) & (out * reference > 0)
    share = np.where(finite & carried, 0.0, share)
    alike = (out == reference) | (np.isnan(out) & np.isnan(reference))
    special = ~seen if problem.quantization is not None else alike
    return np.asarray(np.where(~finite & special, 0.0, share))
