"""What a program has taken of MLX's transformations, as the garbage collector tells it."""

from __future__ import annotations

import gc
import types
from functools import partial

import mlx.core as mx
import mlx.nn as nn
import pytest

from autotune.routing import transforms


def function(x):
    return x


@pytest.fixture
def nothing():
    """What other tests have left behind is cleared away."""
    gc.collect()
    assert transforms.taken() == ""


TREE = {"layers": [{"weight": 0, "bias": 0}, {}, {"weight": None}]}
HELD = {
    "in a module's dictionary": lambda: {"__name__": "program", "grad": mx.grad},
    "in a closure": lambda: (lambda grad: lambda: grad)(mx.grad),
    "in a partial": lambda: partial(mx.vmap, in_axes=0),
    "in a list": lambda: [mx.vjp],
    "in a copy of the module": lambda: types.SimpleNamespace(**vars(mx)),
}
MADE = {
    "grad": lambda: mx.grad(function),
    "value_and_grad": lambda: nn.value_and_grad(nn.Linear(2, 2), function),
    "vmap": lambda: mx.vmap(function),
    "vmap over some": lambda: mx.vmap(function, in_axes=(0, None)),
    "vmap over what is in a dictionary": lambda: mx.vmap(function, in_axes={"a": 0}),
    "vmap over parameters": lambda: mx.vmap(function, in_axes=(TREE, 0), out_axes=TREE),
    "checkpoint": lambda: mx.checkpoint(function),
    "compile of grad": lambda: mx.compile(mx.grad(function)),
}
HARMLESS = {
    "compile": lambda: mx.compile(function),
    "compile shapeless": lambda: mx.compile(function, shapeless=True),
    "compile with state": lambda: mx.compile(function, inputs=[mx.random.state], outputs=[mx.random.state]),
    "compile with a dictionary": lambda: mx.compile(function, inputs={"a": mx.zeros(2)}, outputs=[{"b": mx.zeros(1)}]),
    "compile with a number": lambda: mx.compile(function, inputs=[{"a": mx.zeros(2), "step": 3}]),
    "compile with nothing": lambda: mx.compile(function, inputs=[], outputs=[]),
    "mlx.nn": lambda: nn.gelu,
}


@pytest.mark.usefixtures("nothing")
class TestTaken:
    @pytest.mark.parametrize("how", HELD)
    def test_by_name(self, how):
        kept = HELD[how]()
        assert "held by name" in transforms.taken()
        del kept
        assert transforms.taken() == ""

    @pytest.mark.parametrize("how", MADE)
    def test_by_making_a_function(self, how):
        kept = MADE[how]()
        assert "a transformed function" in transforms.taken()
        del kept
        assert transforms.taken() == ""

    @pytest.mark.parametrize("how", HARMLESS)
    def test_what_is_compiled_is_traced_anew(self, how):
        kept = HARMLESS[how]()
        assert transforms.taken() == ""
        del kept

    def test_what_is_frozen_cannot_be_seen(self, monkeypatch):
        monkeypatch.setattr(gc, "get_freeze_count", lambda: 9000)
        assert "gc.freeze" in transforms.taken()
        monkeypatch.setattr(gc, "get_freeze_count", lambda: 375)  # as Python 3.12 begins
        assert transforms.taken() == ""


@pytest.mark.parametrize("name", transforms.NAMES)
def test_a_compiled_function_is_traced_anew_when_it_is_transformed(name):
    """What the module relies on: under a transformation Python's function runs again."""
    calls = []

    def counting(x):
        calls.append(1)
        return mx.sum(x * x)

    compiled, x = mx.compile(counting), mx.arange(4.0)
    mx.eval(compiled(x), compiled(x))
    assert len(calls) == 1
    transform = getattr(mx, name)
    if name in ("vjp", "jvp"):
        transform(compiled, [x], [mx.array(1.0) if name == "vjp" else x])
    elif name == "checkpoint":
        mx.grad(transform(compiled))(x)
    else:
        transform(compiled)(mx.stack([x, x]) if name == "vmap" else x)
    assert len(calls) > 1
