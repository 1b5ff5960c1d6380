"""Sums of what a kernel launches."""

from __future__ import annotations

import pytest

from autotune.stock_rules.kernel import ceil_div, ragged

from .calls import dense, quantized, stock


def test_extra_traffic_goes_out_and_comes_back():
    kernel = stock(dense(128, 128, 8192), "g16s")
    assert kernel.extra_bytes == 2 * 32 * 128 * 128 * 4
    assert stock(quantized(1, 4096, 4096), "g16s").extra_bytes == 0


@pytest.mark.parametrize(("a", "b", "result"), [(0, 4, 0), (1, 4, 1), (4, 4, 1), (5, 4, 2)])
def test_ceil_div(a, b, result):
    assert ceil_div(a, b) == result


@pytest.mark.parametrize(("sizes", "axes"), [((64, 64, 16), ""), ((65, 64, 16), "M"), ((65, 65, 17), "MNK")])
def test_ragged(sizes, axes):
    assert ragged(*sizes, 64, 64, 16) == axes
