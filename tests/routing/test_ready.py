"""Launches kept ready for weights: taken exactly where the call is the one that was looked at before.

What is launched is a stand-in that counts; the device that it is for is the CPU here.
"""

from __future__ import annotations

import contextlib
import gc

import mlx.core as mx
import pytest

import autotune
from autotune import kernels
from autotune.mlx_ops import ORIGINAL
from autotune.routing import ops, ready, resolve, router, switch

pytestmark = pytest.mark.usefixtures("shipped_tables", "isolated")
N, K, M = 64, 256, 4
STOCK = ORIGINAL["quantized_matmul"]


class Op:
    """The route's bare op: stock, counting calls that come as the op's and launches that come ready."""

    def __init__(self) -> None:
        self.calls = self.launches = 0
        self.broken = False

    def __call__(self, *args, **kwargs):
        self.calls += 1
        return STOCK(*args, **kwargs)

    def ready(self, x, w):
        def launch(arrays, stream):
            if self.broken:
                raise RuntimeError("no such kernel here")
            self.launches += 1
            return STOCK(*arrays, group_size=64, bits=4, stream=stream)

        return launch


@pytest.fixture
def op(write_table, monkeypatch) -> Op:
    """A table with a route for x of M rows in float32 and float16, whose bare op is a stand-in."""
    made = Op()
    rows = [(M, M, "pad multiple=8 fill=zeros")]
    families = {f"quantized_matmul N={N} K={K} {dtype} affine-b4-g64 nt": rows for dtype in ("f32", "f16")}
    build = kernels.build
    monkeypatch.setattr(kernels, "build", lambda route, p, bare=False: made if bare else build(route, p))
    monkeypatch.setattr(ops, "_GPU", mx.default_device().type)
    monkeypatch.setattr(resolve, "kind_of", lambda gpu: "cpu")
    autotune.use_table(write_table(families))
    router.ROUTERS.switch(True, bare=True)
    return made


class Weights:
    def __init__(self, seed: int = 0, dtype: mx.Dtype = mx.float32) -> None:
        self.x = mx.random.normal((M, K), key=mx.random.key(seed)).astype(dtype)
        stored = mx.random.normal((N, K), key=mx.random.key(seed + 1)).astype(dtype)
        self.w, self.scales, self.biases = mx.quantize(stored)

    def call(self, **changed):
        given = {"x": self.x, "w": self.w, "scales": self.scales, "biases": self.biases, **changed}
        rest = {"transpose": True, "group_size": 64, "bits": 4, **given}
        x, w = rest.pop("x"), rest.pop("w")
        return autotune.quantized_matmul(x, w, **rest)

    def expected(self) -> mx.array:
        return STOCK(self.x, self.w, self.scales, self.biases, True, 64, 4)


def test_the_second_call_is_launched_at_once(op):
    weights = Weights()
    for _ in range(3):
        assert mx.array_equal(weights.call(), weights.expected())
    assert (op.calls, op.launches) == (1, 2)


def test_other_weights_are_looked_at_themselves(op):
    first, second = Weights(0), Weights(7)
    for weights in (first, second, first, second):
        assert mx.array_equal(weights.call(), weights.expected())
    assert (op.calls, op.launches) == (2, 2)


@pytest.mark.parametrize(
    "changed",
    [
        {"scales": "copy"},
        {"biases": "copy"},
        {"w": "copy"},
        {"x": "rows"},
        {"x": "dtype"},
        {"bits": None},
        {"group_size": None},
        {"mode": "affin" + "e"[:1]},
        {"stream": mx.cpu},
    ],
    ids=str,
)
def test_what_differs_is_looked_at(op, changed):
    """All of these are right calls; none but the equal mode may take what was kept."""
    weights = Weights()
    weights.call()
    ((name, how),) = changed.items()
    if how == "copy":
        changed = {name: mx.array(getattr(weights, name))}
    elif how == "rows":
        changed = {name: weights.x[: M - 1]}
    elif how == "dtype":
        changed = {name: weights.x.astype(mx.float16)}
    out = weights.call(**changed)
    wanted = {"x": weights.x, **changed}
    assert mx.array_equal(out, STOCK(wanted["x"], weights.w, weights.scales, weights.biases, True, 64, 4))
    assert op.launches == int(name == "mode")


@pytest.mark.parametrize("changed", [{"transpose": 1}, {"bits": 4.0}, {"x": None}, {"scales": 3}, {"mode": "other"}])
def test_a_wrong_call_is_stocks_error(op, changed):
    weights = Weights()
    weights.call()
    with pytest.raises((TypeError, ValueError)):
        weights.call(**changed)
    assert op.launches == 0
    assert not router.ROUTERS._broken


@pytest.mark.parametrize("name", ["scales", "biases"])
def test_an_array_that_was_promoted_in_place(op, name):
    weights = Weights(dtype=mx.float16)
    weights.call()
    array = getattr(weights, name)
    array += mx.array(1.0, mx.float32)
    assert array.dtype == mx.float32
    out = weights.call()
    assert (out.dtype, op.launches) == (mx.float32, 0)


def test_arrays_that_were_broadcast_in_place(op):
    """They are the operands of a batch then, which is another product."""
    weights = Weights()
    weights.x = weights.x[None]
    weights.call()
    weights.w |= mx.zeros((2, *weights.w.shape), mx.uint32)
    weights.scales += mx.zeros((2, *weights.scales.shape))
    weights.biases += mx.zeros((2, *weights.biases.shape))
    assert weights.call().shape == (2, M, N)
    assert op.launches == 0


@pytest.mark.parametrize("name", ["w", "scales", "biases"])
def test_one_array_that_was_broadcast_in_place(op, name):
    weights = Weights()
    weights.call()
    array = getattr(weights, name)
    array += mx.zeros((2, *array.shape), array.dtype)
    with contextlib.suppress(ValueError):  # what stock makes of it is stock's business
        weights.call()
    assert op.launches == 0


def test_a_call_that_names_a_stream_is_not_kept(op):
    weights = Weights()
    assert mx.array_equal(weights.call(stream=mx.cpu), weights.expected())
    assert (op.calls, ready.WEIGHTS) == (1, {})


def test_packed_weights_that_became_numbers_are_stocks_error(op):
    weights = Weights()
    weights.call()
    weights.w *= 1.0
    assert weights.w.nbytes == weights.w.size * 4
    with pytest.raises(ValueError, match="uint32"):
        weights.call()
    assert op.launches == 0


def test_biases_that_are_gone_are_not_biases_that_never_were(op):
    weights = Weights(dtype=mx.float16)
    weights.call()
    weights.biases = None
    gc.collect()
    weights.scales += mx.array(1.0, mx.float32)
    with pytest.raises(ValueError, match="iases"):
        weights.call()
    assert op.launches == 0


def test_what_was_looked_up_before_a_change_is_not_kept(op, monkeypatch):
    """A switch, in another thread, while a call is under way; and a route that fails and is not to be used again."""
    weights = Weights()
    call = Op.__call__
    monkeypatch.setattr(Op, "__call__", lambda self, *args, **kwargs: (ops.forget(), call(self, *args, **kwargs))[1])
    weights.call()
    assert ready.WEIGHTS == {}

    def fails(self, *args, **kwargs):
        raise RuntimeError("no such kernel here")

    monkeypatch.setattr(Op, "__call__", fails)
    with pytest.warns(router.RoutingWarning, match="not used again"):
        assert mx.array_equal(weights.call(), weights.expected())
    assert ready.WEIGHTS == {}


def test_nothing_is_kept_of_weights_that_are_gone(op):
    weights = Weights()
    weights.call()
    assert len(ready.WEIGHTS) == 1
    del weights
    gc.collect()
    assert ready.WEIGHTS == {}


def test_few_shapes_are_kept(op, monkeypatch):
    monkeypatch.setattr(ready, "MOST_SHAPES", 2)
    weights = Weights()
    for lead in ((), (1,), (1, 1), (1, 1, 1)):
        for _ in range(2):
            weights.call(x=weights.x.reshape(*lead, M, K))
        ((*_, launches),) = ready.WEIGHTS.values()
        assert 1 <= len(launches) <= 2
    assert (op.calls, op.launches) == (4, 4)


def test_inside_transformations_and_on_stock_every_call_is_looked_at(op):
    weights = Weights()
    weights.call()
    with router.ROUTERS.transforming():
        weights.call()
    with switch.stock():
        weights.call()
    assert op.launches == 0
    weights.call()
    assert op.launches == 1


def test_a_new_table_or_switch_counts_at_once(op, write_table):
    weights = Weights()
    for change in (lambda: router.ROUTERS.switch(True), switch.disable, lambda: autotune.use_table(None)):
        router.ROUTERS.switch(True, bare=True)
        weights.call()
        change()
        assert ready.WEIGHTS == {}
        launches = op.launches
        weights.call()
        assert op.launches == launches


def test_a_launch_that_fails_goes_the_long_way(op):
    weights = Weights()
    weights.call()
    op.broken = True
    assert mx.array_equal(weights.call(), weights.expected())
    assert (op.calls, op.launches) == (2, 0)


def test_on_another_device_it_is_looked_at(op, monkeypatch):
    weights = Weights()
    weights.call()
    monkeypatch.setattr(ops, "_GPU", None)
    assert mx.array_equal(weights.call(), weights.expected())
    assert op.launches == 0
