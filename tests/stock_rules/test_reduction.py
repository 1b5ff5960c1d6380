"""How many kernels add up partial results."""

from __future__ import annotations

import pytest

from autotune.stock_rules.reduction import launches


@pytest.mark.parametrize(
    ("partitions", "outputs", "expected"),
    [(2, 64, 1), (256, 64, 1), (257, 64, 2), (257, 32767, 2), (257, 32768, 1), (512, 1 << 20, 1)],
)
def test_launches(partitions, outputs, expected):
    assert launches(partitions, outputs) == expected
