"""Which calls a route may serve: what a Metal kernel would read as it lies has to be what stock would take."""

from __future__ import annotations

import mlx.core as mx
import pytest

from autotune.routing import resolve


@pytest.mark.parametrize("dtype", [mx.uint32, mx.int32, mx.float32])
def test_weights_that_are_not_uint32_go_to_stock(dtype):
    x = mx.zeros((2, 64))
    w, scales, biases = mx.quantize(mx.zeros((64, 64)), group_size=64, bits=4)
    ours, stock = (lambda *_, stream: "ours"), (lambda *_, stream: "stock")
    run = resolve._quantized_by_dtype({mx.float32: ours}, stock, scales.shape, True, 0)
    taken = run(x, w.view(dtype), scales, biases, True, 64, 4, "affine", stream=None)
    assert taken == ("ours" if dtype == mx.uint32 else "stock")
