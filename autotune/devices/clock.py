"""Clocks: what a GPU takes for calls, without the CPU that hands them over.

MLX hands a graph to the GPU in parts, while the GPU computes the parts before: on a fast GPU and a slow host, many
small kernels take as long as it takes to hand them over, and what was to be the kernels' time is the host's. So the
calls are handed over behind a gate, a kernel that keeps one core of the GPU busy meanwhile (a running sum over one long
row, which MLX gives a single threadgroup). The time is that from when the gate is done to when the last result is
there; both are waited for in the same way, so that what waking up takes cancels.

What the host costs is a matter of its own (``Session.host``). Whether the gate held long enough is seen from whether it
was still waited for after everything was handed over; where it did not, the same is done again with a longer one.

Gates were held against plain timing on an H100 (docs/measuring.md). Nobody has tried them on Metal, where a GPU of
which one core is busy may lower its clock: times are plain there unless ``AUTOTUNE_GATES=1`` asks for gates; on CUDA
``AUTOTUNE_GATES=0`` does without.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Optional, Protocol

import mlx.core as mx

from ..kernels import Route

Build = Callable[[mx.array, int], list[mx.array]]
"""From the gate's result, whose elements are zero and which the calls have to wait for, and a number of calls to what
is evaluated."""

LONGEST = 1 << 24
"""Elements of the longest gate, some milliseconds; 64 MB."""
SHORTEST = 1 << 14
HAND_OVER = 1e-5
"""Seconds to hand over a call, before any was: about what two kernels take."""
SPARE, MARGIN = 1.5, 2e-4
"""A gate is that many times as long as handing over took before, and these seconds."""
WAITED = 2e-5
"""Seconds of waiting for the gate from which it counts as shut until then; asking for what is there takes a tenth."""
TRIES = 4
_now = time.perf_counter


class Clock(Protocol):
    """Times calls of a route on MLX's default device; one for each session."""

    def seconds(self, route: Route, build: Build, calls: int) -> float:
        """Seconds that ``calls`` calls take; building them does not count. Raises what MLX raises."""


def here() -> Clock:
    """The clock for MLX's default device. A CPU computes with what would hand over, and has no use for gates."""
    gated = {"0": False, "1": True}.get(os.environ.get("AUTOTUNE_GATES", ""), mx.cuda.is_available())
    return Gated() if gated and mx.default_device().type is mx.gpu else Plain()


class Plain:
    """From handing over until the last result is there."""

    def seconds(self, route: Route, build: Build, calls: int) -> float:
        outs = build(mx.zeros((1, 1)), calls)
        start = _now()
        mx.eval(outs)
        mx.synchronize()
        return _now() - start


class Gated:
    """Behind gates, of which it learns how long they have to be."""

    def __init__(self) -> None:
        self._open = Plain()
        self._row: Optional[mx.array] = None
        self._pace = 0.0
        self._busy: dict[Route, float] = {}
        self._most = 1 << 30

    def seconds(self, route: Route, build: Build, calls: int) -> float:
        """Seconds that ``calls`` calls take behind gates, as few as can be: MLX makes a program wait that has ten
        command buffers under way, and a gate cannot be shut for longer than that."""
        total, left = 0.0, calls
        while left:
            some = min(left, self._most)
            found = self._behind(route, build, some)
            if found is None and some > 1:
                self._most = -(-some // 2)
                continue
            total += self._open.seconds(route, build, some) if found is None else found
            left -= some
        return total

    def _behind(self, route: Route, build: Build, calls: int) -> Optional[float]:
        """None where no gate holds long enough."""
        wanted = SPARE * calls * self._busy.get(route, HAND_OVER) + MARGIN
        for _ in range(TRIES):
            gate, longest = self._gate(wanted)
            outs = build(gate, calls)
            mx.async_eval(gate)
            shut = _now()
            mx.async_eval(outs)
            handed = _now()
            mx.eval(gate)
            opened = _now()
            mx.eval(outs)
            done = _now()
            if opened - handed >= WAITED:
                self._busy[route] = (handed - shut) / calls
                return done - opened
            if longest:
                return None
            wanted = 2 * max(wanted, handed - shut)
        return None

    def _gate(self, seconds: float) -> tuple[mx.array, bool]:
        """A gate of about so many seconds, not yet begun, and whether there is none that is longer."""
        if self._row is None:
            self._row = mx.zeros((1, LONGEST))
            mx.eval(self._row)
            for elements in (SHORTEST, LONGEST // 16, LONGEST // 16):  # the first ones compile and warm up
                start = _now()
                mx.eval(self._of(elements))
                self._pace = (_now() - start) / elements
        elements = min(max(int(seconds / self._pace), SHORTEST), LONGEST)
        return self._of(elements), elements == LONGEST

    def _of(self, elements: int) -> mx.array:
        assert self._row is not None
        return mx.cumsum(self._row[:, :elements], axis=1)
