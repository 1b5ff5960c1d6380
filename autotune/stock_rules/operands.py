"""How MLX sees the operands of a dense product: element sizes, names of dtypes, transposes."""

from __future__ import annotations

from ..problem import Problem

TYPE_NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
"""A dtype in the names of dense kernels."""
PACKED_TYPE_NAMES = {"f32": "float", "f16": "float16_t", "bf16": "bfloat16_t"}
"""A dtype in the names of quantized kernels."""


def transposed(problem: Problem) -> tuple[bool, bool]:
    """Whether A and B reach the kernel as transposes (``check_transpose`` in mlx/backend/metal/matmul.cpp).

    A matrix of one column is its own transpose where the kernel takes it for rows: B of ``nt`` with K = 1.
    """
    a, b = (letter == "t" for letter in problem.layout)
    return a, b and not (problem.k == 1 and problem.n > 1)


def letters(problem: Problem) -> str:
    """The two letters for A and B in a kernel's name, ``n`` or ``t``."""
    return "".join("t" if each else "n" for each in transposed(problem))
