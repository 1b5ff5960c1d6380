"""The quantized tiled family on the host, against float64."""

from __future__ import annotations

import math
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from autotune.devices.msl_host.errors import HostError
from autotune.devices.msl_host.host import MslHost
from autotune.devices.msl_host.runner import Runner
from autotune.kernels import gemm, launch
from autotune.kernels.qmm import MOST_REGISTERS, Qmm, pack, registers, threads
from autotune.problem import Problem

from .conftest import options
from .packed import QUANTIZATIONS, UNIT_ROUNDOFF, Recorder, config, of, product

QMM = Qmm()
SCHEDULES = ("in-order", "reverse", "random-1", "random-2", "check")
# bm, bn, bk, wm, wn, wk, split_k, swizzle, stages
CONFIGS = (
    "8 32 32 1 2 1 1 1 1",
    "8 16 64 1 1 2 4 1 2",
    "16 32 32 2 2 1 1 2 2",
    "32 32 64 2 1 4 3 2 1",
    "16 32 128 1 4 1 1 1 1",
    "32 64 32 1 2 1 2 4 2",
    "24 48 32 1 2 1 1 1 2",
)
"""Among them: one fragment and many in a simdgroup, all ways to share K, tiles of several groups and groups of several
tiles, tiles that do not divide evenly over threads, and packs of 8, 16 and 32 weights."""
DTYPES = tuple(UNIT_ROUNDOFF)


def inputs_of(text):
    return product(text, rounds_weights=True)


def run(inputs, chosen, x=None):
    """The product through the family; whatever the host is told to do."""
    return QMM.build(inputs.problem, config(QMM, chosen))(*inputs.arguments(x))


@pytest.mark.parametrize(("number", "quantization"), list(enumerate(QUANTIZATIONS)), ids=str)
def test_every_quantization(number, quantization, host):
    """Each with one dtype and one config, in turn; M, N and K end within a tile."""
    dtype, chosen = DTYPES[number % 3], CONFIGS[number % len(CONFIGS)]
    inputs = inputs_of(f"quantized_matmul M=19 N=37 K=384 {dtype} {quantization} nt")
    with host("check"):
        inputs.check(run(inputs, chosen))


@pytest.mark.parametrize(("number", "quantization"), list(enumerate(QUANTIZATIONS[1::3] + QUANTIZATIONS[-3:])), ids=str)
def test_weights_that_are_not_transposed(number, quantization, host):
    """K ends within a tile and within no group: groups lie along N."""
    dtype, chosen = DTYPES[number % 3], CONFIGS[number % len(CONFIGS)]
    inputs = inputs_of(f"quantized_matmul M=9 N=192 K=83 {dtype} {quantization} nn")
    with host("check"):
        inputs.check(run(inputs, chosen))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("quantization", ["affine-b4-g64", "affine-b6-g64", "mxfp4-b4-g32", "nvfp4-b4-g16"])
def test_every_dtype(dtype, quantization, host):
    inputs = inputs_of(f"quantized_matmul M=10 N=33 K=192 {dtype} {quantization} nt")
    with host("random-1"):
        inputs.check(run(inputs, "8 32 64 1 2 1 1 1 2"))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("chosen", CONFIGS)
def test_ragged_shapes_in_every_schedule(chosen, schedule, host):
    """One program for all shapes: M about the edges of tiles; N of one, of primes, of a tile; K of one group, less than
    a tile and less than the slices have, of whole tiles, and with a tail."""
    with host(schedule):
        for m, n, k in ((1, 8, 32), (7, 1, 128), (8, 32, 256), (9, 37, 288), (33, 17, 224)):
            inputs = inputs_of(f"quantized_matmul M={m} N={n} K={k} f16 affine-b4-g32 nt")
            inputs.check(run(inputs, chosen))


@pytest.mark.parametrize("schedule", ["reverse", "check"])
@pytest.mark.parametrize("chosen", CONFIGS[1::2])
def test_ragged_shapes_of_weights_that_are_not_transposed(chosen, schedule, host):
    """K of one and four, so that x is so small that it lies in constant memory; of whole tiles; and a prime."""
    with host(schedule):
        for m, n, k in ((1, 64, 4), (7, 64, 1), (8, 96, 64), (9, 64, 131)):
            inputs = inputs_of(f"quantized_matmul M={m} N={n} K={k} bf16 affine-b4-g32 nn")
            inputs.check(run(inputs, chosen))


@pytest.mark.parametrize("parts", [2, 5, 9, 64])
def test_more_slices_of_k_than_tiles(parts, host):
    """Slices beyond the end are zeros, and the last one is shorter."""
    inputs = inputs_of("quantized_matmul M=5 N=40 K=288 f16 affine-b4-g32 nt")
    with host("check"):
        inputs.check(run(inputs, f"8 32 32 1 2 1 {parts} 1 1"))


@pytest.mark.parametrize("swizzle", [1, 2, 3, 4, 16])
def test_any_order_of_tiles(swizzle, host):
    """Bands of tiles that do and do not divide the number of them, five along M and three along N."""
    inputs = inputs_of("quantized_matmul M=37 N=70 K=32 f16 affine-b4-g32 nt")
    with host("in-order"):
        inputs.check(run(inputs, f"8 32 32 1 2 1 1 {swizzle} 1"))


@pytest.mark.parametrize("lead", [(6,), (1, 6), (2, 3), (3, 1, 2)])
@pytest.mark.parametrize("split", [1, 2])
def test_leading_axes(lead, split, host):
    inputs = inputs_of("quantized_matmul M=6 N=7 K=128 f16 affine-b4-g64 nt")
    with host("in-order"):
        inputs.check(run(inputs, f"8 32 32 1 2 1 {split} 1 1", inputs.x.reshape(*lead, 128)), lead)


def test_slices_and_strides(host):
    """Rows of x and of w that begin and end within larger arrays, and x with strides."""
    problem = Problem.parse("quantized_matmul M=4 N=9 K=128 f16 affine-b4-g64 nt")
    larger = inputs_of("quantized_matmul M=9 N=16 K=128 f16 affine-b4-g64 nt")
    weights = tuple(array[3:12] for array in larger.weights)
    for x in (larger.x[2:6], larger.x[1:9:2], mx.concatenate([larger.x] * 2, axis=1)[2:6, 1::2], larger.x[::-1][:4]):
        inputs = of(problem, x, weights, rounds_weights=True)
        with host("check"):
            inputs.check(run(inputs, "8 16 32 1 2 1 1 1 1"))


@pytest.mark.parametrize("layout", ["nt", "nn"])
def test_what_lies_around_x_and_scales_does_not_matter(layout, host):
    """Operands cut out of arrays that hold NaN elsewhere, with ragged edges along all axes."""
    inputs = inputs_of(f"quantized_matmul M=5 N=96 K={96 if layout == 'nt' else 75} f16 affine-b4-g32 {layout}")

    def among_nans(array):
        if array.dtype == mx.uint32:
            return array
        rows = mx.full((3, array.shape[1]), math.nan, array.dtype)
        return mx.concatenate([rows, array, rows])[3:-3]

    weights = tuple(map(among_nans, inputs.weights))
    cut = of(inputs.problem, among_nans(inputs.x), weights, rounds_weights=True)
    with host("check"):
        cut.check(run(cut, "16 64 64 1 2 2 2 1 2"))


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("chosen", ["8 32 32 1 2 1 1 1 1", "16 32 64 2 1 2 2 1 2"])
def test_a_row_that_is_not_finite_stays_alone(value, chosen, host):
    inputs = inputs_of("quantized_matmul M=4 N=5 K=96 f32 affine-b4-g32 nt")
    x = mx.where(mx.arange(4)[:, None] == 2, value, inputs.x)
    with host("in-order"):
        y = np.array(run(inputs, chosen, x))
    assert not np.isfinite(y[2]).any()
    inputs.check(mx.array(np.where(np.arange(4)[:, None] == 2, inputs.exact, y).astype(np.float32)))


def test_a_column_that_is_not_finite_stays_alone(host):
    """A group of w with an infinite scale: the zeros that pad x would make NaN of it in no other column."""
    drawn = inputs_of("quantized_matmul M=3 N=6 K=64 f32 affine-b4-g32 nt")
    w, scales, biases = drawn.weights
    spoiled = mx.where(mx.arange(6)[:, None] == 4, math.inf, scales)
    with host("in-order"):
        op = QMM.build(drawn.problem, config(QMM, "8 16 64 1 2 1 1 1 1"))
        y = np.array(op(drawn.x, w, spoiled, biases))
    assert not np.isfinite(y[:, 4]).any()
    drawn.check(mx.array(np.where(np.arange(6) == 4, drawn.exact, y).astype(np.float32)))


def test_weights_are_rounded_once():
    """A weight is scale * code + bias rounded to x's dtype: products with one of K are exact in it."""
    problem = Problem.parse("quantized_matmul M=8 N=8 K=32 f16 affine-b8-g32 nt")
    drawn = inputs_of(str(problem))
    x = mx.zeros((8, 32), mx.float16)
    x[mx.arange(8), mx.arange(8)] = 1
    exact = of(problem, x, drawn.weights).exact
    with launch.through(Runner()):
        y = run(of(problem, x, drawn.weights), "8 16 32 1 1 1 1 1 1")
    single = mx.array(exact.astype(np.float32)).astype(mx.float16)  # float32 holds them: 11 + 8 bits and a shift
    assert np.array_equal(np.array(y), np.array(single))


class TestLaunches:
    def launched(self, chosen, *texts):
        seen = Recorder()
        with launch.through(seen):
            for text in texts:
                run(inputs_of(text), chosen)
        return seen.launches

    def test_one_program_for_all_shapes(self):
        texts = [
            f"quantized_matmul M={m} N={n} K={k} f16 affine-b4-g64 nt" for m, n, k in ((1, 8, 64), (40, 333, 1024))
        ]
        one, other = self.launched("8 32 32 1 2 1 1 1 1", *texts)
        assert one.program is other.program
        assert other.grid == (32 * 11, 2 * 5, 1)
        assert other.threadgroup == (32, 2, 1)

    def test_one_program_for_all_orders_and_all_splits(self):
        text = "quantized_matmul M=40 N=33 K=1024 f16 affine-b4-g64 nt"
        programs = [
            self.launched(f"8 32 32 1 2 1 {split} {swizzle} 1", text)[0].program
            for split, swizzle in ((1, 1), (1, 4), (2, 1), (8, 2))
        ]
        assert programs[0] is programs[1]
        assert programs[2] is programs[3]
        assert programs[0] is not programs[2]

    def test_partial_sums_are_float32_and_added_in_a_second_launch(self):
        first, second = self.launched("8 32 32 1 2 1 4 1 1", "quantized_matmul M=40 N=33 K=1024 f16 affine-b4-g64 nt")
        assert first.shapes == ((4, 40, 33),)
        assert first.dtypes == (mx.float32,)
        assert first.grid == (32 * 2, 2 * 5, 4)
        assert second.shapes == ((40, 33),)
        assert second.dtypes == (mx.float16,)

    def test_a_config_in_another_order_is_the_same(self):
        text = "quantized_matmul M=4 N=33 K=128 f16 affine-b4-g64 nt"
        chosen = config(QMM, "8 32 32 1 2 1 1 1 1")
        seen = Recorder()
        inputs = inputs_of(text)
        with launch.through(seen):
            for items in (chosen.items(), reversed(chosen.items())):
                QMM.build(inputs.problem, dict(items))(*inputs.arguments())
        assert seen.launches[0].program is seen.launches[1].program


class TestLegality:
    LEGAL = "quantized_matmul M=16 N=1024 K=1024 f16 affine-b4-g64 nt"

    @pytest.mark.parametrize(
        "chosen",
        ["8 32 64 1 2 1 1 1 1", "16 64 64 2 2 1 1 1 2", "16 32 64 1 2 2 8 1 1", "8 128 32 1 4 1 1 2 2"],
    )
    @pytest.mark.parametrize("layout", ["nt", "nn"])
    def test_what_is_legal(self, chosen, layout):
        assert QMM.accepts(Problem.parse(self.LEGAL).with_layout(layout), config(QMM, chosen))

    @pytest.mark.parametrize(
        ("chosen", "why"),
        [
            ("16 64 64 4 2 1 1 1 1", "four simdgroups for two fragments along M"),
            ("16 40 64 1 2 1 1 1 1", "five fragments for two simdgroups"),
            ("16 64 32 1 2 8 1 1 1", "eight simdgroups for four slices of a tile"),
            ("16 16 16 1 1 8 1 1 1", "more threads than loads"),
            ("8 8 64 1 1 8 1 1 1", "fewer packs of w than half the threads"),
            ("16 128 256 1 4 1 1 1 1", "more than 32 KB"),
            ("16 128 64 1 4 1 1 1 2", "more than 32 KB with two stages"),
            ("16 256 8 1 1 1 1 1 1", "too many fragments"),
            ("64 32 64 2 2 1 1 1 1", "tiles far larger than M"),
            ("8 32 64 1 2 1 32 1 1", "slices of K shorter than a tile"),
            ("8 32 64 1 2 1 1 4 1", "bands higher than the tiles are many"),
            ("16 256 32 1 4 2 1 1 1", "a threadgroup with enough results shares K"),
        ],
    )
    def test_what_is_illegal(self, chosen, why):
        assert not QMM.accepts(Problem.parse(self.LEGAL), config(QMM, chosen)), why

    @pytest.mark.parametrize(
        "text",
        [
            "quantized_matmul M=16 N=1024 K=1024 f16 affine-b1-g64 nt",
            "quantized_matmul M=16 N=1024 K=1024 B=2 f16 affine-b4-g64 nt",
            "quantized_matmul M=16 N=3 K=32 f16 affine-b2-g32 nt",
            "quantized_matmul M=16 N=1024 K=268435456 f16 affine-b4-g64 nt",
            "matmul M=16 N=1024 K=1024 f16 nt",
        ],
    )
    def test_what_it_does_not_serve(self, text):
        chosen = config(QMM, "8 8 16 1 1 1 1 1 1")
        assert QMM.accepts(Problem.parse(self.LEGAL), chosen)
        assert not QMM.accepts(Problem.parse(text), chosen)

    def test_many_rows_are_not_unpacked_for_in_small_tiles(self):
        chosen = config(QMM, "16 32 64 1 2 1 1 1 1")
        assert QMM.accepts(Problem.parse("quantized_matmul M=64 N=1024 K=1024 f16 affine-b4-g64 nt"), chosen)
        assert not QMM.accepts(Problem.parse("quantized_matmul M=65 N=1024 K=1024 f16 affine-b4-g64 nt"), chosen)

    @pytest.mark.parametrize(
        ("text", "chosen", "values"),
        [
            ("affine-b4-g64 nt", "8 32 64 1 2 1 1 1 1", 32),
            ("affine-b4-g64 nt", "8 32 32 1 2 1 1 1 1", 16),
            ("affine-b4-g64 nt", "8 32 32 1 2 2 1 1 1", 8),
            ("nvfp4-b4-g16 nt", "8 32 64 1 2 1 1 1 1", 16),
            ("affine-b4-g64 nt", "8 64 24 1 1 1 1 1 1", 8),
            ("affine-b4-g64 nn", "8 64 24 1 1 1 1 1 1", 32),
        ],
    )
    def test_weights_that_a_thread_unpacks_at_once(self, text, chosen, values):
        """Each thread has a pack, of one group and one row of the tile."""
        problem, chosen = Problem.parse(f"quantized_matmul M=8 N=256 K=256 f16 {text}"), config(QMM, chosen)
        assert pack(problem, chosen) == values
        assert chosen["bn"] * chosen["bk"] >= threads(chosen) * values

    def test_registers_grow_with_what_a_thread_holds(self):
        problem = Problem.parse("quantized_matmul M=64 N=256 K=256 f16 affine-b4-g64 nt")
        # 4 x 4 fragments: 32 registers for sums and 8 for operands; 32 halves of x; 2 packs of 4 words, scale and bias
        assert registers(problem, config(QMM, "32 32 64 1 1 1 1 1 1")) == 32 + 8 + 32 + 2 * (4 + 2)
        assert registers(problem, config(QMM, "64 32 256 1 1 1 1 1 1")) > MOST_REGISTERS
        assert registers(problem, config(QMM, "32 32 64 2 2 1 1 1 1")) < 32


@pytest.mark.parametrize("layout", ["nt", "nn"])
@pytest.mark.parametrize(
    ("chosen", "dtype", "results"),
    [
        ("16 64 32 1 2 1 1 1 2", "f16", False),
        ("8 32 16 1 2 1 1 1 1", "f32", False),
        ("8 64 16 1 1 2 1 1 1", "f16", True),
    ],
)
def test_threadgroup_memory_is_what_the_kernel_declares(chosen, dtype, results, layout):
    """The kernel runs within so much of it and not within 16 bytes less, whether tiles need the most or results do."""
    inputs = inputs_of(f"quantized_matmul M=8 N=64 K=64 {dtype} affine-b4-g32 {layout}")
    size = QMM.threadgroup_bytes(config(QMM, chosen), 4 if dtype == "f32" else 2, layout)
    assert (size == gemm.spill_bytes(config(QMM, chosen))) == results

    def within(limit):
        with launch.through(Runner(MslHost(replace(options("in-order"), threadgroup_memory=limit)))):
            inputs.check(run(inputs, chosen))

    within(size)
    with pytest.raises(HostError) as refused:
        within(size - 16)
    assert refused.value.kind == "threadgroup-memory"
