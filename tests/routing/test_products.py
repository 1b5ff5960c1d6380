"""Which problem a call is, and why it is none: as the routes are picked (``resolve``)."""

from __future__ import annotations

import mlx.core as mx
import pytest

import autotune
from autotune.routing import ops, products

pytestmark = pytest.mark.usefixtures("shipped_tables")


def zeros(*shape, dtype=mx.float32):
    return mx.zeros(shape, dtype)


def packed(n, k, dtype=mx.float32, **options):
    return mx.quantize(zeros(n, k, dtype=dtype), **options)


class TestDense:
    @pytest.mark.parametrize(
        ("a", "b", "text"),
        [
            (zeros(3, 8), zeros(8, 4), "matmul M=3 N=4 K=8 f32 nt"),
            (zeros(2, 3, 8), zeros(8, 4), "matmul M=6 N=4 K=8 f32 nt"),
            (zeros(2, 3, 8), zeros(2, 8, 4), "matmul M=3 N=4 K=8 B=2 f32 nt"),
            (zeros(3, 8, dtype=mx.bfloat16), zeros(8, 4, dtype=mx.bfloat16), "matmul M=3 N=4 K=8 bf16 nt"),
            (zeros(8), zeros(8, 4), "vectors"),
            (zeros(3, 8), zeros(8), "vectors"),
            (zeros(2, 3, 8), zeros(1, 8, 4), "broadcast batches"),
            (zeros(3, 8), zeros(2, 8, 4), "broadcast batches"),
            (zeros(3, 8), zeros(8, 4, dtype=mx.float16), "mixed dtypes"),
            (zeros(3, 8, dtype=mx.complex64), zeros(8, 4, dtype=mx.complex64), "complex64"),
            (zeros(0, 8), zeros(8, 4), products.WRONG),
            (zeros(3, 8), zeros(9, 4), products.WRONG),
        ],
    )
    def test_matmul(self, a, b, text):
        assert str(products.of_dense("matmul", a, b)) == text

    @pytest.mark.parametrize(
        ("c", "said"),
        [
            (zeros(4), "row"),
            (zeros(1, 4), "row"),
            (zeros(3, 4), "full"),
            (zeros(3, 1), "broadcast addends"),
            (zeros(1), "broadcast addends"),
            (zeros(4, dtype=mx.float16), "mixed dtypes"),
        ],
    )
    def test_addmm(self, c, said):
        found = str(products.of_dense("addmm", zeros(3, 8), zeros(8, 4), c))
        assert found == (f"addmm M=3 N=4 K=8 f32 nt {said}" if said in ("row", "full") else said)

    def test_of_one_row_an_addend_is_full_as_for_the_route(self):
        assert products.of_dense("addmm", zeros(1, 8), zeros(8, 4), zeros(1, 4)).epilogue == "full"

    def test_factors(self):
        found = products.of_dense("addmm", zeros(3, 8), zeros(8, 4), zeros(4), mx.array(2.0))
        assert found == "factors that are no numbers"


class TestQuantized:
    def of(self, x, w, transpose=True, group_size=None, bits=None, mode="affine"):
        return str(products.of_quantized(x, w[0], w[1], (*w, None)[2], transpose, group_size, bits, mode))

    def test_problems(self):
        assert self.of(zeros(2, 3, 64), packed(32, 64)) == "quantized_matmul M=6 N=32 K=64 f32 affine-b4-g64 nt"
        found = self.of(zeros(3, 32), packed(32, 64), transpose=False)
        assert found == "quantized_matmul M=3 N=64 K=32 f32 affine-b4-g64 nn"
        w = packed(32, 64, mode="mxfp4", group_size=32, bits=4)
        assert self.of(zeros(3, 64), w, mode="mxfp4") == "quantized_matmul M=3 N=32 K=64 f32 mxfp4-b4-g32 nt"

    @pytest.mark.parametrize(
        ("x", "w", "said"),
        [
            (zeros(64), packed(32, 64), "vectors"),
            (zeros(0, 64), packed(32, 64), products.WRONG),
            (zeros(3, 64, dtype=mx.float16), packed(32, 64), "mixed dtypes"),
            (zeros(3, 32), packed(32, 64), "other quantizations"),
            (zeros(2, 3, 64), mx.quantize(zeros(2, 32, 64)), "batches of weights"),
        ],
    )
    def test_others(self, x, w, said):
        assert self.of(x, w) == said


class TestSeen:
    def test_first_calls_are_noted_once(self):
        for m in (3, 3, 5):
            autotune.matmul(zeros(m, 8), zeros(8, 4))
        autotune.addmm(zeros(4), zeros(3, 8), zeros(8, 4))
        w, scales, biases = packed(32, 64)
        autotune.quantized_matmul(zeros(3, 64), w, scales, biases, group_size=64, bits=4)
        autotune.matmul(zeros(8), zeros(8, 4))
        assert [str(problem) for problem, _ in products.SEEN] == [
            "matmul M=3 N=4 K=8 f32 nt",
            "matmul M=5 N=4 K=8 f32 nt",
            "addmm M=3 N=4 K=8 f32 nt row",
            "quantized_matmul M=3 N=32 K=64 f32 affine-b4-g64 nt",
        ]
        assert list(products.OUTSIDE.values()) == ["vectors"]

    def test_calls_that_are_known_ask_nothing(self, monkeypatch):
        """What a product costs after its first call is what it cost before there was any of this."""
        autotune.matmul(zeros(3, 8), zeros(8, 4))
        monkeypatch.setattr(products, "note_dense", None)
        autotune.matmul(zeros(3, 8), zeros(8, 4))

    def test_what_stock_refuses_is_refused_as_before(self):
        for c in (zeros(4, 7), None, 1.0):
            with pytest.raises((TypeError, ValueError)):
                autotune.addmm(c, zeros(3, 8), zeros(9, 4))
        with pytest.raises((TypeError, ValueError)):
            autotune.quantized_matmul(zeros(3, 64), packed(32, 64)[0], None, group_size=64, bits=4)
        assert not products.SEEN

    def test_is_bounded(self, monkeypatch):
        monkeypatch.setattr(products, "MOST", 2)
        for m in range(1, 6):
            ops.matmul(zeros(m, 8), zeros(8, 4))
        assert len(products.SEEN) == 2
