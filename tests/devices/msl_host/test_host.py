"""The host's face: what is passed to a kernel, what comes back, and how what is wrong is told."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from autotune.devices.msl_host import native
from autotune.devices.msl_host.errors import HostError
from autotune.devices.msl_host.host import Bits, MslHost, from_bfloat16, to_bfloat16

from .calls import CHECK, ONE, Call

COPY = "uint i = thread_position_in_grid.x;\ny[i] = x[i];"
X = {"x": mx.arange(64).astype(mx.float32)}
Y = {"y": ((64,), mx.float32)}


def wrong(body: str, options: native.Options = CHECK, header: str = "", **call) -> HostError:
    """The error of a body over 64 floats in one threadgroup."""
    given = {"grid": (64, 1, 1), "threadgroup": (64, 1, 1), **call}
    with pytest.raises(HostError) as error:
        Call(body, X, Y, header, **given).run(MslHost(options))
    return error.value


def test_views_are_passed_with_their_strides_and_not_copied() -> None:
    body = """uint i = thread_position_in_grid.x;
    uint row = i / x_shape[1], column = i % x_shape[1];
    y[i] = x[row * x_strides[0] + column * x_strides[1]] + 100 * x_ndim;"""
    base = np.arange(48, dtype=np.float32).reshape(6, 8)
    source = Call(body, {"x": mx.zeros((4, 3))}, {"y": ((12,), mx.float32)}).source()
    for view in (base[:4, :3], base[1:5, 2:8:2], base.T[2:6, 1:4], np.broadcast_to(base[0, :3], (4, 3))):
        [y] = MslHost(CHECK).run(source, [view], [((12,), "float32")], (12, 1, 1), (12, 1, 1))
        np.testing.assert_array_equal(y.reshape(4, 3), view + 200)


def test_reading_beyond_a_view_is_an_error_though_its_base_goes_on() -> None:
    base = np.arange(128, dtype=np.float32)
    source = Call(COPY, X, Y).source()
    host = MslHost(CHECK)
    with pytest.raises(HostError) as error:
        host.run(source, [base[:63]], [((64,), "float32")], (64, 1, 1), (64, 1, 1))
    assert error.value.kind == "out-of-bounds"
    assert error.value.lines[0].endswith("y[i] = x[i];")


def test_a_negative_stride_is_refused() -> None:
    with pytest.raises(HostError, match="negative stride"):
        MslHost().run(
            Call(COPY, X, Y).source(), [np.zeros(64, np.float32)[::-1]], [((64,), "float32")], (1, 1, 1), (1, 1, 1)
        )


def test_bfloat16_travels_as_bits() -> None:
    x = np.random.default_rng(0).standard_normal(64).astype(np.float32)
    source = Call(COPY, {"x": mx.zeros((64,), mx.bfloat16)}, {"y": ((64,), mx.bfloat16)}).source()
    [y] = MslHost().run(source, [Bits(to_bfloat16(x))], [((64,), "bfloat16")], (64, 1, 1), (64, 1, 1))
    assert isinstance(y, Bits)
    np.testing.assert_array_equal(y.array, to_bfloat16(x))


def test_bfloat16_rounds_as_mlx_does() -> None:
    x = np.concatenate([np.random.default_rng(0).standard_normal(1000), [np.inf, -np.inf, 3.4e38, 1e-40, 0.0]])
    x = x.astype(np.float32)
    np.testing.assert_array_equal(
        from_bfloat16(to_bfloat16(x)), np.array(mx.array(x).astype(mx.bfloat16).astype(mx.float32))
    )
    assert np.isnan(from_bfloat16(to_bfloat16(np.float32([np.nan])))).all()


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16, mx.int32, mx.uint8])
def test_what_is_not_written_shows(dtype: mx.Dtype) -> None:
    call = Call("if (thread_position_in_grid.x > 0) y[1] = 1;", X, {"y": ((3,), dtype)}, grid=(2, 1, 1))
    [y] = call.run()
    assert y[1] == 1
    others = y[[0, 2]]
    assert np.isnan(others).all() if others.dtype.kind == "f" else (others.view(np.uint8) == 0xFB).all()


def test_in_check_mode_it_is_an_error() -> None:
    assert wrong("y[0] = 1;", grid=(1, 1, 1), threadgroup=(1, 1, 1)).kind == "unwritten"
    call = Call("if (thread_position_in_grid.x == 0) y[0] = 1;", X, Y)
    assert np.isnan(call.run(MslHost(CHECK, complete=False))[0][1:]).all()
    np.testing.assert_array_equal(call.run(MslHost(CHECK), init_value=7)[0][1:], 7)


def test_scalars_and_small_inputs() -> None:
    inputs = {"s": mx.array(2.5), "p": mx.array([1, 2, 3]), "b": mx.array([True, False])}
    [y] = Call("y[0] = s + p[2] + b[0] + b[1];", inputs, {"y": ONE}).run()
    assert y[0] == 6.5


def test_grids_are_in_threads_and_the_last_group_is_smaller() -> None:
    body = """uint3 p = thread_position_in_grid, n = threads_per_grid;
    y[(p.z * n.y + p.y) * n.x + p.x] = threads_per_threadgroup.x + 10 * threadgroup_position_in_grid.x
        + 100 * thread_position_in_threadgroup.y + 1000 * grid_size.z;"""
    [y] = Call(body, X, {"y": ((2, 4, 5), mx.float32)}, grid=(5, 4, 2), threadgroup=(2, 2, 1)).run(MslHost(CHECK))
    x, rows = np.arange(5), np.arange(4)
    expected = np.where(x < 4, 2, 1) + 10 * (x // 2) + 100 * (rows % 2)[:, None] + 2000
    np.testing.assert_array_equal(y, np.broadcast_to(expected, (2, 4, 5)))


def test_arguments_have_to_be_those_of_the_source() -> None:
    source = Call(COPY, X, Y).source()
    x = np.zeros(64, np.float32)
    with pytest.raises(HostError, match="x is float16, the source was recorded for float"):
        MslHost().run(source, [x.astype(np.float16)], [((64,), "float32")], (64, 1, 1), (64, 1, 1))
    with pytest.raises(HostError, match="inputs and outputs"):
        MslHost().run(source, [x, x], [((64,), "float32")], (64, 1, 1), (64, 1, 1))


def test_sources_are_independent_of_shapes() -> None:
    assert Call(COPY, X, Y).source() == Call(COPY, {"x": mx.zeros((9, 9))}, {"y": ((3, 3), mx.float32)}).source()


TILE = "threadgroup float s[64];\nconst uint i = thread_index_in_threadgroup;\n"
FILLED = TILE + "s[i] = 0;\nthreadgroup_barrier(mem_flags::mem_threadgroup);\n"


@pytest.mark.parametrize(
    ("kind", "line", "body"),
    [
        ("race", "y[i] = s[i ^ 1];", FILLED + "s[i] = x[i];\ny[i] = s[i ^ 1];"),
        (
            "race",
            "y[i] = s[63 - i];",
            FILLED + "s[i] = x[i];\nsimdgroup_barrier(mem_flags::mem_threadgroup);\ny[i] = s[63 - i];",
        ),
        ("race", "y[0] = x[i];", "const uint i = thread_index_in_threadgroup;\ny[0] = x[i];"),
        (
            "uninitialised",
            "y[i] = s[63 - i];",
            TILE + "if (i < 60) s[i] = x[i];\nthreadgroup_barrier(mem_flags::mem_threadgroup);\ny[i] = s[63 - i];",
        ),
        ("out-of-bounds", "y[i] = x[i + 1];", "const uint i = thread_index_in_threadgroup;\ny[i] = x[i + 1];"),
        ("out-of-bounds", "y[i + 1] = x[i];", "const uint i = thread_index_in_threadgroup;\ny[i + 1] = x[i];"),
        ("out-of-bounds", "s[i + 1] = x[i];", TILE + "s[i + 1] = x[i];\ny[i] = 0;"),
        ("read-only", "((device float*)x)[i] = 1;", TILE + "((device float*)x)[i] = 1;\ny[i] = 0;"),
        (
            "divergence",
            "if (i & 1) y[i] = simd_sum(x[i]);",
            TILE + "if (i & 1) y[i] = simd_sum(x[i]);\nelse y[i] = simd_max(x[i]);",
        ),
        ("threadgroup-memory", "", "threadgroup float s[8193];\ns[0] = 1;\ny[0] = s[0];"),
    ],
)
def test_errors_say_what_and_where(kind: str, line: str, body: str) -> None:
    error = wrong(body)
    assert error.kind == kind
    assert not line or any(place.endswith(line) for place in error.lines), error.lines


def test_more_threads_than_a_threadgroup_may_have() -> None:
    assert wrong("y[0] = 1;", grid=(2048, 1, 1), threadgroup=(2048, 1, 1)).kind == "threads"


def test_wide_accesses_are_checked() -> None:
    """Eight floats at once, which clang's instrumentation alone does not see."""
    body = "const device vec<float, 8>* v = (const device vec<float, 8>*)x;\ny[0] = v[8][7];"
    error = wrong(body, grid=(1, 1, 1), threadgroup=(1, 1, 1))
    assert error.kind == "out-of-bounds"
    assert error.lines[0].endswith("y[0] = v[8][7];")


def test_an_error_leaves_the_host_usable() -> None:
    wrong("y[thread_position_in_grid.x] = x[64];", native.Options())
    np.testing.assert_array_equal(Call(COPY, X, Y, grid=(64, 1, 1)).run()[0], np.arange(64))
