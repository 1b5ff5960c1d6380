"""What a sweep found, on stdout, and what of it is left, on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import FAILED, INTERRUPTED, OK
from .output import emit, next_step, note

if TYPE_CHECKING:
    from ..search.sweep import Done, Outcome


def tell(
    outcome: Outcome, chip_id: str, url: str, fresh: bool, json: bool, then: str = "", recorded: bool = False
) -> None:
    """What the sweep found; ``then`` is the command that comes next, and is given for a simulated sweep alone. None
    comes after a recording, which no table is made from."""
    from ..devices.simulated.model import OFF
    from ..kernels import STOCK
    from ..report.progress import speedup
    from ..report.tables import count
    from ..search.stats import geometric_mean

    gains = [done.best.low if done.best and done.chosen != STOCK else 1.0 for done in outcome.done]
    faster = sum(done.chosen != STOCK for done in outcome.done)
    if json:
        emit(
            {
                "chip": chip_id,
                "storage": url,
                "source": "simulated" if then else "measured",
                **({"model_off": {"median": OFF[0], "p90": OFF[1]}} if then else {}),
                "stopped": outcome.stopped,
                "left": outcome.left,
                "unfinished": _done_json(outcome.unfinished) if outcome.unfinished else None,
                "stock_failed": {row.problem: row.reason for row in outcome.failed},
                "rounds_disturbed": outcome.disturbed,
                "rounds_slowed": outcome.slowed,
                "problems": [_done_json(done) for done in outcome.done],
            }
        )
    else:
        width = max((len(str(done.problem)) for done in outcome.done), default=0)
        for done in outcome.done:
            print(f"{done.problem!s:{width}}  {speedup(done.best, chosen=done.chosen != STOCK)}")
        if gains:
            print(
                f"{faster} of {len(gains)} problems gain; geometric mean of lower bounds {geometric_mean(gains):.2f}x"
                + (f" (simulated: a model of {chip_id}, nothing was measured)" if then else "")
            )
            if then:
                off, p90 = (f"{100 * share:.0f} %" for share in OFF)
                print(
                    "intervals contain the noise of simulated evaluations alone; the model itself was off by "
                    f"{off} in the median and {p90} at the 90th percentile of published times that it was not fitted "
                    "to (docs/simulated.md)"
                )
        if outcome.unfinished:
            cut = outcome.unfinished
            measured = count(cut.routes, "route")
            print(f"{cut.problem!s:{width}}  {speedup(cut.best)}: the best so far, of {measured}; not finished")
    if outcome.slowed:
        note(f"warning: the machine slowed down in {outcome.slowed} rounds, which were measured again")
    if outcome.stopped:
        why = "the budget is spent" if outcome.stopped == "budget" else "interrupted"
        command = "the same command without --fresh" if fresh else "the same command"
        left = f"{outcome.left} problem{' is' if outcome.left == 1 else 's are'} left"
        note(f"{why}; everything measured is saved, {left}: run {command} to go on")
    for row in outcome.failed:
        note(f"stock itself failed for {row.problem} ({row.reason}): nothing to compare; the next sweep tries again")
    if outcome.done and not recorded:
        next_step(then or f"autotune export --chip {chip_id}")


def code(outcome: Outcome) -> int:
    """The exit code of a sweep that ended so."""
    return INTERRUPTED if outcome.stopped == "interrupted" else FAILED if outcome.failed else OK


def _done_json(done: Done) -> dict[str, Any]:
    return {
        "problem": str(done.problem),
        "route": str(done.chosen),
        "best": done.best.route if done.best else "",
        "speedup": [done.best.speedup, done.best.low, done.best.high] if done.best else None,
        "routes": done.routes,
        "refused": done.refused,
        "resumed": done.resumed,
    }
