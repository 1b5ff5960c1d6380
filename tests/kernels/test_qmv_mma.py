"""The quantized family on simdgroup matrices on the host, against float64."""

from __future__ import annotations

import math
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from autotune.kernels import launch
from autotune.kernels.family import THREADGROUP_BYTES
from autotune.kernels.qmv_mma import MOST_REGISTERS, QmvMma, registers
from autotune.problem import Problem

from .conftest import runner
from .packed import QUANTIZATIONS, Recorder, config, of, product

QMV_MMA = QmvMma()
SCHEDULES = ("in-order", "reverse", "random-1", "random-2", "check")
# v, rows, simdgroups, split, flight
CONFIGS = ("8 8 2 2 2", "16 16 4 2 1", "8 24 4 4 1", "24 8 2 1 3", "32 8 1 1 1", "8 40 2 1 1", "8 8 8 2 4")
DTYPES = ("f16", "bf16")
WIDE, NARROW = "walk<true>(acc", "walk<false>(acc"
"""Calls of the body: for x and w aligned to 16 bytes, and for others."""


def run(inputs, chosen, x=None):
    """The product through the family; whatever the host is told to do."""
    op = QMV_MMA.build(inputs.problem, config(QMV_MMA, chosen))
    return op(*inputs.arguments(x))


def without(call, **offsets):
    """A runner in check mode for which the body lacks one of both calls: who takes that path gets zeros.

    ``offsets`` move inputs so many elements into larger arrays. Slices would not do: the host copies each to an address
    of its own choice, which depends on the size, and K is a multiple of 16 bytes.
    """
    run_it = runner("check")

    def run_mutant(asked):
        program, inputs = asked.program, list(asked.inputs)
        assert program.body.count(call) == 1
        start = program.body.index(call)
        body = program.body[:start] + program.body[program.body.index(";", start) + 1 :]
        for name, by in offsets.items():
            at = program.inputs.index(name)
            inputs[at] = mx.concatenate([mx.zeros((by,), inputs[at].dtype), inputs[at].reshape(-1)])
            body = f"{name} += {by};\n{body}"
        return run_it(replace(asked, program=replace(program, body=body), inputs=tuple(inputs)))

    return launch.through(run_mutant)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("number", "quantization"), list(enumerate(QUANTIZATIONS)), ids=str)
def test_every_quantization(number, quantization, dtype, host):
    """Both dtypes, which unpack in ways of their own, and the configs in turn."""
    chosen = ("8 8 2 2 2", "16 16 4 2 1", "8 24 4 4 1", "16 8 2 1 1", "8 16 2 1 1")[number % 5]
    inputs = product(f"quantized_matmul M=9 N=13 K=640 {dtype} {quantization} nt")
    assert QMV_MMA.accepts(inputs.problem, config(QMV_MMA, chosen))
    with host("check"):
        inputs.check(run(inputs, chosen))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("chosen", CONFIGS)
def test_ragged_shapes_in_every_schedule(chosen, schedule, host):
    """One program for all shapes: M around a fragment and beyond V, N of one and primes; K of one group, and groups
    that do not divide over the simdgroups that share them or what these hold: 1, 2, 25, 9 and 17."""
    with host(schedule):
        for m, n, k in ((1, 8, 32), (2, 3, 64), (7, 5, 800), (9, 1, 288), (17, 17, 544)):
            inputs = product(f"quantized_matmul M={m} N={n} K={k} f16 affine-b4-g32 nt")
            inputs.check(run(inputs, chosen))


@pytest.mark.parametrize("m", [7, 8, 9, 31, 33, 40])
def test_rows_around_a_fragment_and_beyond_v(m, host):
    inputs = product(f"quantized_matmul M={m} N=11 K=96 bf16 mxfp4-b4-g32 nt")
    with host("check"):
        inputs.check(run(inputs, "16 8 2 2 1"))


@pytest.mark.parametrize("lead", [(6,), (1, 6), (2, 3), (3, 1, 2)])
def test_leading_axes(lead, host):
    inputs = product("quantized_matmul M=6 N=9 K=128 f16 affine-b4-g64 nt")
    with host("in-order"):
        inputs.check(run(inputs, "8 8 2 2 1", inputs.x.reshape(*lead, 128)), lead)


def test_slices_and_strides(host):
    """Rows of x and of w that begin and end within larger arrays, and x with a stride along K."""
    problem = Problem.parse("quantized_matmul M=4 N=9 K=128 f16 affine-b4-g64 nt")
    larger = product("quantized_matmul M=9 N=16 K=128 f16 affine-b4-g64 nt")
    weights = tuple(array[3:12] for array in larger.weights)
    for x in (larger.x[2:6], larger.x[1:9:2], mx.concatenate([larger.x] * 2, axis=1)[2:6, 1::2], larger.x[::-1][:4]):
        inputs = of(problem, x, weights)
        with host("check"):
            inputs.check(run(inputs, "8 8 2 1 2"))


ALIGNMENTS = ("affine-b4-g64", "affine-b3-g32", "affine-b6-g128", "nvfp4-b4-g16", "mxfp8-b8-g32")


class TestAlignment:
    """Words are read at once where x and w begin at 16 bytes, and only there. What a lane reads of a row of them begins
    at a multiple of that too, or the host would object."""

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("quantization", ALIGNMENTS)
    @pytest.mark.parametrize("offsets", [{"x": 1}, {"w": 1}, {"x": 4, "w": 2}], ids=str)
    def test_an_unaligned_operand_takes_the_narrow_path(self, offsets, quantization, dtype):
        """By one element each, and by eight bytes both."""
        inputs = product(f"quantized_matmul M=9 N=11 K=384 {dtype} {quantization} nt")
        with without(WIDE, **offsets):
            inputs.check(run(inputs, "8 8 2 2 1"))

    @pytest.mark.parametrize("quantization", ALIGNMENTS)
    @pytest.mark.parametrize("offsets", [{}, {"x": 8, "w": 4}], ids=str)
    def test_aligned_ones_take_the_wide_path(self, offsets, quantization):
        inputs = product(f"quantized_matmul M=9 N=11 K=384 f16 {quantization} nt")
        with without(NARROW, **offsets):
            inputs.check(run(inputs, "8 8 2 2 1"))

    def test_a_slice_of_w_that_begins_between(self):
        """Rows of nine words."""
        problem = Problem.parse("quantized_matmul M=3 N=9 K=96 f16 affine-b3-g32 nt")
        larger = product("quantized_matmul M=3 N=12 K=96 f16 affine-b3-g32 nt")
        inputs = of(problem, larger.x, tuple(array[1:10] for array in larger.weights))
        with without(WIDE):
            inputs.check(run(inputs, "8 8 2 1 2"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_row_that_is_not_finite_stays_alone(value, dtype, host):
    inputs = product(f"quantized_matmul M=11 N=9 K=96 {dtype} affine-b4-g32 nt")
    odd = np.arange(11)[:, None] == 2
    x = mx.where(mx.array(odd), mx.array(value, inputs.x.dtype), inputs.x)
    with host("in-order"):
        y = run(inputs, "16 8 2 2 1", x)
    assert not np.isfinite(np.array(y.astype(mx.float32))[2]).any()
    inputs.check(mx.where(mx.array(odd), mx.array(inputs.exact.astype(np.float32)).astype(y.dtype), y))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("quantization", "scales"),
    [("mxfp4-b4-g32", [0, 1, 240]), ("mxfp8-b8-g32", [0, 1, 240]), ("nvfp4-b4-g16", [1, 126, 129])],
)
def test_extreme_scales(quantization, scales, dtype, host):
    """Of E8M0 2^-127, which is subnormal in float32, 2^-126, 2^113, or in half 2^9; of E4M3 a subnormal one, 448, a
    negative one."""
    drawn = product(f"quantized_matmul M=2 N=3 K=128 {dtype} {quantization} nt")
    w, old = drawn.weights
    scales = [min(scale, 136) for scale in scales] if dtype == "f16" else scales
    new = mx.broadcast_to(mx.array(scales, mx.uint8)[:, None], old.shape)
    inputs = of(drawn.problem, drawn.x, (w, mx.contiguous(new)))
    with host("in-order"):
        inputs.check(run(inputs, "8 8 1 1 2"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_code_of_e4m3(dtype, host):
    """Each code in a row of its own, times one, is exact; the two codes of NaN are NaN, as in MLX."""
    codes = np.zeros((256, 32), np.uint8)
    codes[np.arange(256), np.arange(256) % 32] = np.arange(256)
    problem = Problem.parse(f"quantized_matmul M=1 N=256 K=32 {dtype} mxfp8-b8-g32 nt")
    weights = (mx.array(codes.view(np.uint32)), mx.full((256, 1), 127, mx.uint8))
    x = mx.ones((1, 32), mx.float16 if dtype == "f16" else mx.bfloat16)
    inputs = of(problem, x, weights)
    with host("in-order"):
        y = np.array(run(inputs, "8 16 2 1 1").astype(mx.float32))[0]
    nan = [0x7F, 0xFF]
    assert np.isnan(y[nan]).all()
    assert np.array_equal(np.delete(y, nan), np.delete(inputs.exact[0], nan))


@pytest.mark.parametrize("negative", [0x00, 0x80])
def test_a_scale_that_is_not_a_number(negative, host):
    drawn = product("quantized_matmul M=1 N=2 K=64 f16 nvfp4-b4-g16 nt")
    w, old = drawn.weights
    scales = mx.where(mx.arange(2)[:, None] == 1, mx.array(0x7F | negative, mx.uint8), old)
    with host("in-order"):
        y = np.array(run(of(drawn.problem, drawn.x, (w, scales)), "8 8 1 1 1"))
    assert np.isnan(y[0, 1])
    assert abs(y[0, 0] - drawn.exact[0, 0]) <= drawn.bound[0, 0]


PLAIN = "quantized_matmul M=16 N=64 K=512 f16 affine-b4-g64 nt"


class TestLegality:
    @pytest.mark.parametrize(
        ("text", "chosen"),
        [
            ("quantized_matmul M=16 N=64 K=512 f32 affine-b4-g64 nt", "8 8 4 2 1"),
            ("quantized_matmul M=16 N=64 K=512 f16 affine-b4-g64 nn", "8 8 4 2 1"),
            ("quantized_matmul M=16 N=64 K=512 f16 affine-b1-g64 nt", "8 8 4 2 1"),
            ("quantized_matmul M=16 N=64 K=512 B=2 f16 affine-b4-g64 nt", "8 8 4 2 1"),
            ("quantized_matmul M=65 N=64 K=512 f16 affine-b4-g64 nt", "8 8 4 2 1"),
            ("matmul M=16 N=64 K=512 f16 nt", "8 8 4 2 1"),
            (PLAIN, "12 8 4 2 1"),
            (PLAIN, "8 12 4 2 1"),
            (PLAIN, "8 8 4 3 1"),
            ("quantized_matmul M=8 N=64 K=512 f16 affine-b4-g64 nt", "16 8 4 2 1"),
        ],
    )
    def test_what_is_illegal(self, text, chosen):
        assert QMV_MMA.accepts(Problem.parse(PLAIN), config(QMV_MMA, "8 8 4 2 1"))
        assert not QMV_MMA.accepts(Problem.parse(text), config(QMV_MMA, chosen))

    def test_v_reaches_no_further_than_the_last_fragment(self):
        fits = [
            m
            for m in range(1, 26)
            if QMV_MMA.accepts(
                Problem.parse(f"quantized_matmul M={m} N=64 K=512 f16 affine-b4-g64 nt"), config(QMV_MMA, "16 8 4 2 1")
            )
        ]
        assert fits == list(range(9, 26))

    def test_registers(self):
        """For sums, and for what is held of weights and of x: twice as much of it with twice the groups in flight."""
        problem = Problem.parse("quantized_matmul M=32 N=64 K=512 f16 affine-b4-g64 nt")
        one, two = (config(QMV_MMA, f"32 24 4 2 {flight}") for flight in (1, 2))
        assert registers(two, 64, 4) - registers(one, 64, 4) == 3 * (2 + 2) + 4 * 8
        for chosen, count in ((one, 136), (two, 180), (config(QMV_MMA, "24 24 4 2 1"), 108)):
            assert registers(chosen, 64, 4) == count
            assert QMV_MMA.accepts(problem, chosen) == (count <= MOST_REGISTERS)

    def test_every_simdgroup_has_groups_to_hold(self):
        """More than half of what all of a team can hold at once."""
        accepted = [
            QMV_MMA.accepts(
                Problem.parse(f"quantized_matmul M=8 N=64 K={k} f16 affine-b4-g64 nt"), config(QMV_MMA, "8 8 4 4 4")
            )
            for k in (448, 512, 576)
        ]
        assert accepted == [False, False, True]

    def test_threadgroup_memory_is_what_the_kernel_declares(self):
        problem = Problem.parse(PLAIN)
        assert QMV_MMA.threadgroup_bytes(config(QMV_MMA, "8 8 4 1 1")) == 0
        fitting, over = config(QMV_MMA, "16 40 8 2 1"), config(QMV_MMA, "16 40 16 2 1")
        # A float for each simdgroup, element of a lane (2 of a fragment, of which there are 5 by 2), and lane.
        assert QMV_MMA.threadgroup_bytes(fitting) == 4 * 8 * (2 * 5 * 2) * 32
        assert QMV_MMA.accepts(problem, fitting)
        assert QMV_MMA.threadgroup_bytes(over) > THREADGROUP_BYTES
        assert not QMV_MMA.accepts(problem, over)
        # The same without a split takes none.
        assert QMV_MMA.threadgroup_bytes(config(QMV_MMA, "16 40 16 1 1")) == 0

    def test_many_simdgroups_have_fewer_registers_each(self):
        problem = Problem.parse("quantized_matmul M=16 N=64 K=512 f16 affine-b4-g64 nt")
        assert QMV_MMA.accepts(problem, config(QMV_MMA, "16 40 8 1 1"))
        assert not QMV_MMA.accepts(problem, config(QMV_MMA, "16 40 16 1 1"))


def test_one_program_for_all_shapes():
    seen = Recorder()
    with launch.through(seen):
        for m, n, k in ((1, 8, 64), (5, 8, 64), (40, 333, 1024)):
            run(product(f"quantized_matmul M={m} N={n} K={k} f16 affine-b4-g64 nt"), "8 16 4 2 2")
    assert len({asked.program for asked in seen.launches}) == 1
    # Two teams of 16 rows each; five fragments of x.
    assert seen.launches[-1].grid == (32 * 11, 4, 5)
    assert seen.launches[-1].threadgroup == (32, 4, 1)
    program = seen.launches[0].program
    assert len(program.header) + len(program.body) < 12_000
