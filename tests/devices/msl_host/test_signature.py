"""What is read from the sources that MLX generates, and the entry made from it."""

from __future__ import annotations

import mlx.core as mx
import pytest

from autotune.devices.msl_host import signature
from autotune.devices.msl_host.errors import HostError

from .calls import Call

BODY = """
  uint i = thread_position_in_grid.x;
  y[i] = x[i] * x_shape[0] + x_strides[0] + x_ndim + p[0] + s + simd_sum(thread_index_in_simdgroup);
"""
INPUTS = {"x": mx.zeros((4, 4), mx.float16), "p": mx.zeros((3,), mx.bfloat16), "s": mx.array(2, mx.int32)}


def test_reads_buffers_in_order_with_what_belongs_to_them() -> None:
    parsed = signature.parse(Call(BODY, INPUTS, {"y": ((16,), mx.float32)}).source())
    assert [(b.name, b.role, b.array, b.type, b.space) for b in parsed.buffers] == [
        ("x", "input", "x", "float16_t", "device"),
        ("x_shape", "shape", "x", "int", "constant"),
        ("x_strides", "strides", "x", "int64_t", "constant"),
        ("x_ndim", "ndim", "x", "int", "constant"),
        ("p", "input", "p", "bfloat16_t", "constant"),
        ("s", "input", "s", "int32_t", "constant"),
        ("y", "output", "y", "float", "device"),
    ]
    assert [b.name for b in parsed.buffers if b.reference] == ["x_ndim", "s"]
    assert [b.name for b in parsed.buffers if b.writable] == ["y"]
    assert [(a.name, a.type) for a in parsed.attributes] == [
        ("thread_index_in_simdgroup", "uint"),
        ("thread_position_in_grid", "uint3"),
    ]


def test_the_entry_passes_addresses_references_and_positions() -> None:
    entry = signature.parse(Call(BODY, INPUTS, {"y": ((16,), mx.float32)}).source()).entry()
    assert "reinterpret_cast<const device float16_t*>(msl_buffers[0])" in entry
    assert "*reinterpret_cast<const constant int32_t*>(msl_buffers[5])" in entry
    assert "reinterpret_cast<device float*>(msl_buffers[6])" in entry
    assert "__msl_attr(MSL_THREAD_INDEX_IN_SIMDGROUP)" in entry
    assert "MSL_THREAD_POSITION_IN_GRID + 2" in entry


def test_template_arguments_are_those_of_the_instance() -> None:
    call = Call("y[0] = T(N) + B;", {"x": mx.zeros((8,))}, {"y": ((1,), mx.float16)})
    source = Call(**{**vars(call), "template": (("T", mx.float16), ("N", 4), ("B", True))}).source()
    assert signature.parse(source).arguments == "<float16_t, 4, 1>"
    assert "host_name" not in signature.without_instance(source)
    assert signature.without_instance(source).count("\n") == source.count("\n")


def test_an_input_named_like_a_shape_is_an_input() -> None:
    inputs = {"x": mx.zeros((8,)), "x_shape": mx.zeros((2,), mx.int32)}
    parsed = signature.parse(Call("y[0] = x[0];", inputs, {"y": ((1,), mx.float32)}).source())
    assert [b.role for b in parsed.buffers] == ["input", "input", "output"]


def test_atomic_outputs() -> None:
    call = Call("(void)y; uint i = thread_index_in_threadgroup;", {"x": mx.zeros((8,))}, {"y": ((1,), mx.float32)})
    parsed = signature.parse(Call(**{**vars(call), "atomic_outputs": True}).source())
    assert parsed.outputs[0].type == "atomic<float>"


def test_the_body_begins_where_the_signature_ends() -> None:
    call = Call("FIRST\n", {"x": mx.zeros((8,))}, {"y": ((1,), mx.float32)}, header="#define FIRST y[0] = x[0];\n")
    source = call.source()
    assert source.split("\n")[signature.body_line(source) - 1] == "FIRST"


def test_what_mlx_did_not_write_is_refused() -> None:
    with pytest.raises(HostError, match="no kernel"):
        signature.parse("kernel void f(device float* x) {}")
    with pytest.raises(HostError, match="sampler s"):
        signature.parse("[[kernel]] void custom_kernel_f(\n  sampler s [[sampler(0)]]) {\n}")
