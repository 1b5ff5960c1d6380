"""Launches that are ready for weights seen before: the shortest way from a quantized product to its kernel.

A decoding step calls some hundred products with the same Python objects for weights each time. What a first call found
out of them (shapes, dtypes, the route) holds until one of the objects changes, so later calls only ask whether these
are the objects, and whether x has a shape and a dtype that was routed: half a microsecond instead of two
(``benchmarks/launch.py``).

An array's object can change in place: ``scales *= other`` may promote it or broadcast it to more. Its bytes show
either, but for packed weights that become float32, whose dtype is therefore asked too.
"""

from __future__ import annotations

import contextlib
import threading
import weakref

from .tokens import Tokens

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Optional

    import mlx.core as mx

    Launch = Callable[[tuple[mx.array, ...], Any], mx.array]
    """From arrays and a stream to the result: ``kernels.launch.Bound``."""
    Like = tuple[bool, Optional[int], Optional[int], str]
    """A call's transpose, group size, bits and mode."""
    Reference = Callable[[], Any]
    Bytes = tuple[int, int, int]
    Launches = dict[tuple[int, ...], tuple[mx.Dtype, Launch]]
    Known = tuple[Reference, Reference, Optional[Reference], Like, Bytes, Launches]

HELD = Tokens()
"""What makes every call be looked at: transformations, and programs that asked for stock."""
generation = 0
"""Raised by :func:`forget`. What is looked up is kept, here and by the ops, only if it is the same afterwards."""
WEIGHTS: dict[int, Known] = {}
"""By the id of w: references to w, scales and, where there are some, biases; what the call said of them; the bytes of
each; and by x's shape its dtype and what to launch."""
MOST_SHAPES = 256
"""Shapes of x for which a weight's launches are kept."""
changing = threading.RLock()
"""Held while :data:`generation` is raised, and while it is compared before something is kept. Taken
again by the thread that has it, where a signal's handler or a destructor turns routing off in between."""


@contextlib.contextmanager
def holding() -> Iterator[None]:
    """Inside, every call is looked at, in this thread and in others."""
    token = HELD.take()
    try:
        yield
    finally:
        del token


def forget() -> None:
    """Drops everything: tables or switches have changed. What calls that are under way look up is not kept either."""
    global generation
    with changing:
        generation += 1
        WEIGHTS.clear()


def remember(
    looked_up: int,
    x: mx.array,
    w: mx.array,
    scales: mx.array,
    biases: mx.array | None,
    like: Like,
    launch: Launch,
) -> None:
    """Keeps what a call turned out to launch, for as long as its weights live; ``looked_up`` is the generation in which
    that was looked up."""
    with changing:
        if looked_up != generation:
            return
        at = id(w)
        known = WEIGHTS.get(at)
        sizes = w.nbytes, scales.nbytes, 0 if biases is None else biases.nbytes
        if known is None or known[3:5] != (like, sizes) or not _are(known, w, scales, biases):
            of_biases = None if biases is None else weakref.ref(biases)
            # An object that is gone takes what is known of it along, before another can have its id.
            of_w = weakref.ref(w, lambda _: WEIGHTS.pop(at, None))
            known = WEIGHTS[at] = of_w, weakref.ref(scales), of_biases, like, sizes, {}
        launches = known[5]
        if len(launches) >= MOST_SHAPES:
            launches.clear()
        launches[x.shape] = x.dtype, launch


def _are(known: Known, w: mx.array, scales: mx.array, biases: mx.array | None) -> bool:
    """Whether these are the objects. Biases that are gone are not biases that never were."""
    of_w, of_scales, of_biases = known[:3]
    same = of_biases is None if biases is None else of_biases is not None and of_biases() is biases
    return of_w() is w and of_scales() is scales and same
