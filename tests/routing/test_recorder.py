"""A recorder counts every call, in whatever way a program makes it, and changes none."""

from __future__ import annotations

import inspect
import threading

import mlx.core as mx
import mlx.nn as nn
import pytest

import autotune
from autotune.mlx_ops import ORIGINAL
from autotune.problem import Problem
from autotune.routing import ops, products
from autotune.routing import recorder as module
from autotune.routing.recorder import Recorder

pytestmark = pytest.mark.usefixtures("shipped_tables")


@pytest.fixture
def recorder():
    recorder = Recorder()
    recorder.start()
    with pytest.warns(autotune.RoutingWarning):
        autotune.enable(rules=False)
    return recorder


def counted(recorder):
    return {str(problem): number for (problem, _), number in recorder.calls.items()}


A, B = mx.ones((3, 64)), mx.ones((64, 32))
TEXT = "matmul M=3 N=32 K=64 f32 nt"


def test_every_way_to_call(recorder):
    mx.matmul(A, B)
    A @ B
    ops.matmul(A, B, stream=mx.cpu)
    mx.addmm(mx.ones((32,)), A, B, alpha=1)
    mx.addmm(mx.ones((3, 32)), A, B)
    w = mx.quantize(B.T)
    mx.quantized_matmul(A, *w, group_size=64)
    mx.quantized_matmul(A, w[0], scales=w[1], biases=w[2], transpose=True, bits=4)
    assert counted(recorder) == {
        TEXT: 3,
        "addmm M=3 N=32 K=64 f32 nt row": 1,
        "addmm M=3 N=32 K=64 f32 nt full": 1,
        "quantized_matmul M=3 N=32 K=64 f32 affine-b4-g64 nt": 2,
    }
    assert not recorder.outside


def test_both_16_bit_dtypes_and_both_addends_are_told_apart(recorder):
    for dtype in (mx.float16, mx.bfloat16):
        a, b = A.astype(dtype), B.astype(dtype)
        for c in (mx.ones((32,), dtype), mx.ones((3, 32), dtype)):
            mx.addmm(c, a, b)
    assert len(recorder.calls) == 4


def test_layers_gradients_and_compiled_functions(recorder):
    layer = nn.Linear(64, 32)
    mx.eval(nn.value_and_grad(layer, lambda model, x: model(x).sum())(layer, A))
    compiled = mx.compile(lambda x: layer(x))
    for _ in range(3):
        mx.eval(compiled(mx.ones((5, 64))))
    assert counted(recorder) == {
        "addmm M=3 N=32 K=64 f32 nt row": 1,
        "addmm M=5 N=32 K=64 f32 nt row": 1,
    }


def test_what_is_none_is_counted_by_reason(recorder):
    A[0] @ B
    mx.matmul(A, B[:, 0])
    A.astype(mx.complex64) @ B.astype(mx.complex64)
    with pytest.raises(ValueError, match="matmul"):
        mx.matmul(A, A)
    with pytest.raises(TypeError):
        mx.matmul(A, "text")
    with autotune.stock():
        A @ B
    assert recorder.outside == {"vectors": 2, "complex64": 1, "calls kept on stock": 1}
    assert not recorder.calls


def test_results_and_signatures_are_the_ops(recorder):
    for op, stock in ORIGINAL.items():
        assert getattr(mx, op) is not stock
        assert inspect.signature(getattr(mx, op)) == inspect.signature(module._OPS[op])
    assert mx.array_equal(mx.matmul(A, B), ORIGINAL["matmul"](A, B))


def test_what_cannot_be_noted_is_computed(recorder, monkeypatch):
    monkeypatch.setattr(products, "of_dense", None)
    assert mx.array_equal(mx.matmul(A, B), ORIGINAL["matmul"](A, B))


def test_stop_puts_the_ops_back():
    before = {op: getattr(ops, op) for op in ORIGINAL}
    recorder = Recorder()
    recorder.start()
    assert all(getattr(ops, op) is not before[op] for op in ORIGINAL)
    recorder.stop()
    assert {op: getattr(ops, op) for op in ORIGINAL} == before


def test_threads_count_one_after_another(recorder):
    class Watched(dict):
        def get(self, *args):
            held.append(recorder._lock.locked())
            return super().get(*args)

    held, recorder.calls = [], Watched()
    threads = [threading.Thread(target=lambda: [mx.matmul(A, B) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted(recorder) == {TEXT: 200}
    assert held == [True] * 200


def test_is_bounded(recorder, monkeypatch):
    monkeypatch.setattr(module, "MOST", 2)
    for m in (1, 2, 3, 1):
        mx.matmul(mx.ones((m, 64)), B)
    assert [(problem.m, number) for (problem, _), number in recorder.calls.items()] == [(1, 2), (2, 1)]
    assert recorder.outside == {"products beyond the first 2": 1}


def test_a_product_knows_its_device(recorder):
    mx.matmul(A, B, stream=mx.cpu)
    assert list(recorder.calls) == [(Problem.parse(TEXT), False)]
