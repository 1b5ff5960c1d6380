"""Clocks: what a GPU takes for calls, without the CPU that hands them over.

MLX hands a graph to the GPU in parts, while the GPU computes the parts before: an evaluation begins with a wait for the
first part, and on a fast GPU with a slow host many small kernels take as long as it takes to hand them over. What was
to be the kernels' time is then the host's. So on CUDA the calls are handed over behind a **gate**, a kernel that keeps
one core of the GPU busy meanwhile (a running sum over one long row, which MLX gives a single block), and between two
**stamps**, kernels of one thread that write down the GPU's own clock (``%globaltimer``, PTX ISA 10.20). Each is
evaluated by itself, and thereby a CUDA graph of its own: a stream runs these one after the other, so that the first
stamp is taken when the gate is done, and the second when the last result is there. No time is the host's, not even
that of waking up.

What the host costs is a matter of its own (``Session.host``). Whether the gate held long enough is seen from whether it
was still waited for after everything was handed over; where it did not, the same is done again with a longer one. (A
host that is held up just while it waits takes a gate that was open for a shut one. Handing over is then in that time,
which is longer than it should be; the two timings of a side in a round are there to notice.)
Metal has no such clock that a kernel could read, and a CPU computes with what would hand over: there times are plain.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from typing import Any, Optional, Protocol

import mlx.core as mx

from ..kernels import Route

Build = Callable[[int], list[mx.array]]
"""From a number of calls to what is evaluated."""
PLAIN, STAMPED = "plain", "stamped"
"""How a time was taken, as results say it: by the host's clock, or behind a gate by the GPU's. Results from before
there were stamps say ``gated``: behind a gate, by the host's clock."""
OFF = "AUTOTUNE_GATES"
"""Environment variable: ``0`` has plain times on CUDA too."""

LONGEST = 1 << 24
"""Elements of the longest gate, some milliseconds; 64 MB."""
SHORTEST = 1 << 14
HAND_OVER = 1e-5
"""Seconds to hand over a call, before any was: about what two kernels take."""
SPARE, EXTRA = 1.5, 2e-4
"""A gate is that many times as long as handing over took before, and these seconds."""
WAITED = 2e-5
"""Seconds of waiting for the gate from which it counts as shut until then; asking for what is there takes a tenth."""
TRIES = 5
STAMP = """
unsigned long long now;
asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now) :: "memory");
nanoseconds[0] = now;
"""
_now = time.perf_counter


class Clock(Protocol):
    """Times calls of a route on MLX's default device; one for each session."""

    def seconds(self, route: Route, build: Build, calls: int) -> float:
        """Seconds that ``calls`` calls take; building them does not count. Raises what MLX raises."""


def name(backend: str) -> str:
    """``plain`` or ``stamped``: how times are taken on a backend; part of where a result comes from."""
    return STAMPED if backend == "cuda" and os.environ.get(OFF) != "0" else PLAIN


def here() -> Clock:
    """The clock for MLX's default device."""
    on_cuda = mx.cuda.is_available() and mx.default_device().type is mx.gpu
    return Gated(stamps()) if name("cuda" if on_cuda else "") == STAMPED else Plain()


class Plain:
    """From handing over until the last result is there."""

    def seconds(self, route: Route, build: Build, calls: int) -> float:
        outs = build(calls)
        start = _now()
        mx.eval(outs)
        mx.synchronize()
        return _now() - start


class Gated:
    """Behind gates, of which it learns how long they have to be, and between stamps."""

    def __init__(self, stamp: Callable[[], mx.array]) -> None:
        """``stamp`` gives an array that holds the GPU's clock in nanoseconds once it is evaluated, uint64 (1,)."""
        self._stamp = stamp
        self._open = Plain()
        self._row: Optional[mx.array] = None
        self._pace = 0.0
        self._busy: dict[Route, float] = {}
        self._most: dict[Route, int] = {}

    def seconds(self, route: Route, build: Build, calls: int) -> float:
        """Seconds that ``calls`` calls take behind gates, as few as can be: MLX makes a program wait that has ten
        command buffers under way, and a gate cannot be shut for longer than that. A call that no gate holds for is
        timed without one, and takes no less than it does on the GPU."""
        total, left = 0.0, calls
        while left:
            some = min(left, self._most.get(route, left))
            found = self._behind(route, build, some)
            if found is None and some > 1:
                self._most[route] = -(-some // 2)
                continue
            total += self._open.seconds(route, build, some) if found is None else found
            left -= some
        return total

    def _behind(self, route: Route, build: Build, calls: int) -> Optional[float]:
        """None where no gate holds long enough: the longest is tried twice, since a host may have been held up."""
        wanted = SPARE * calls * self._busy.get(route, HAND_OVER) + EXTRA
        in_vain = 0
        for _ in range(TRIES):
            gate, longest = self._gate(wanted)
            first, last, outs = self._stamp(), self._stamp(), build(calls)
            mx.async_eval(gate)
            mx.async_eval(first)
            shut = _now()
            mx.async_eval(outs)
            handed = _now()
            mx.async_eval(last)
            asked = _now()
            mx.eval(gate)
            waited = _now() - asked
            mx.eval(last)
            seconds = (_nanoseconds(last) - _nanoseconds(first)) * 1e-9
            if waited >= WAITED and seconds > 0:  # a clock that stands still or was put back tells nothing
                self._busy[route] = (handed - shut) / calls
                return seconds
            in_vain += longest
            if in_vain == 2:
                return None
            wanted = 2 * max(wanted, handed - shut)
        return None

    def _gate(self, seconds: float) -> tuple[mx.array, bool]:
        """A gate of about so many seconds, not yet begun, and whether there is none that is longer."""
        if self._row is None:
            row = mx.zeros((1, LONGEST))
            mx.eval(row)
            for elements in (SHORTEST, LONGEST // 16, LONGEST // 16):  # the first ones compile and warm up
                start = _now()
                mx.eval(_sum(row, elements))
                self._pace = (_now() - start) / elements
            self._row = row
        elements = min(max(int(seconds / self._pace), SHORTEST), LONGEST)
        return _sum(self._row, elements), elements == LONGEST


def _sum(row: mx.array, elements: int) -> mx.array:
    return mx.cumsum(row[:, :elements], axis=1)


def _nanoseconds(stamp: mx.array) -> int:
    value = stamp.item()
    assert isinstance(value, int)
    return value


@cache
def stamps() -> Callable[[], mx.array]:
    """Stamps for this process, of which one is taken: MLX compiles their kernel then. Raises RuntimeError where that
    fails."""
    kernel: Any = mx.fast.cuda_kernel("autotune_stamp", ["nothing"], ["nanoseconds"], STAMP)
    nothing = mx.zeros((1,))

    def stamp() -> mx.array:
        taken: mx.array = kernel(
            inputs=[nothing],
            grid=(1, 1, 1),
            threadgroup=(1, 1, 1),
            output_shapes=[(1,)],
            output_dtypes=[mx.uint64],
        )[0]
        return taken

    try:
        mx.eval(stamp())
    except Exception as error:
        raise RuntimeError(f"the GPU's clock cannot be read ({error}); {OFF}=0 times without it") from error
    return stamp
