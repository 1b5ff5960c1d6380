"""The reference itself: NumPy's reading of packed weights against MLX's in float32, exact to rounding."""

import mlx.core as mx
import numpy as np
import pytest

from autotune.devices import operands, reference
from autotune.problem import MODES, Problem, Quantization

QUANTIZATIONS = [
    Quantization(mode, b, group) for mode, (bits, groups) in MODES.items() for b in bits for group in groups
]


def unpacked_by_hand(words: np.ndarray, bits: int) -> list[int]:
    """The integers of a little-endian stream of bits, read with Python's own integers."""
    stream = sum(int(word) << (32 * place) for place, word in enumerate(words))
    return [(stream >> (bits * place)) & ((1 << bits) - 1) for place in range(32 * len(words) // bits)]


class TestUnpack:
    @pytest.mark.parametrize("bits", sorted({bits for q in MODES.values() for bits in q[0]}))
    def test_reads_a_little_endian_stream(self, bits):
        rng = np.random.default_rng(bits)
        words = rng.integers(0, 2**32, (3, bits * 4), dtype=np.uint32)
        expected = [unpacked_by_hand(row, bits) for row in words]
        assert reference.unpack(words, bits).tolist() == expected

    def test_of_a_slice_that_is_not_contiguous(self):
        words = np.random.default_rng(0).integers(0, 2**32, (4, 8), dtype=np.uint32)
        cut = words[::2, 1::2]
        assert np.array_equal(reference.unpack(cut, 4), reference.unpack(cut.copy(), 4))


class TestMinifloats:
    def test_every_e2m1(self):
        magnitudes = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
        assert reference._E2M1.tolist() == magnitudes + [-value for value in magnitudes]

    @pytest.mark.parametrize(
        ("code", "value"),
        [
            (0x00, 0.0),
            (0x01, 2.0**-9),
            (0x07, 7 * 2.0**-9),
            (0x08, 2.0**-6),
            (0x30, 0.5),
            (0x38, 1.0),
            (0x39, 1.125),
            (0x40, 2.0),
            (0x7E, 448.0),
            (0xB8, -1.0),
            (0xFE, -448.0),
        ],
    )
    def test_known_e4m3(self, code, value):
        assert reference._E4M3[code] == value

    def test_e4m3_is_odd_and_rises(self):
        positive = reference._E4M3[:0x7F]
        assert np.all(np.diff(positive) > 0)
        assert np.array_equal(reference._E4M3[0x80:0xFF], -positive)
        assert len(reference._E4M3) == 256

    def test_e4m3_is_that_of_mlx(self):
        codes = np.array([code for code in range(256) if code & 0x7F != 0x7F], dtype=np.uint8)
        assert np.array_equal(np.array(mx.from_fp8(mx.array(codes), mx.float32)), reference._E4M3[codes])


@pytest.mark.parametrize("quantization", QUANTIZATIONS, ids=str)
class TestDequantize:
    def test_agrees_with_mlx_on_quantized_matrices(self, quantization):
        weights = mx.random.normal((6, 384), key=mx.random.key(1))
        self.check(quantization, mx.quantize(weights, quantization.group_size, quantization.bits, quantization.mode))

    def test_agrees_with_mlx_on_random_words(self, quantization):
        """Every pattern of bits that a device is given when a route is timed."""
        problem = Problem("quantized_matmul", 1, 16, 384, "f32", "nt", quantization)
        self.check(quantization, operands.weights(problem, mx.random.key(2)))

    def check(self, quantization, arrays):
        w, scales, *biases = (np.array(array) for array in arrays)
        q = quantization
        theirs = np.array(mx.dequantize(*arrays, group_size=q.group_size, bits=q.bits, mode=q.mode, dtype=mx.float32))
        if q.has_biases:
            scales, biases = scales.astype(np.float64), [biases[0].astype(np.float64)]
        ours = reference.dequantize(w, scales, biases[0] if biases else None, q)
        assert ours.dtype == np.float64
        assert ours.shape == theirs.shape
        assert np.all(np.isfinite(ours))
        assert np.count_nonzero(ours) > ours.size / 4
        # One rounding of the product and one of the sum, of terms no larger than these:
        terms = 2.0**q.bits * np.abs(scales).max() + np.abs(biases[0]).max() if q.has_biases else 0.0
        assert np.abs(ours - theirs).max() <= 2.0**-23 * terms


class TestProduct:
    def test_known(self):
        a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 0.0], [0.0, -1.0]])
        assert reference.product(a, b, None).tolist() == [[1.0, -2.0], [3.0, -4.0]]
        assert reference.product(a, b, np.array([10.0, 20.0])).tolist() == [[11.0, 18.0], [13.0, 16.0]]


class TestSample:
    @pytest.mark.parametrize(
        "text",
        [
            "matmul M=1 N=1 K=64 f32",
            "matmul M=96 N=256 K=64 f32",
            "matmul M=97 N=257 K=64 f32 nn",
            "matmul M=1000 N=5000 K=64 f32",
            "quantized_matmul M=1000 N=5000 K=64 f32 affine-b4-g64 nt",
            "quantized_matmul M=7 N=5120 K=64 f32 affine-b4-g128 nn",
            "quantized_matmul M=7 N=5120 K=64 f32 affine-b3-g32 nn",
            "quantized_matmul M=7 N=128 K=64 f32 affine-b4-g128 nn",
            "quantized_matmul M=7 N=16 K=64 f32 nvfp4-b4-g16 nn",
            "quantized_matmul M=7 N=48 K=64 f32 nvfp4-b4-g16 nn",
            "quantized_matmul M=7 N=5136 K=64 f32 nvfp4-b4-g16 nn",
        ],
    )
    def test_covers_the_edges_and_no_element_twice(self, text):
        problem = Problem.parse(text)
        sample = reference.sample(problem, np.random.default_rng(3))
        for chosen, length, most in (
            (sample.rows, problem.m, reference.MOST_ROWS),
            (sample.columns, problem.n, reference.MOST_COLUMNS),
        ):
            assert np.all(np.diff(chosen) > 0)
            assert chosen[0] == 0
            assert chosen[-1] == length - 1
            assert len(chosen) == min(length, most)

    def test_the_middle_is_another_one_each_time(self):
        problem, rng = Problem.parse("matmul M=1000 N=5000 K=64 f32"), np.random.default_rng(4)
        one, other = reference.sample(problem, rng), reference.sample(problem, rng)
        assert not np.array_equal(one.rows, other.rows)
        assert not np.array_equal(one.columns, other.columns)
        again = reference.sample(problem, np.random.default_rng(4))
        assert np.array_equal(one.columns, again.columns)

    def test_columns_of_weights_packed_along_n_come_in_whole_groups(self):
        problem = Problem.parse("quantized_matmul M=7 N=5120 K=64 f32 affine-b4-g128 nn")
        columns = reference.sample(problem, np.random.default_rng(5)).columns.reshape(-1, 128)
        assert np.all(columns[:, 0] % 128 == 0)
        assert np.array_equal(columns - columns[:, :1], np.tile(np.arange(128), (len(columns), 1)))
