"""Taking down what MLX prints, without a Metal device."""

from __future__ import annotations

import os
import sys

import mlx.core as mx
import pytest

from autotune.devices.msl_host.errors import HostError
from autotune.devices.msl_host.record import record


def kernel(name: str, body: str):
    made = mx.fast.metal_kernel(name=name, input_names=["x"], output_names=["y"], source=body)

    def start(x: mx.array):
        return made(
            inputs=[x],
            grid=(8, 1, 1),
            threadgroup=(8, 1, 1),
            output_shapes=[x.shape],
            output_dtypes=[x.dtype],
            verbose=True,
        )[0]

    return start


X = mx.zeros((8,))


def test_the_source_is_what_mlx_prints() -> None:
    [source] = record(kernel("one", "y[thread_position_in_grid.x] = x[0];"), X)
    assert source.startswith("[[kernel]] void custom_kernel_one_")
    assert "y[thread_position_in_grid.x] = x[0];" in source
    assert "```" not in source


def test_several_launches_give_several_sources_in_order() -> None:
    first = kernel("first", "y[thread_position_in_grid.x] = x[0];")
    second = kernel("second", "y[thread_position_in_grid.x] = 2 * x[0];")
    sources = record(lambda x: second(first(x)), X)
    assert ["custom_kernel_first" in sources[0], "custom_kernel_second" in sources[1]] == [True, True]


def test_standard_output_is_as_before(capfd: pytest.CaptureFixture[str]) -> None:
    sys.stdout.write("before ")
    record(kernel("one", "y[0] = thread_index_in_threadgroup;"), X)
    os.write(1, b"after")
    sys.stdout.flush()
    assert capfd.readouterr().out == "before after"


def test_standard_output_comes_back_when_the_call_raises(capfd: pytest.CaptureFixture[str]) -> None:
    def fails(x: mx.array) -> mx.array:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        record(fails, X)
    os.write(1, b"still here")
    assert capfd.readouterr().out == "still here"


def test_a_call_that_starts_no_kernel_is_an_error() -> None:
    with pytest.raises(HostError, match="started no"):
        record(lambda x: x + 1, X)
