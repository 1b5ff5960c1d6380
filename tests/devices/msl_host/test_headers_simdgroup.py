"""Operations of a simdgroup: functions between lanes, 8x8 matrices, cooperative tensors."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from autotune.devices.msl_host import native
from autotune.devices.msl_host.errors import HostError
from autotune.devices.msl_host.host import MslHost

from .calls import CHECK, SCHEDULES, Call

LANES = 32
SIMDGROUP = {"grid": (LANES, 1, 1), "threadgroup": (LANES, 1, 1)}


def lanes(expression: str, x: np.ndarray | None = None, setup: str = "", host: MslHost | None = None) -> np.ndarray:
    """A float expression's value in each lane of one simdgroup; ``x[lane]`` is the lane's input."""
    values = np.arange(LANES, dtype=np.float32) if x is None else x
    body = f"const uint lane = thread_index_in_simdgroup;\n{setup}\ny[lane] = float({expression});"
    [y] = Call(body, {"x": mx.array(values)}, {"y": ((LANES,), mx.float32)}, **SIMDGROUP).run(host)
    return y


I = np.arange(LANES, dtype=np.float32)  # noqa: E741


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("simd_sum(x[lane])", np.full(LANES, I.sum())),
        ("simd_sum(half(1))", np.full(LANES, 32)),
        ("simd_product(lane < 3 ? 2 : 1)", np.full(LANES, 8)),
        ("simd_max(x[lane])", np.full(LANES, 31)),
        ("simd_min(int(lane) - 5)", np.full(LANES, -5)),
        ("simd_and(lane | 4)", np.full(LANES, 4)),
        ("simd_or(lane)", np.full(LANES, 31)),
        ("simd_xor(lane == 3 ? 5 : 0)", np.full(LANES, 5)),
        ("simd_shuffle(x[lane], ushort((lane + 3) % 32))", np.roll(I, -3)),
        ("simd_shuffle_xor(x[lane], 5)", np.arange(LANES) ^ 5),
        ("simd_shuffle_down(x[lane], 4)", np.where(I < 28, I + 4, I)),
        ("simd_shuffle_up(x[lane], 4)", np.where(I >= 4, I - 4, I)),
        ("simd_shuffle_rotate_down(x[lane], 4)", np.roll(I, -4)),
        ("simd_shuffle_rotate_up(x[lane], 4)", np.roll(I, 4)),
        ("simd_shuffle_and_fill_down(x[lane], x[lane] + 100, 2)", np.concatenate([I[2:], [100, 101]])),
        ("simd_shuffle_and_fill_up(x[lane], x[lane] + 100, 2)", np.concatenate([[130, 131], I[:-2]])),
        ("simd_shuffle_and_fill_down(x[lane], x[lane] + 100, 1, 8)", np.where(I % 8 < 7, I + 1, I - I % 8 + 100)),
        ("simd_broadcast(x[lane], 7)", np.full(LANES, 7)),
        ("simd_broadcast_first(x[lane] + 2)", np.full(LANES, 2)),
        ("simd_prefix_inclusive_sum(x[lane])", np.cumsum(I)),
        ("simd_prefix_exclusive_sum(x[lane])", np.cumsum(I) - I),
        ("simd_prefix_inclusive_product(lane < 4 ? 2 : 1)", 2 ** np.minimum(I + 1, 4)),
        ("simd_prefix_exclusive_product(lane < 4 ? 2 : 1)", 2 ** np.minimum(I, 4)),
        ("simd_all(lane < 32)", np.ones(LANES)),
        ("simd_any(lane == 40)", np.zeros(LANES)),
        ("uint(ulong(simd_ballot(lane < 4)))", np.full(LANES, 15)),
        ("simd_is_first()", I == 0),
        ("simd_sum(float2(1, x[lane])).y", np.full(LANES, I.sum())),
        ("quad_sum(x[lane])", (I // 4) * 16 + 6),
        ("quad_broadcast(x[lane], 2)", I // 4 * 4 + 2),
        ("quad_shuffle_xor(x[lane], 1)", np.arange(LANES) ^ 1),
        ("quad_max(x[lane])", I // 4 * 4 + 3),
        ("quad_shuffle_down(x[lane], 1)", np.where(I % 4 < 3, I + 1, I)),
    ],
)
def test_simdgroup_functions(expression: str, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(lanes(expression), np.float32(expected))


def test_a_lane_that_does_not_exist_reads_as_poison() -> None:
    assert (np.abs(lanes("simd_shuffle(x[lane], 32)")) > 1e36).all()


def test_lanes_that_have_ended_take_no_part() -> None:
    host = MslHost(native.Options(strict=False))
    y = lanes("simd_sum(1.0f)", setup="if (lane >= 20) return;", host=host)
    np.testing.assert_array_equal(y[:20], 20)
    assert np.isnan(y[20:]).all()


MATRICES = """
threadgroup float tile[8][10];
simdgroup_matrix<T, 8, 8> a, b, c = make_filled_simdgroup_matrix<T, 8, 8>(T(1));
simdgroup_load(a, A, 8);
simdgroup_load(b, B, 12, ulong2(2, 1), TRANSPOSE);
simdgroup_multiply_accumulate(c, a, b, c);
c.thread_elements()[0] += T(0);
simdgroup_float8x8 f;
simdgroup_multiply(f, a, b);
simdgroup_store(f, &tile[0][0], 10);
threadgroup_barrier(mem_flags::mem_threadgroup);
simdgroup_load(f, &tile[0][0], 10);
simdgroup_store(c, y, 8);
simdgroup_store(f, z, 8, ulong2(0, 0), true);
"""


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16], ids=["f32", "f16", "bf16"])
def test_simdgroup_matrices(dtype: mx.Dtype, transpose: bool) -> None:
    """Small integers, exact in every dtype: origin, rows of the memory, transposition, both address spaces."""
    rng = np.random.default_rng(5)
    a, b = rng.integers(-3, 4, (8, 8)), rng.integers(-3, 4, (9, 12))
    tile = b[1:9, 2:10].T if transpose else b[1:9, 2:10]
    call = Call(
        MATRICES,
        {"A": mx.array(a).astype(dtype), "B": mx.array(b).astype(dtype)},
        {"y": ((8, 8), dtype), "z": ((8, 8), mx.float32)},
        template=(("T", dtype), ("TRANSPOSE", transpose)),
        **SIMDGROUP,
    )
    for options in SCHEDULES:
        y, z = call.run(MslHost(options))
        np.testing.assert_array_equal(y, a @ tile + 1)
        np.testing.assert_array_equal(z, (a @ tile).T)


PRODUCT = """
constexpr auto d = mpp::tensor_ops::matmul2d_descriptor(M, N, K, TA, TB, false,
    ACC ? mpp::tensor_ops::matmul2d_descriptor::mode::multiply_accumulate
        : mpp::tensor_ops::matmul2d_descriptor::mode::multiply);
mpp::tensor_ops::matmul2d<d, execution_simdgroup> op;
typename decltype(op)::template cooperative_tensor_left_input_t<T, T, float> a;
auto b = op.template get_right_input_cooperative_tensor<T, T, float>();
auto c = op.template get_destination_cooperative_tensor<decltype(a), decltype(b), float>();
for (int i = 0; i < a.get_capacity(); i++) {
  if (!a.is_valid_element(i)) continue;
  const auto at = a.get_multidimensional_index(i);
  a[i] = A[at[1] * (TA ? M : K) + at[0]];
}
for (int i = 0; i < b.get_capacity(); i++) {
  if (!b.is_valid_element(i)) continue;
  const auto at = b.get_multidimensional_index(i);
  b[i] = B[at[1] * (TB ? K : N) + at[0]];
}
for (int i = 0; i < c.get_capacity(); i++) {
  if (c.get_mask(i)) c[i] = 1;
}
op.run(a, b, c);
for (int i = 0; i < c.get_capacity(); i++) {
  if (!c.is_valid_element(i)) continue;
  const auto at = c.get_multidimensional_index(i);
  y[at[1] * N + at[0]] = c[i];
}
"""


def stored(matrix: np.ndarray, transposed: bool, dtype: mx.Dtype) -> mx.array:
    """The matrix or its transpose, row by row."""
    return mx.array(np.ascontiguousarray(matrix.T if transposed else matrix)).astype(dtype)


@pytest.mark.parametrize(
    ("layout", "shape", "dtype", "flags"),
    [
        (0, (16, 32, 16), mx.float16, (False, False, True)),
        (0, (32, 16, 16), mx.bfloat16, (True, False, True)),
        (0, (32, 32, 32), mx.float32, (False, True, False)),
        (1, (16, 16, 32), mx.float16, (True, True, True)),
        (2, (32, 32, 16), mx.float16, (False, True, True)),
        (3, (32, 32, 32), mx.float32, (True, False, True)),
    ],
)
def test_matmul2d_in_every_layout(layout: int, shape: tuple[int, int, int], dtype: mx.Dtype, flags: tuple) -> None:
    rng = np.random.default_rng(layout)
    (m, n, k), (ta, tb, accumulate) = shape, flags
    a, b = rng.integers(-3, 4, (m, k)), rng.integers(-3, 4, (k, n))
    names = dict(zip(("T", "M", "N", "K", "TA", "TB", "ACC"), (dtype, m, n, k, ta, tb, accumulate)))
    call = Call(
        PRODUCT,
        {"A": stored(a, ta, dtype), "B": stored(b, tb, dtype)},
        {"y": ((m, n), mx.float32)},
        header="#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>\n",
        template=tuple(names.items()),
        **SIMDGROUP,
    )
    [y] = call.run(MslHost(CHECK, defines=(("MSL_TENSOR_LAYOUT", layout),)))
    np.testing.assert_array_equal(y, a @ b + accumulate)


def test_an_element_beyond_a_tensors_capacity_is_an_error() -> None:
    body = """constexpr auto d = mpp::tensor_ops::matmul2d_descriptor(16, 32, 16);
    mpp::tensor_ops::matmul2d<d, execution_simdgroup> op;
    auto a = op.get_left_input_cooperative_tensor<half, half, float>(); a[8] = 1.0h; y[0] = a[0];"""
    header = "#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>\n"
    call = Call(body, {"x": mx.zeros((8,))}, {"y": ((1,), mx.float32)}, header, **SIMDGROUP)
    with pytest.raises(HostError) as error:
        call.run()
    assert error.value.kind == "failure"
