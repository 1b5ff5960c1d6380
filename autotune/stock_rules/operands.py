"""How MLX sees the operands of a dense product: element sizes, names of dtypes, transposes."""

from __future__ import annotations

from ..problem import Problem

TYPE_NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
"""A dtype in the names of dense kernels."""


def transposed(problem: Problem) -> tuple[bool, bool]:
    """Whether A and B reach the kernel as transposes (``check_transpose`` in mlx/backend/metal/matmul.cpp).

    Not quite the layout: where K is 1 a B of either layout has the strides of a row, and so has an A of one element.
    """
    a, b = (letter == "t" for letter in problem.layout)
    return a and not problem.m == problem.k == 1, b and problem.k != 1


def letters(problem: Problem) -> str:
    """The two letters for A and B in a kernel's name, ``n`` or ``t``."""
    return "".join("t" if each else "n" for each in transposed(problem))
