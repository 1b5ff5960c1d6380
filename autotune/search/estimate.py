"""How long a sweep takes at the least, before it is run: routes times evaluations, and stock's own speed where a small
call of each kind can tell it.

On a GPU small calls tell nothing about large ones, and evaluations are counted at the length that the effort gives
them. On a CPU one call may take minutes (float16 weights in 4 bits, one element at a time), which makes all the
difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from .. import kernels
from ..devices.base import Device
from ..kernels import STOCK
from ..problem import Family, Problem
from . import space
from .measure import Effort
from .plan import Plan

PROBES = ((16, 256, 512), (256, 512, 512))
"""M, N and K of the calls that are timed: the second only where the first is too short to say much."""
LONG = 0.01
"""Seconds from which on a probe says enough."""
OTHERS = 4
"""Evaluations of a route besides its rounds: warming up, calibrating, and the check."""


@dataclass(frozen=True)
class Estimate:
    """``routes`` over all problems, ``seconds`` at the least, and how many problems have a stock call that is
    ``too_long`` for the watchdog: the sweep gives those up."""

    routes: int
    seconds: float
    too_long: int


def estimate(
    plan: Plan, backend: str, nax: bool, timeout: float, call_seconds: Callable[[Problem], float] = lambda _: 0.0
) -> Estimate:
    """What the plan asks for on a device of that backend. ``call_seconds`` of stock for a problem; 0 where it is not
    known. ``timeout`` is the watchdog's."""
    routes, seconds, too_long = 0, 0.0, 0
    for problem in plan.problems:
        dealt = _routes(plan, problem, backend, nax)
        routes += dealt
        call = call_seconds(problem)
        if call > timeout:
            too_long += 1
            seconds += timeout
        else:
            seconds += _seconds(plan.effort, dealt, call)
    return Estimate(routes, seconds, too_long)


def _routes(plan: Plan, problem: Problem, backend: str, nax: bool) -> int:
    """Routes that a sweep would deal: all of the kernels that are measured whole, of the others as many as the effort
    has. No more of those are enumerated than are counted."""
    chosen = set(plan.kernels) or set(kernels.KERNELS)
    running = [each for each in kernels.KERNELS.values() if each.name in chosen and each.runs_on(backend, nax)]
    whole = sum(len(space.legal_set(each, problem, backend)) for each in running if not each.searched)
    whole += STOCK.kernel not in chosen
    searched, most = 0, plan.effort.searched
    for kernel in running:
        if kernel.searched and searched < most:
            searched += sum(1 for _ in islice(space.some_legal(kernel, problem, backend), most - searched))
    dealt = whole + searched
    return min(dealt, plan.trials) if plan.trials else dealt


def _seconds(effort: Effort, routes: int, call: float) -> float:
    """Stock against itself and the finalists get all rounds, candidates the first few. Where a call is longer than an
    evaluation, that is counted for stock against itself alone: what is much slower than the best gets no round."""
    evaluations = routes * (4 * effort.screen + OTHERS) + 4 * effort.final * (1 + effort.finalists)
    stock = 4 * effort.final + OTHERS
    return evaluations * effort.seconds + stock * max(0.0, call - effort.seconds)


def speeds(device: Device, problems: Sequence[Problem]) -> Callable[[Problem], float]:
    """Seconds of a stock call from its FLOPs, at the speed of a small call of the same kind, timed now."""
    known = {}
    for problem in problems:
        if _kind(problem) not in known:
            known[_kind(problem)] = _seconds_a_flop(device, problem)
    return lambda problem: problem.flops * known[_kind(problem)]


def _kind(problem: Problem) -> Family:
    return replace(problem.family, n=0, k=0, batch=1)


def _seconds_a_flop(device: Device, problem: Problem) -> float:
    seconds = 0.0
    for m, n, k in PROBES:
        probe = replace(problem, m=m, n=n, k=k, batch=1)
        session = device.open(probe, 0, "queued")
        session.time(STOCK, 1)
        seconds = session.time(STOCK, 1) / probe.flops
        if seconds * probe.flops >= LONG:
            break
    return seconds
