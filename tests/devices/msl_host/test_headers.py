"""Metal's words mean here what the Metal Shading Language Specification says: numbers bit for bit against numpy."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from autotune.devices.msl_host.host import from_bfloat16, to_bfloat16

from .calls import Call, evaluate


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
