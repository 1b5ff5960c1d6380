"""Metal's words mean here what the Metal Shading Language Specification says: numbers bit for bit against numpy."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from autotune.devices.msl_host import native
from autotune.devices.msl_host.errors import HostError
from autotune.devices.msl_host.host import MslHost, from_bfloat16, to_bfloat16

from .calls import CHECK, SCHEDULES, Call, evaluate

LANES = 32
SIMDGROUP = {"grid": (LANES, 1, 1), "threadgroup": (LANES, 1, 1)}


def lanes(expression: str, x: np.ndarray | None = None, setup: str = "", host: MslHost | None = None) -> np.ndarray:
    """A float expression's value in each lane of one simdgroup; ``x[lane]`` is the lane's input."""
    values = np.arange(LANES, dtype=np.float32) if x is None else x
    body = f"const uint lane = thread_index_in_simdgroup;\n{setup}\ny[lane] = float({expression});"
    [y] = Call(body, {"x": mx.array(values)}, {"y": ((LANES,), mx.float32)}, **SIMDGROUP).run(host)
    return y


def elementwise(body: str, dtype: mx.Dtype, *values: np.ndarray) -> np.ndarray:
    """``y[i]`` of the dtype for each element of the inputs ``a``, ``b``, ... of it."""
    arrays = {name: mx.array(value).astype(dtype) for name, value in zip("abc", values)}
    size = values[0].size
    call = Call(f"uint i = thread_position_in_grid.x;\n{body}", arrays, {"y": ((size,), dtype)}, grid=(size, 1, 1))
    return call.run()[0]


@pytest.fixture
def values() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.standard_normal(256).astype(np.float32), rng.standard_normal(256).astype(np.float32)


# ---- Numbers


def test_half_rounds_after_every_operation(values) -> None:
    a, b = (value.astype(np.float16) for value in values)
    np.testing.assert_array_equal(elementwise("y[i] = a[i] * b[i] + a[i];", mx.float16, a, b), a * b + a)


def test_bfloat_rounds_after_every_operation(values) -> None:
    def rounded(x: np.ndarray) -> np.ndarray:
        return from_bfloat16(to_bfloat16(x))

    a, b = (rounded(value) for value in values)
    expected = rounded(rounded(a * b) + a)
    np.testing.assert_array_equal(elementwise("y[i] = a[i] * b[i] + a[i];", mx.bfloat16, a, b), expected)


def test_float_products_are_not_fused(values) -> None:
    a, b = values
    np.testing.assert_array_equal(elementwise("y[i] = a[i] * b[i] + a[i];", mx.float32, a, b), a * b + a)


def test_half_and_bfloat_convert_through_float(values) -> None:
    a = values[0].astype(np.float16)
    expected = from_bfloat16(to_bfloat16(a.astype(np.float32)))
    np.testing.assert_array_equal(elementwise("y[i] = float(bfloat(a[i]));", mx.float16, a), expected)
    np.testing.assert_array_equal(elementwise("y[i] = half(static_cast<bfloat>(a[i]));", mx.float16, a), expected)


def test_literals() -> None:
    y = evaluate(["1.0h + 0.5h", "1.5bf", "1 / 3.0", "sizeof(1.0)", "sizeof(1.0h)", "sizeof(1.5bf)", "0.1 + 0.2"])
    np.testing.assert_array_equal(
        y, np.float32([1.5, 1.5, np.float32(1) / 3, 4, 2, 2, np.float32(0.1) + np.float32(0.2)])
    )


def test_as_type_keeps_the_bits() -> None:
    y = evaluate(
        ["as_type<uint>(1.0f) >> 16", "as_type<half>(ushort(0x3c00))", "as_type<uchar4>(0x04030201u).z",
         "as_type<half2>(0x40003c00u).y", "as_type<bfloat>(ushort(0x3f80))", "as_type<int>(-0.0f) < 0"]
    )  # fmt: skip
    np.testing.assert_array_equal(y, [0x3F80, 1, 3, 2, 1, 1])


# ---- Vectors


def test_constructors_take_scalars_and_vectors() -> None:
    setup = "float2 p(1, 2); vec<half, 4> h = vec<half, 4>(half2(p), 3, 4); using V = vec<float, 3>; V v = V(p, 9);"
    y = evaluate(
        ["float4(p, 3, 4).w", "float4(0, p, 3).z", "h.x + h.w", "v.z", "float3(7).y", "int4(uchar4(250)).x",
         "uint3(1u, uint2(2, 3)).z", "float4(bfloat4(1.5bf)).x", "float2(half2(0.5h)).y", "short2(-3.9f, 3.9f).x"],
        setup,
    )  # fmt: skip
    np.testing.assert_array_equal(y, [4, 2, 5, 9, 7, 250, 3, 1.5, 0.5, -3])


def test_swizzles_are_read_and_written() -> None:
    setup = "float4 v = float4(1, 2, 3, 4); v.xy = v.wz; v.zw += float2(0.5f); float4 w = v.wzyx; w.rgb = 0.0f;"
    y = evaluate(["v.x", "v.y", "v.z", "v.w", "w.x", "w.a", "v.yyy.z", "v[2]"], setup)
    np.testing.assert_array_equal(y, [4, 3, 3.5, 4.5, 0, 4, 3, 3.5])


def test_vectors_have_metals_sizes() -> None:
    y = evaluate(
        ["sizeof(float3)", "sizeof(packed_float3)", "alignof(half4)", "sizeof(char2)", "alignof(packed_half4)"]
    )
    np.testing.assert_array_equal(y, [16, 12, 8, 2, 2])


def test_bool_vectors_are_ones_and_zeros() -> None:
    setup = "float4 a = float4(1, 5, 2, 0), b = float4(2); bool4 m = a < b; bool2 n = bool2(true, false);"
    y = evaluate(
        ["float4(m).x", "float4(m).y", "m.x + m.y + m.w", "all(m)", "any(m)", "float4(!m).y", "select(a, b, m).x",
         "int2(n).x", "float4(m & !m).x", "n[0]", "all(a == a)"],
        setup,
    )  # fmt: skip
    np.testing.assert_array_equal(y, [1, 0, 2, 0, 1, 1, 2, 1, 0, 1, 1])


def test_packed_vectors_convert() -> None:
    setup = (
        "packed_float3 p = float3(1, 2, 3); p[1] = 5; float3 v = p; device packed_half4* q = (device packed_half4*)y;"
    )
    y = evaluate(["v.x + v.y + v.z", "float3(p).y", "sizeof(q[0])"], setup)
    np.testing.assert_array_equal(y, [9, 5, 8])


def test_vectors_of_an_array_are_its_elements(values) -> None:
    body = "const device half4* v = (const device half4*)a; y[i] = v[i / 4][i % 4] * 2.0h;"
    a = values[0].astype(np.float16)
    np.testing.assert_array_equal(elementwise(body, mx.float16, a), a * np.float16(2))


# ---- Functions


def test_integer_functions() -> None:
    y = evaluate(
        ["clz(1u)", "clz(uchar(1))", "clz(1l)", "ctz(8)", "popcount(0xffu)", "popcount(short(-1))", "abs(-3)",
         "absdiff(2u, 5u)",
         "addsat(uchar(250), uchar(10))", "subsat(2u, 5u)", "addsat(char(120), char(10))", "mulhi(1u << 31, 4u)",
         "rotate(0x80000001u, 1u)", "extract_bits(0xabcdu, 4, 8)", "insert_bits(0u, 3u, 4, 2)",
         "reverse_bits(uchar(1))", "hadd(7, 4)", "rhadd(7, 4)", "clamp(9, 1, 5)", "max(2, -3)", "min3(3, 1, 2)",
         "clz(0u)", "ctz(ushort(0))", "median3(3, 1, 2)", "mad24(3, 4, 5)", "max(int2(1, 5), int2(3, 2)).y"]
    )  # fmt: skip
    expected = [31, 7, 63, 3, 8, 16, 3, 3, 255, 0, 127, 2, 3, 0xBC, 48, 128, 5, 6, 5, 2, 1, 32, 16, 2, 17, 5]
    np.testing.assert_array_equal(y, np.float32(expected))


@pytest.mark.parametrize(
    "name", ["exp", "exp2", "log2", "sqrt", "sin", "tanh", "floor", "rint", "rsqrt", "fabs", "ceil", "trunc", "atan"]
)
def test_math_functions(name: str, values) -> None:
    """Within 4 units in the last place of float64, the loosest bound of the C library's functions used."""
    a = np.abs(values[0]) + np.float32(0.1)
    reference = {"rsqrt": lambda x: 1 / np.sqrt(x), "atan": np.arctan}.get(name) or getattr(np, name)
    expected = reference(a.astype(np.float64))
    y = elementwise(f"y[i] = metal::{name}(a[i]);", mx.float32, a)
    assert (np.abs(y - expected) <= 4 * np.spacing(np.abs(expected).astype(np.float32))).all()
    half = a.astype(np.float16)
    once = reference(half.astype(np.float64))
    y = elementwise(f"y[i] = {name}(a[i]);", mx.float16, half)
    assert (np.abs(y - once) <= np.spacing(np.abs(once).astype(np.float16))).all()


def test_math_of_bfloat_is_mlxs() -> None:
    y = evaluate(["exp(1.0bf)", "max(1.0bf, 2.0bf)", "sizeof(exp(1.0bf))", "simd_sum(1.0bf)"])
    np.testing.assert_array_equal(y, [2.71875, 2, 2, 1])


def test_more_functions_of_floats() -> None:
    setup = "int e; float m = frexp(8.0f, e); float w; float f = modf(2.75f, w); float c; float s = sincos(0.0f, c);"
    y = evaluate(
        ["m", "e", "f", "w", "s + c", "ldexp(1.5f, 3)", "fma(2.0f, 3.0f, 4.0f)", "saturate(1.5f)",
         "mix(1.0f, 3.0f, 0.5f)",
         "step(1.0f, 0.5f)", "sign(-2.0f)", "sinpi(1.0f)", "cospi(1.0f)", "fract(-0.25f)", "clamp(5.0f, 0.0f, 2.0f)",
         "dot(float3(1, 2, 3), float3(4, 5, 6))", "length(float2(3, 4))", "cross(float3(1, 0, 0), float3(0, 1, 0)).z",
         "isnan(NAN)", "isinf(INFINITY)", "isfinite(half(INFINITY))", "select(1.0f, 2.0f, true)", "fast::exp(0.0f)",
         "precise::sqrt(4.0f)", "powr(2.0f, 3.0f)", "exp10(2.0f)", "fmedian3(3.0f, 1.0f, 2.0f)", "fmax(NAN, 1.0f)",
         "exp(float2(0.0f)).y", "min(float2(1, 5), 2.0f).y", "unpack_unorm4x8_to_float(0xff000000u).w",
         "pack_float_to_unorm4x8(float4(1, 0, 0, 0))", "ilogb(9.0f)", "nextafter(1.0f, 2.0f) > 1.0f"],
        setup,
    )  # fmt: skip
    expected = [
        0.5, 4, 0.75, 2, 1, 12, 10, 1, 2, 0, -1, 0, -1, 0.75, 2, 32, 5, 1, 1, 1, 0, 2, 1, 2, 8, 100, 2, 1, 1, 2, 1, 255,
        3, 1,
    ]  # fmt: skip
    np.testing.assert_allclose(y, expected, rtol=1e-6)


def test_limits() -> None:
    y = evaluate(
        ["numeric_limits<half>::max()", "numeric_limits<int>::min() + 1", "isinf(numeric_limits<bfloat>::infinity())",
         "FLT_EPSILON", "numeric_limits<uchar>::max()", "isnan(numeric_limits<float>::quiet_NaN())"]
    )  # fmt: skip
    np.testing.assert_array_equal(y, np.float32([65504, -(2**31) + 1, 1, 2**-23, 255, 1]))


def test_traits_see_through_address_spaces() -> None:
    y = evaluate(
        ["is_same_v<remove_reference_t<decltype(x[0])>, const device float>",
         "is_same_v<decay_t<decltype(x[0])>, float>",
         "is_integral_v<uchar>", "is_floating_point_v<bfloat>", "is_signed_v<half>", "is_unsigned_v<uint>",
         "is_same_v<remove_addrspace_t<threadgroup int>, int>", "(conditional_t<true, int, float>(2.5f))"]
    )  # fmt: skip
    np.testing.assert_array_equal(y, [1, 1, 1, 1, 1, 1, 1, 2])


# ---- Simdgroups

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


# ---- Matrices

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


# ---- Atomics


@pytest.mark.parametrize("options", SCHEDULES, ids=str)
def test_atomics_in_device_and_threadgroup_memory(options: native.Options) -> None:
    body = """
      const auto relaxed = memory_order_relaxed;
      threadgroup atomic_uint count;
      threadgroup atomic_int least;
      const uint i = thread_position_in_grid.x;
      if (thread_index_in_threadgroup == 0) {
        atomic_store_explicit(&count, 0u, relaxed);
        atomic_store_explicit(&least, 1000, relaxed);
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
      atomic_fetch_add_explicit(&count, 1u, relaxed);
      atomic_fetch_min_explicit(&least, int(i), relaxed);
      threadgroup_barrier(mem_flags::mem_threadgroup);
      if (thread_index_in_threadgroup == 0) {
        atomic_fetch_add_explicit(&y[0], float(atomic_load_explicit(&count, relaxed)), relaxed);
        atomic_fetch_add_explicit(&y[1], float(atomic_load_explicit(&least, relaxed)), relaxed);
      }
      atomic_fetch_add_explicit(&y[2], x[i], relaxed);
      float seen = atomic_load_explicit(&y[3], relaxed);
      while (!atomic_compare_exchange_weak_explicit(
          &y[3], &seen, max(seen, x[i]), relaxed, relaxed)) {
      }
    """
    x = np.arange(256, dtype=np.float32)
    call = Call(
        body,
        {"x": mx.array(x)},
        {"y": ((4,), mx.float32)},
        grid=(256, 1, 1),
        threadgroup=(64, 1, 1),
        atomic_outputs=True,
    )
    [y] = call.run(MslHost(options), init_value=0)
    np.testing.assert_array_equal(y, [256, 0 + 64 + 128 + 192, x.sum(), 255])


def test_the_last_group_may_read_what_the_others_wrote() -> None:
    """The pattern of a split-K product that finishes in one launch: write, fence, count, and the last one adds up."""
    body = """
      threadgroup uint turn;
      const uint lane = thread_index_in_threadgroup, group = threadgroup_position_in_grid.x;
      device atomic_uint* counter = (device atomic_uint*)count;
      partial[group * 32 + lane] = x[group * 32 + lane];
      atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device);
      threadgroup_barrier(mem_flags::mem_device);
      if (lane == 0) {
        turn = atomic_fetch_add_explicit(counter, 1u, memory_order_relaxed);
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
      if (turn == 3) {
        atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device);
        float sum = 0;
        for (uint g = 0; g < 4; g++) {
          sum += partial[g * 32 + lane];
        }
        y[lane] = sum;
      }
    """
    x = np.random.default_rng(1).integers(-9, 9, (4, 32)).astype(np.float32)
    outputs = {"y": ((32,), mx.float32), "partial": ((128,), mx.float32), "count": ((1,), mx.uint32)}
    call = Call(body, {"x": mx.array(x)}, outputs, grid=(128, 1, 1), threadgroup=(32, 1, 1))
    for options in SCHEDULES:
        np.testing.assert_array_equal(call.run(MslHost(options), init_value=0)[0], x.sum(0))
