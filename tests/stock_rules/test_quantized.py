"""``quantized_matmul`` on Metal: which side of vector_limit."""

from __future__ import annotations

import pytest

from .calls import quantized, stock


@pytest.mark.parametrize(
    ("device", "size", "limit"),
    [
        *(("g17s", size, limit) for size, limit in ((2048, 33), (4096, 25), (4352, 13))),
        *(("g18g", size, limit) for size, limit in ((2048, 33), (4096, 25), (4352, 13))),
        *(("g16g", size, limit) for size, limit in ((2048, 13), (4096, 15), (4352, 13))),
        *(("g15s", size, limit) for size, limit in ((2048, 13), (4096, 15), (4352, 13))),
        *(("g14s", size, limit) for size, limit in ((2048, 14), (4096, 10), (4352, 6))),
        *(("g13g", size, limit) for size, limit in ((2048, 14), (4096, 10), (4352, 6))),
        *(("g12p", size, limit) for size, limit in ((2048, 18), (4096, 12), (4352, 10))),
        *(("g15d", size, limit) for size, limit in ((2048, 32), (4096, 18), (4352, 12))),
    ],
)
def test_around_vector_limit(device, size, limit):
    below, at, above = (stock(quantized(m, size, size), device).name for m in (limit - 1, limit, limit + 1))
    assert below.startswith("qmv")
    assert at.startswith("qmm")
    assert above.startswith("qmm")


@pytest.mark.parametrize("k", [512, 960, 1024, 8192])
def test_around_the_limit_of_weights_that_are_not_transposed(k):
    below, at = (stock(quantized(m, 4096, k, layout="nn"), "g17s").name for m in (3, 4))
    assert below == ("qvm" if k < 1024 else "qvm_split_k")
    assert at == "qmm"
