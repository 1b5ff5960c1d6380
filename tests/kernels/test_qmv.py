"""The quantized matrix-vector family on the host, against float64."""

from __future__ import annotations

import math

import mlx.core as mx
import numpy as np
import pytest

from autotune.kernels import launch
from autotune.kernels.family import THREADGROUP_BYTES
from autotune.kernels.qmv import Qmv
from autotune.problem import Problem

from .packed import QUANTIZATIONS, UNIT_ROUNDOFF, Recorder, config, of, product

QMV = Qmv()
SCHEDULES = ("in-order", "reverse", "random-1", "random-2", "check")
# v, rows, simdgroups, split, values, stage, wide
CONFIGS = ("3 4 4 2 8 1 0", "1 2 2 1 16 0 1", "2 1 3 3 8 0 1", "4 3 2 2 16 1 0", "5 1 1 1 8 1 0", "2 8 8 4 8 0 1")
DTYPES = tuple(UNIT_ROUNDOFF)


def run(inputs, chosen, x=None):
    """The product through the family; whatever the host is told to do."""
    op = QMV.build(inputs.problem, config(QMV, chosen))
    return op(*inputs.arguments(x))


@pytest.mark.parametrize(("number", "quantization"), list(enumerate(QUANTIZATIONS)), ids=str)
def test_every_quantization(number, quantization, host):
    """Each with one dtype and one config, in turn."""
    dtype, chosen = DTYPES[number % 3], CONFIGS[number % len(CONFIGS)]
    inputs = product(f"quantized_matmul M=5 N=13 K=640 {dtype} {quantization} nt")
    assert QMV.accepts(inputs.problem, config(QMV, chosen))
    with host("check"):
        inputs.check(run(inputs, chosen))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("quantization", ["affine-b4-g64", "mxfp4-b4-g32", "nvfp4-b4-g16", "mxfp8-b8-g32"])
def test_every_dtype(dtype, quantization, host):
    inputs = product(f"quantized_matmul M=3 N=6 K=256 {dtype} {quantization} nt")
    with host("random-1"):
        inputs.check(run(inputs, "2 4 2 2 16 0 1"))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("chosen", CONFIGS)
def test_ragged_shapes_in_every_schedule(chosen, schedule, host):
    """One program for all shapes: no row, one row more, and far more than V; N of one and primes; K of one group, and K
    that ends within a stride."""
    with host(schedule):
        for m, n, k in ((1, 8, 32), (2, 3, 64), (4, 5, 800), (7, 1, 288), (11, 17, 544)):
            inputs = product(f"quantized_matmul M={m} N={n} K={k} f16 affine-b4-g32 nt")
            inputs.check(run(inputs, chosen))


@pytest.mark.parametrize("values", [8, 16, 32])
@pytest.mark.parametrize("bits", [3, 5, 6])
def test_packs_that_straddle_words(bits, values, host):
    inputs = product(f"quantized_matmul M=2 N=4 K=320 f32 affine-b{bits}-g64 nt")
    with host("check"):
        inputs.check(run(inputs, f"2 2 2 2 {values} 0 1"))


@pytest.mark.parametrize("lead", [(6,), (1, 6), (2, 3), (3, 1, 2)])
def test_leading_axes(lead, host):
    inputs = product("quantized_matmul M=6 N=7 K=128 f16 affine-b4-g64 nt")
    with host("in-order"):
        inputs.check(run(inputs, "2 2 2 1 8 0 1", inputs.x.reshape(*lead, 128)), lead)


def test_slices_and_strides(host):
    """Rows of x and of w that begin and end within larger arrays, and x with a stride along K."""
    problem = Problem.parse("quantized_matmul M=4 N=9 K=128 f16 affine-b4-g64 nt")
    larger = product(str(Problem.parse("quantized_matmul M=9 N=16 K=128 f16 affine-b4-g64 nt")))
    weights = tuple(array[3:12] for array in larger.weights)
    for x in (larger.x[2:6], larger.x[1:9:2], mx.concatenate([larger.x] * 2, axis=1)[2:6, 1::2], larger.x[::-1][:4]):
        inputs = of(problem, x, weights)
        with host("check"):
            inputs.check(run(inputs, "3 2 2 1 8 0 1"))


@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_row_that_is_not_finite_stays_alone(value, stage, host):
    inputs = product("quantized_matmul M=4 N=5 K=96 f32 affine-b4-g32 nt")
    x = mx.where(mx.arange(4)[:, None] == 2, value, inputs.x)
    with host("in-order"):
        y = np.array(run(inputs, f"3 2 2 2 8 {stage} {1 - stage}", x))
    assert not np.isfinite(y[2]).any()
    inputs.check(mx.array(np.where(np.arange(4)[:, None] == 2, inputs.exact, y).astype(np.float32)))


@pytest.mark.parametrize(
    ("quantization", "scales"),
    [("mxfp4-b4-g32", [0, 1, 240]), ("mxfp8-b8-g32", [0, 1, 240]), ("nvfp4-b4-g16", [1, 126, 129])],
)
def test_extreme_scales(quantization, scales, host):
    """Of E8M0 2^-127, which is subnormal in float32, 2^-126, 2^113; of E4M3 a subnormal one, 448, a negative one."""
    drawn = product(f"quantized_matmul M=2 N=3 K=128 f32 {quantization} nt")
    w, old = drawn.weights
    new = mx.broadcast_to(mx.array(scales, mx.uint8)[:, None], old.shape)
    inputs = of(drawn.problem, drawn.x, (w, mx.contiguous(new)))
    with host("in-order"):
        inputs.check(run(inputs, "2 1 1 1 16 0 1"))


def test_every_code_of_e4m3(host):
    """Each code in a row of its own, times one, is exact; the two codes of NaN are NaN, as in MLX."""
    codes = np.zeros((256, 32), np.uint8)
    codes[:, 5] = np.arange(256)
    problem = Problem.parse("quantized_matmul M=1 N=256 K=32 f32 mxfp8-b8-g32 nt")
    weights = (mx.array(codes.view(np.uint32)), mx.full((256, 1), 127, mx.uint8))
    inputs = of(problem, mx.ones((1, 32)), weights)
    with host("in-order"):
        y = np.array(run(inputs, "1 4 1 1 8 0 1"))[0]
    nan = [0x7F, 0xFF]
    assert np.isnan(y[nan]).all()
    assert np.array_equal(np.delete(y, nan), np.delete(inputs.exact[0], nan))


@pytest.mark.parametrize("negative", [0x00, 0x80])
def test_a_scale_that_is_not_a_number(negative, host):
    drawn = product("quantized_matmul M=1 N=2 K=64 f32 nvfp4-b4-g16 nt")
    w, old = drawn.weights
    scales = mx.where(mx.arange(2)[:, None] == 1, mx.array(0x7F | negative, mx.uint8), old)
    with host("in-order"):
        y = np.array(run(of(drawn.problem, drawn.x, (w, scales)), "1 2 1 1 8 0 1"))
    assert np.isnan(y[0, 1])
    assert abs(y[0, 0] - drawn.exact[0, 0]) <= drawn.bound[0, 0]


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("quantized_matmul M=4 N=64 K=512 f16 affine-b4-g64 nn", "4 4 4 1 8 0 1"),
        ("quantized_matmul M=4 N=64 K=512 f16 affine-b1-g64 nt", "4 4 4 1 8 0 1"),
        ("quantized_matmul M=4 N=64 K=512 B=2 f16 affine-b4-g64 nt", "4 4 4 1 8 0 1"),
        ("quantized_matmul M=65 N=64 K=512 f16 affine-b4-g64 nt", "4 4 4 1 8 0 1"),
        ("quantized_matmul M=4 N=64 K=512 f16 affine-b4-g64 nt", "6 4 4 1 8 0 1"),
        ("quantized_matmul M=4 N=64 K=512 f16 affine-b4-g64 nt", "4 4 4 1 12 0 1"),
        ("quantized_matmul M=4 N=64 K=512 f16 nvfp4-b4-g16 nt", "4 4 4 1 32 0 1"),
        ("quantized_matmul M=4 N=64 K=512 f16 affine-b4-g64 nt", "4 4 4 3 8 0 1"),
        ("quantized_matmul M=4 N=64 K=512 f16 affine-b4-g64 nt", "4 4 8 8 8 0 1"),
        ("quantized_matmul M=16 N=64 K=512 f16 affine-b4-g64 nt", "16 4 4 1 8 0 1"),
    ],
)
def test_what_is_illegal(text, chosen):
    assert not QMV.accepts(Problem.parse(text), config(QMV, chosen))


def test_threadgroup_memory_is_what_the_kernel_declares():
    assert QMV.threadgroup_bytes(config(QMV, "4 4 4 1 8 0 1")) == 0
    assert QMV.threadgroup_bytes(config(QMV, "3 4 4 2 8 1 0")) == 4 * (3 * 2 * 8 * 32 + 4 * 3 * 4)
    problem = Problem.parse("quantized_matmul M=8 N=64 K=65536 f16 affine-b4-g64 nt")
    assert not QMV.accepts(problem, config(QMV, "8 1 8 8 8 1 0"))
    assert QMV.threadgroup_bytes(config(QMV, "8 1 8 8 8 1 0")) > THREADGROUP_BYTES


def test_one_program_for_all_shapes():
    seen = Recorder()
    with launch.through(seen):
        for m, n, k in ((1, 8, 64), (5, 8, 64), (40, 333, 1024)):
            run(product(f"quantized_matmul M={m} N={n} K={k} f16 affine-b4-g64 nt"), "4 4 4 1 8 0 1")
    assert len({asked.program for asked in seen.launches}) == 1
    program = seen.launches[0].program
    assert len(program.header) + len(program.body) < 8192
