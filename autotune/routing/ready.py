"""Launches that are ready for weights seen before: the shortest way from a quantized product to its kernel.

A decoding step calls some hundred products with the same Python objects for weights each time. What a first call found
out of them (shapes, dtypes, the route) holds until one of the objects changes, so later calls only ask whether these
are the objects, and whether x has a shape and a dtype that was routed: half a microsecond instead of two
(``benchmarks/launch.py``).

An array's object can change in place (``scales *= other`` may promote it), which its item size shows: no promotion
keeps that of the floating dtypes here. Weights that anything else has become of are no operands of the op at all.
"""

from __future__ import annotations

import contextlib
import threading
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Optional

    import mlx.core as mx

    Launch = Callable[[tuple[mx.array, ...], Any], mx.array]
    """From arrays and a stream to the result: ``kernels.launch.Bound``."""
    Like = tuple[bool, Optional[int], Optional[int], str]
    """A call's transpose, group size, bits and mode."""
    Known = tuple[
        Callable[[], Any],
        Callable[[], Any],
        Callable[[], Any],
        Like,
        int,
        dict[tuple[int, ...], tuple[mx.Dtype, Launch]],
    ]

held = 0
"""Positive while every call has to be looked at: inside transformations, and where the program asked for stock."""
WEIGHTS: dict[int, Known] = {}
"""By the id of w: references to w, scales and biases; what the call said of them; the bytes of an element of scales and
one of biases together; and by x's shape its dtype and what to launch."""
MOST_SHAPES = 256
"""Shapes of x for which a weight's launches are kept."""
_counting = threading.Lock()


@contextlib.contextmanager
def holding() -> Iterator[None]:
    """Inside, every call is looked at, in this thread and in others."""
    global held
    with _counting:
        held += 1
    try:
        yield
    finally:
        with _counting:
            held -= 1


def remember(x: mx.array, w: mx.array, scales: mx.array, biases: mx.array | None, like: Like, launch: Launch) -> None:
    """Keeps what a call turned out to launch, for as long as its weights live."""
    at = id(w)
    known = WEIGHTS.get(at)
    if known is None or known[0]() is not w or known[1]() is not scales or known[2]() is not biases or known[3] != like:
        of_biases = _nothing if biases is None else weakref.ref(biases)
        # Objects that are gone take what is known of them along, before another can have their id.
        of_w = weakref.ref(w, lambda _: WEIGHTS.pop(at, None))
        known = of_w, weakref.ref(scales), of_biases, like, itemsizes(scales, biases), {}
        WEIGHTS[at] = known
    launches = known[5]
    if len(launches) >= MOST_SHAPES:
        launches.clear()
    launches[x.shape] = x.dtype, launch


def itemsizes(scales: mx.array, biases: mx.array | None) -> int:
    return scales.itemsize if biases is None else scales.itemsize + biases.itemsize


def _nothing() -> None:
    return None
