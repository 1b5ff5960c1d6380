"""Quantized products row by row, with weights stored as (K, N)."""

from __future__ import annotations

import pytest

from .calls import quantized, stock


@pytest.mark.parametrize(("k", "parts"), [(1024, 8), (8192, 8), (8193, 32), (16384, 32)])
def test_parts_of_qvm(k, parts):
    kernel = stock(quantized(2, 4096, k, layout="nn"), "g16s")
    assert (kernel.split_k, kernel.grid, kernel.launches) == (parts, (2, 64, parts), 2)
    assert kernel.partial_bytes == parts * 2 * 4096 * 2
    assert kernel.ragged == ("K" if k == 8193 else "")
    assert kernel.extra_bytes == 2 * kernel.partial_bytes


def test_columns_of_qvm_follow_the_group():
    assert stock(quantized(1, 4096, 512, layout="nn"), "g16s").grid == (1, 64, 1)
    assert stock(quantized(1, 4096, 512, "nvfp4-b4-g16", "nn"), "g16s").grid == (1, 128, 1)
