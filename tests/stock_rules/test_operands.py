"""How MLX sees the operands of a dense product."""

from __future__ import annotations

import pytest

from autotune.problem import Problem
from autotune.stock_rules.operands import letters, transposed

from .calls import dense


@pytest.mark.parametrize(
    ("m", "n", "k", "layout", "expected"),
    [
        (8, 8, 8, "nt", (False, True)),
        (8, 8, 8, "tn", (True, False)),
        (8, 8, 1, "nt", (False, False)),  # a B of one row
        (8, 1, 8, "nt", (False, True)),
        (1, 8, 8, "tn", (True, False)),
        (8, 8, 1, "tn", (True, False)),
        (1, 8, 1, "tn", (False, False)),  # an A of one element
    ],
)
def test_transposed(m, n, k, layout, expected):
    assert transposed(Problem.parse(dense(m, n, k, layout))) == expected


def test_letters():
    assert letters(Problem.parse(dense(8, 8, 8, "tn"))) == "tn"
