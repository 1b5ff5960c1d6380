"""MLX's transformations, and whether a program has taken some already.

Kernels of our own need MLX's rules (``kernels.calls.with_rules``) where a call is differentiated or vectorized, and are
much cheaper without. MLX tells Python nothing about that, but the transformations are functions of ``mlx.core``: what
takes them from there while routing is on can be told apart (``switch.enable``). Out of reach is what a program took
before: the functions themselves (``from mlx.core import grad``), and what they made (``mx.value_and_grad(loss)``).
Python's garbage collector knows both.

``mx.compile`` is none of them: a compiled function is traced anew when it is transformed.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import mlx.core as mx

NAMES = ("grad", "value_and_grad", "vjp", "jvp", "vmap", "checkpoint")
TRANSFORMS: dict[str, Callable[..., Any]] = {name: getattr(mx, name) for name in NAMES if hasattr(mx, name)}
"""MLX's own."""
FROZEN = 5000
"""Objects that are frozen, at least, where a program has called ``gc.freeze``; Python 3.12 freezes some hundred."""
OURS = "__autotune__"
"""Attribute of functions that stand around a program's while it is transformed (``switch``)."""

_MLX = {
    id(each)
    for each in gc.get_referrers(TRANSFORMS["grad"])
    if isinstance(each, dict) and each.get("__name__") == mx.__name__
}
"""MLX's module, and the copy that Python keeps of it."""


def taken() -> str:
    """What in this process could transform a call without asking ``mlx.core`` again, in words; empty where there is
    nothing. Looks at every object that Python's garbage collector tracks: 0.1 s for a million.

    It does not track the variables of calls that are under way, and to read these otherwise would keep what they hold
    alive: ``grad = mx.grad`` in the very function that turns routing on later goes unseen.
    """
    if gc.get_freeze_count() > FROZEN:
        return "gc.freeze hides what there is"
    if any(_holds(each) for each in gc.get_referrers(*TRANSFORMS.values())):
        return "a transformation is held by name"
    made = type(TRANSFORMS["grad"](_nothing))
    for each in gc.get_objects():
        if type(each) is made and _transforms(gc.get_referents(each)):
            return "a transformed function, " + str(getattr(each, "__name__", each)) + ", is there"
    return ""


def _holds(holder: object) -> bool:
    """Whether something that refers to a transformation is the program's."""
    return holder is not TRANSFORMS and id(holder) not in _MLX


def _transforms(referents: Iterable[object]) -> bool:
    """Whether these are the parts of a function that transforms one of the program's. They are a type, that function,
    and between them nothing, or the axes of ``mx.vmap``, or the arrays that ``mx.compile`` captures, which is none."""
    *between, function = [each for each in referents if not isinstance(each, type)]
    if getattr(function, OURS, False):
        return False
    if len(between) != 2:
        return True
    leaves = [leaf for part in between for leaf in _leaves(part)]
    return any(isinstance(leaf, int) for leaf in leaves) and not any(isinstance(leaf, mx.array) for leaf in leaves)


def _leaves(tree: Any) -> Iterator[Any]:
    if isinstance(tree, (dict, list, tuple)):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from _leaves(part)
    else:
        yield tree


def _nothing(x: mx.array) -> mx.array:
    return x
