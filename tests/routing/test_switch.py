"""``enable``: where kernels of our own are called with MLX's rules for transformations, and where without."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import mlx.core as mx
import pytest

import autotune
from autotune import kernels
from autotune.kernels.base import Kernel
from autotune.mlx_ops import ORIGINAL
from autotune.problem import OPS
from autotune.routing import transforms
from autotune.routing.router import ROUTERS

N, K = 16, 32


class Twofold(Kernel):
    """Stock's result; ``calls`` says in which of its two forms it was called."""

    name = "twofold"
    ops = OPS

    def __init__(self):
        self.calls: list[str] = []

    def _op(self, problem, form):
        stock = ORIGINAL[problem.op]

        def op(*args, **kwargs):
            self.calls.append(form)
            return stock(*args, **kwargs)

        return op

    def build(self, problem, config):
        return self._op(problem, "ruled")

    def bare(self, problem, config):
        return self._op(problem, "bare")


@pytest.fixture
def kernel(monkeypatch, write_table):
    """The kernel, in a table that is in use, with the space of a kernel that has no parameters."""
    made = Twofold()
    monkeypatch.setitem(kernels.KERNELS, made.name, made)
    ROUTERS.use(write_table({f"matmul N={N} K={K} f32 nn": [(1, 64, "twofold")]}), False)
    yield made
    autotune.disable()


@pytest.fixture
def x():
    return mx.random.normal((4, K), key=mx.random.key(0))


def layer(x):
    return mx.sum(mx.square(mx.matmul(x, mx.ones((K, N)))))


TRANSFORMS = {
    "grad": lambda x: mx.grad(layer)(x),
    "grad of a name": lambda x: mx.grad(lambda *, x: layer(x), argnames="x")(x=x),
    "value_and_grad": lambda x: mx.value_and_grad(layer)(x),
    "vjp": lambda x: mx.vjp(layer, [x], [mx.array(1.0)]),
    "jvp": lambda x: mx.jvp(layer, [x], [x]),
    "vmap": lambda x: mx.vmap(layer)(mx.stack([x, x])),
    "grad in a partial": lambda x: partial(mx.grad, argnums=0)(layer)(x),
    "checkpoint": lambda x: mx.checkpoint(layer)(x),
    "grad of what was compiled": lambda x: mx.grad(mx.compile(layer))(x),
    "compile of grad": lambda x: mx.compile(mx.grad(layer))(x),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_what_is_transformed_has_rules_and_the_rest_has_none(name, kernel, x):
    autotune.enable(rules=False)
    layer(x)
    mx.eval(TRANSFORMS[name](x))
    layer(x)
    assert kernel.calls == ["bare", "ruled", "bare"]


def test_a_transformation_that_raises_ends_too(kernel, x):
    def broken(x):
        layer(x)
        raise KeyError

    autotune.enable(rules=False)
    with pytest.raises(KeyError):
        mx.grad(broken)(x)
    layer(x)
    assert kernel.calls == ["ruled", "bare"]


def test_inside_another_the_rules_stay(kernel, x):
    autotune.enable(rules=False)
    mx.grad(lambda x: mx.grad(layer)(x).sum() + layer(x))(x)
    assert kernel.calls == ["ruled", "ruled"]


def test_shapeless_functions_are_on_stock_all_the_same(kernel, x):
    autotune.enable(rules=False)
    mx.eval(mx.compile(layer, shapeless=True)(x))
    assert kernel.calls == []


def test_what_is_compiled_has_none(kernel, x):
    """It is traced anew when it is transformed (``test_transforms``)."""
    autotune.enable(rules=False)
    compiled = mx.compile(layer)
    mx.eval(compiled(x), mx.grad(compiled)(x), compiled(x))
    assert kernel.calls == ["bare", "ruled"]


def test_on_demand_everything_has_rules(kernel, x):
    for _ in range(2):
        autotune.enable(rules=False)
        autotune.enable(rules=True)
        layer(x)
        mx.grad(layer)(x)
    assert kernel.calls == ["ruled"] * 4


class TestUnlessTold:
    """What the program has taken before decides."""

    def test_where_nothing_was_taken_only_what_is_transformed_has_rules(self, kernel, x, monkeypatch):
        monkeypatch.setattr(transforms, "taken", lambda: "")
        autotune.enable()
        layer(x)
        mx.grad(layer)(x)
        assert kernel.calls == ["bare", "ruled"]

    def test_what_was_taken_by_name_has_them(self, kernel, x):
        grad = mx.grad
        program = {"grad": grad}
        autotune.enable()
        program["grad"](layer)(x)
        layer(x)
        assert kernel.calls == ["ruled"] * 2

    def test_what_was_made_before_has_them(self, kernel, x):
        made = mx.value_and_grad(layer)
        autotune.enable()
        made(x)
        layer(x)
        assert kernel.calls == ["ruled"] * 2

    def test_what_the_program_put_in_their_place_has_them_and_stays(self, kernel, x, monkeypatch):
        monkeypatch.setattr(mx, "grad", lambda function: transforms.TRANSFORMS["grad"](function))
        theirs = mx.grad
        autotune.enable()
        mx.grad(layer)(x)
        assert (kernel.calls, mx.grad) == (["ruled"], theirs)
        autotune.disable()
        assert mx.grad is theirs


def test_enabling_again_finds_the_same():
    """In a process of its own, where nothing but this was transformed: what ours made, and ours held by name, are no
    program's."""
    program = """
import mlx.core as mx, mlx.nn, autotune, threading
from autotune.routing.router import ROUTERS
said = []
def enable():
    autotune.enable()
    said.append(ROUTERS._bare)
enable()
from mlx.core import grad
kept = [mx.value_and_grad(lambda x: x.sum()), mx.vmap(lambda x: x), mx.compile(mx.grad(lambda x: x.sum())), grad]
enable()
autotune.disable()
enable()
autotune.disable()
kept.append(mx.grad)
enable()
print(said)
"""
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "[True, True, True, False]\n"


CUSTOM = {
    "vmap of a vjp": (("vjp",), lambda f, x: mx.vmap(f)(mx.stack([x, x]))),
    "jvp of a vjp": (("vjp",), lambda f, x: mx.jvp(f, [x], [x])),
    "grad of a vmap": (("vmap",), lambda f, x: mx.grad(lambda x: mx.sum(f(x)))(x)),
}


@pytest.mark.parametrize("name", CUSTOM)
def test_a_custom_function_without_one_of_the_rules_has_ours(name, kernel, x):
    """MLX's default for that rule runs the function after the transformed one has returned."""
    rules, transform = CUSTOM[name]
    autotune.enable(rules=False)
    custom = mx.custom_function(layer)
    if "vjp" in rules:
        custom.vjp(lambda primals, cotangents, outputs: primals)
    if "vmap" in rules:
        custom.vmap(lambda inputs, axes: (layer(inputs[0]), 0))
    mx.eval(transform(custom, x))
    assert set(kernel.calls) == {"ruled"}


def test_a_class_can_be_what_is_transformed(kernel, x):
    class Loss:
        def __new__(cls, x):
            return layer(x)

    autotune.enable(rules=False)
    mx.grad(Loss)(x)
    assert kernel.calls == ["ruled"]


def test_disable_puts_the_transformations_back(kernel):
    before = {name: getattr(mx, name) for name in transforms.TRANSFORMS}
    assert before == transforms.TRANSFORMS
    autotune.enable(rules=False)
    assert all(getattr(mx, name) is not before[name] for name in before)
    autotune.disable()
    assert all(getattr(mx, name) is before[name] for name in before)


def test_compiled_functions_keep_their_names(kernel):
    def named(x):
        """Says something."""
        return x

    autotune.enable(rules=False)
    for made in (mx.compile(named), mx.compile(named, shapeless=True)):
        assert (made.__name__, made.__doc__) == ("named", "Says something.")
