"""What the quantized kernels share."""

from __future__ import annotations

import pytest

from autotune.errors import UsageError
from autotune.problem import Problem
from autotune.stock_rules.packed import batched, quantization, symbol

from .calls import dense, quantized


@pytest.mark.parametrize(("dtype", "word"), [("f32", "float"), ("f16", "float16_t"), ("bf16", "bfloat16_t")])
def test_symbol(dtype, word):
    problem = Problem.parse(quantized(1, 64, 64, "affine-b8-g32", dtype=dtype))
    assert symbol(problem, "qmv", "_x") == f"affine_qmv_{word}_gs_32_b_8_x"


def test_batched():
    text = quantized(1, 64, 64)
    assert [batched(Problem.parse(text + more)) for more in ("", " B=2")] == ["_batch_0", "_batch_1"]


def test_dense_products_have_no_quantization():
    with pytest.raises(UsageError, match="matmul has no quantized weights"):
        quantization(Problem.parse(dense(8, 8, 8)))
