"""``autotune sweep --dry-run``: what a sweep would take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .output import emit, next_step, note

if TYPE_CHECKING:
    from ..chips import Chip
    from ..problem import Problem
    from ..search.plan import Plan


def describe(plan: Plan, backend: str, nax: bool, json: bool, timeout: float = 0.0, away: Chip | None = None) -> None:
    from ..report.progress import duration
    from ..report.tables import count
    from ..search import estimate

    timed = backend == "cpu" and not away
    speeds = [_speeds(plan.problems)] if timed else []
    found = estimate.estimate(plan, backend, nax, timeout or math.inf, *speeds)
    if json:
        emit(
            {
                "problems": len(plan.problems),
                "routes": found.routes,
                "minutes_at_least": round(found.seconds / 60, 1),
                "too_long": found.too_long,
            }
        )
        return
    problems, least = count(len(plan.problems), "problem"), duration(found.seconds)
    print(f"{problems}, {count(found.routes, 'route')}, at least {least} at effort {plan.effort.name}")
    if timed:
        note("from the speed of a small stock call of each kind; the other routes at the least length of an evaluation")
    else:
        note("calls that take longer than an evaluation take longer than that; kernels compile once besides")
    if found.too_long:
        few = count(found.too_long, "problem")
        note(f"{few} would take stock more than the {timeout:.0f} s of --timeout for a call: a sweep gives those up")
    if away:
        note(f"counted for {away.name}, timed on none: begin with --quick, then go on with --budget 20m")
    next_step(f"the same command without --dry-run{f' on a machine with {away.name}' if away else ''}")


def describe_simulated(plan: Plan, name: str, nax: bool, json: bool) -> None:
    """What asking the model takes on this machine: nothing is measured, so that the chip's own minutes do not count."""
    from ..report.progress import duration
    from ..report.tables import count
    from ..search import estimate
    from .simulated import ROUTE_SECONDS

    routes = estimate.estimate(plan, "metal", nax, math.inf).routes
    about = routes * ROUTE_SECONDS
    if json:
        emit(
            {"problems": len(plan.problems), "routes": routes, "evaluations": routes, "seconds_about": round(about, 1)}
        )
        return
    problems = count(len(plan.problems), "problem")
    said = duration(max(1.0, about))
    print(f"{problems}, {count(routes, 'route')}, one evaluation of the model of {name} each: about {said} here")
    note("the time is that of the search in one thread, from a sweep on an AMD EPYC; nothing is measured")
    next_step("the same command without --dry-run")


def _speeds(problems: Sequence[Problem]) -> Any:
    from ..devices.mlx import MlxDevice
    from ..search import estimate

    return estimate.speeds(MlxDevice("cpu", 0), problems)
