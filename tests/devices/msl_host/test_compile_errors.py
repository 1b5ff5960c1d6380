"""Deliberate errors that Metal's compiler is known to refuse, by its specification: the host refuses them too."""

from __future__ import annotations

import re

import mlx.core as mx
import pytest

from autotune.devices.msl_host.errors import HostError
from autotune.devices.msl_host.host import MslHost

from .calls import ONE, Call

LARGE, SMALL = mx.zeros((64,)), mx.zeros((4,))


def refused(body: str, header: str = "", x: mx.array = LARGE) -> HostError:
    with pytest.raises(HostError) as error:
        MslHost().compiled(Call(body, {"x": x}, {"y": ONE}, header).source())
    return error.value


@pytest.mark.parametrize(
    ("body", "header", "message"),
    [
        ("f(x); y[0] = 1;", "void f(thread const float* p) {}\n", "no matching function|cannot|address space"),
        ("threadgroup const float& r = x[0]; y[0] = r;", "", "address space"),
        ("thread float* p = (thread float*)y; p[0] = 1;", "", "address space"),
        ("x[0] = 1; y[0] = 1;", "", "read-only"),
        ("bfloat b = x[0]; y[0] = float(b);", "", "bfloat"),
        ("T b = x[0]; y[0] = float(b);", "#define T bfloat\n", "bfloat"),
        ("half h = 1.0h; bfloat b = h; y[0] = float(b);", "", "half"),
        ("y[0] = float(simd_sum(long(x[0])));", "", "64-bit"),
        ("uint a = 1; int b = 2; y[0] = min(a, b);", "", "ambiguous"),
        ("y[0] = max(2, 1.0f);", "", "ambiguous"),
        ("y[0] = exp(1);", "", "ambiguous"),
        ("device A* a = (device A*)y; a->s(1);", "struct A { float v; void s(float q) thread { v = q; } };\n", "s"),
        ("y[0] = float4(1.0f, 2.0f).x;", "", "wrong number of elements"),
        ("y[0] = as_type<half>(x[0]);", "", "size"),
        ("simdgroup_matrix<float, 4, 4> m; y[0] = 1;", "", "8x8"),
        ("y[0] = atomic_fetch_max_explicit((device atomic_float*)y, 1.0f, memory_order_relaxed);", "", "not for this"),
        ("double d = 1; y[0] = d;", "", "double"),
        ("y[0] = undeclared;", "", "undeclared"),
    ],
)
def test_refused(body: str, header: str, message: str) -> None:
    error = refused(body, header)
    assert error.kind == "compile"
    assert re.search(message, error.detail), error.detail
    assert error.lines, "names no line of the kernel"


def test_a_small_input_lies_in_constant_memory() -> None:
    detail = refused("const device float* p = x; y[0] = p[0];", x=SMALL).detail
    assert "'const device float *' with an lvalue of type 'const constant float *'" in detail


def test_the_line_is_the_authors() -> None:
    error = refused("y[0] = 1;\n// a comment\ny[1] = missing;\n")
    assert error.lines[0].endswith("y[1] = missing;")


def test_a_matrix_product_of_a_shape_that_apple_refuses() -> None:
    header = "#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>\n"
    body = """constexpr auto d = mpp::tensor_ops::matmul2d_descriptor(16, 16, 16);
    mpp::tensor_ops::matmul2d<d, execution_simdgroup> op;
    auto a = op.get_left_input_cooperative_tensor<half, half, float>(); y[0] = a[0];"""
    assert "must be 32" in refused(body, header).detail


def test_files_that_metal_kernel_would_not_find() -> None:
    error = refused("y[0] = 1;", '#include "mlx/backend/metal/kernels/steel/gemm/gemm.h"\n')
    assert error.kind == "source"
