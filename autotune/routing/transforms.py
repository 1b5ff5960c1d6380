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
import types
from collections.abc import Callable, Iterable
from typing import Any

import mlx.core as mx

NAMES = ("grad", "value_and_grad", "vjp", "jvp", "vmap", "checkpoint")
TRANSFORMS: dict[str, Callable[..., Any]] = {name: getattr(mx, name) for name in NAMES if hasattr(mx, name)}
"""MLX's own."""


def taken() -> str:
    """What in this process could transform a call without asking ``mlx.core`` again, in words; empty where there is
    nothing. Looks at every object that Python's garbage collector tracks, some ten milliseconds in a large program."""
    if gc.get_freeze_count():
        return "gc.freeze hides what there is"
    for name in TRANSFORMS:
        if any(_holds(holder) for holder in gc.get_referrers(TRANSFORMS[name])):
            return "mx." + name + " is held by name"
    made = type(mx.checkpoint(_taken_from_nothing))
    for each in gc.get_objects():
        if type(each) is made and not _compiled(gc.get_referents(each)):
            return "a transformed function, " + str(getattr(each, "__name__", each)) + ", is there"
    return ""


def _holds(holder: object) -> bool:
    """Whether something that refers to a transformation is the program's: not MLX's module, of which Python keeps a
    copy besides, nor this one, nor a call that is under way."""
    if isinstance(holder, types.FrameType) or holder is TRANSFORMS:
        return False
    return not (isinstance(holder, dict) and holder.get("__name__") == mx.__name__)


def _compiled(referents: Iterable[object]) -> bool:
    """Whether these are the parts of what ``mx.compile`` made: a type, a function, and between them the arrays that it
    captures. What ``mx.vmap`` makes has numbers of axes there, the others have nothing."""
    between = [each for each in referents if not isinstance(each, type)][:-1]
    return len(between) == 2 and not any(_axes(each) for each in between)


def _axes(part: object) -> bool:
    if isinstance(part, dict):
        part = list(part.values())
    if isinstance(part, (list, tuple)):
        return bool(part) and all(each is None or _axes(each) for each in part)
    return isinstance(part, int)


def _taken_from_nothing(x: mx.array) -> mx.array:
    return x
