"""Launches of our own kernels through the host, as a kernel family makes them."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from autotune.devices.msl_host import native, runner
from autotune.devices.msl_host.errors import HostError
from autotune.devices.msl_host.host import MslHost
from autotune.devices.msl_host.runner import Runner
from autotune.kernels import launch
from autotune.kernels.program import Program

BODY = """
const int rows = x_shape[0], columns = x_shape[1];
const uint i = thread_position_in_grid.x;
if (i < uint(rows * columns)) {
  y[i] = T(float(x[(i / columns) * x_strides[0] + (i % columns) * x_strides[1]]) * FACTOR + sizes[0]);
}
"""


def program(kind: str = "half", contiguous: bool = False, factor: int = 2) -> Program:
    header = f"#define T {kind}\n#define FACTOR {factor}\n"
    return Program("runner", ("sizes", "x"), ("y",), header, BODY, contiguous)


def doubled(x: mx.array, given: Program) -> mx.array:
    return launch.Start(given, (3,), (x.size, 1, 1), (32, 1, 1), x.shape, x.dtype)(x)


def value(x: mx.array) -> np.ndarray:
    return np.array(x.astype(mx.float32))


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize(
    ("dtype", "kind"), [(mx.float32, "float"), (mx.float16, "half"), (mx.bfloat16, "bfloat")], ids=str
)
def test_arrays_go_through_with_their_dtypes_and_strides(dtype: mx.Dtype, kind: str, check: bool) -> None:
    base = mx.arange(48).reshape(6, 8).astype(dtype)
    with launch.through(Runner(MslHost(native.Options(check=check)))):
        for x in (base, base.T, base[1:5, 2:7], base[::2, ::3], base.T[1:3], mx.broadcast_to(base[0], (3, 8))):
            y = doubled(x, program(kind))
            assert y.dtype == dtype
            np.testing.assert_array_equal(value(y), value(x) * 2 + 3)


def test_inputs_are_made_contiguous_where_the_program_asks() -> None:
    x = mx.arange(12).reshape(3, 4).astype(mx.float16).T
    with launch.through(Runner()):
        np.testing.assert_array_equal(value(doubled(x, program(contiguous=True))), value(x) * 2 + 3)


def test_a_source_is_recorded_once_for_all_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = []
    original = runner.record
    monkeypatch.setattr(runner, "record", lambda *given: recorded.append(1) or original(*given))
    given = program(factor=5)
    with launch.through(Runner()):
        for size in (16, 17, 64):
            doubled(mx.zeros((size, 2), mx.float16), given)
        assert len(recorded) == 1
        doubled(mx.zeros((2, 2), mx.float16), given)  # small: another way of passing
        assert len(recorded) == 2


def test_launches_are_counted() -> None:
    counting = Runner()
    with launch.through(counting):
        doubled(mx.zeros((4, 4), mx.float16), program())
        doubled(mx.zeros((4, 4), mx.float16), program())
    assert counting.launches == 2


def test_errors_reach_the_caller() -> None:
    with launch.through(Runner()), pytest.raises(HostError, match="undeclared"):
        doubled(mx.zeros((4, 4)), program("no_such_type"))
