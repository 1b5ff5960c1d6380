"""What a verification found: a table for the terminal, and a report that can be attached to a bug as it is."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..machine import Machine
from ..search.trials import Target, Work
from ..search.verdict import REFUSED, Failure, Outcome, Verdict

MOST_LISTED = 10
"""Routes of one kernel whose first failure the text lists; the JSON report has all."""


class Quiet:
    """A listener that keeps silent: where stderr is no terminal, only the end is worth a line."""

    def started(self, works: int) -> None:
        """Nothing to draw."""

    def done(self, work: Work, failures: Sequence[Failure]) -> None:
        """Nothing to draw."""

    def close(self) -> None:
        """Nothing to clean up."""


class Live:
    """A bar on stderr, with the failures above it as they come."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            BarColumn(20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=Console(stderr=True, highlight=False),
        )
        self._task: Any = None
        self._progress.start()

    def started(self, works: int) -> None:
        self._task = self._progress.add_task("", total=works)

    def done(self, work: Work, failures: Sequence[Failure]) -> None:
        self._progress.update(self._task, advance=1, description=f"{work.route.kernel}  {work.kind}")
        for failure in [each for each in failures if each.kind != REFUSED][:1]:
            line = f"{failure.kind}: {failure.route} on {failure.case}"
            self._progress.console.print(line, soft_wrap=True, markup=False)

    def close(self) -> None:
        self._progress.stop()


def listener() -> Quiet | Live:
    """The bar where stderr is a terminal that can be drawn on, else silence."""
    import os

    return Live() if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else Quiet()


def to_json(outcome: Outcome, machine: Machine, target: Target, seed: int, version: str, date: str) -> dict[str, Any]:
    """The whole outcome. Numbers that JSON does not have are texts: ``inf``, ``-inf``, ``nan``."""
    return {
        "autotune": version,
        "date": date,
        "device": target.name,
        "ways": [way for way in target.ways if way],
        "seed": seed,
        "machine": asdict(machine),
        "seconds": round(outcome.seconds, 1),
        "kernels": [_kernel(verdict, target, seed) for verdict in outcome.verdicts.values()],
    }


def _kernel(verdict: Verdict, target: Target, seed: int) -> dict[str, Any]:
    return {
        "kernel": verdict.kernel,
        "fingerprint": verdict.fingerprint,
        "verdict": verdict.said,
        "bound": "its own" if verdict.promised else "stock's",
        "kinds": len(verdict.kinds),
        "configs": len(verdict.configs),
        "runs": verdict.runs,
        "worst": _number(verdict.worst),
        "worst_case": verdict.worst_case,
        "beyond_bound": verdict.beyond,
        "refused_by_mlx": len(verdict.refused),
        "failures": [_failure(failure, target, seed) for failure in verdict.failures],
    }


def _failure(failure: Failure, target: Target, seed: int) -> dict[str, Any]:
    element = failure.element
    found: dict[str, Any] = {
        "route": str(failure.route),
        "case": str(failure.case),
        "way": failure.way,
        "kind": failure.kind,
        "detail": failure.detail,
        "repeat": failure.command(target.name, seed),
    }
    if element is not None:
        numbers = {name: _number(getattr(element, name)) for name in ("expected", "got", "allowed", "share")}
        found["element"] = {"index": list(element.index), **numbers}
    return found


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


LEGEND = "\n".join(
    (
        "worst: largest error of an element against float64, as a share of what is allowed for it (100% is the limit).",
        "Stock's own error is reported and never counts as a failure: 'beyond' are its runs past what a kernel that",
        "rounds operands and partial sums to the dtype would reach. 'Refused by MLX' are runs on operands for which",
        "MLX itself raises what the kernel raised; a routed call takes stock there.",
    )
)
"""What the words of the table mean."""


def table(outcome: Outcome) -> str:
    """A line for each kernel: what was tried, and the worst error as a share of what is allowed."""
    head = ("kernel", "verdict", "kinds", "configs", "runs", "worst", "on")
    rows = [head, *(_row(verdict) for verdict in outcome.verdicts.values())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head) - 1)]
    lines = []
    for row in rows:
        left = [f"{row[i]:{widths[i]}}" for i in (0, 1)]
        right = [f"{row[i]:>{widths[i]}}" for i in range(2, 6)]
        lines.append("  ".join([*left, *right, row[6]]).rstrip())
    return "\n".join(lines)


def _row(verdict: Verdict) -> tuple[str, ...]:
    counts = (len(verdict.kinds), len(verdict.configs), verdict.runs)
    said = verdict.said
    if verdict.beyond:
        said = f"{verdict.beyond} beyond"
    if verdict.refused:
        others = "" if said == REFUSED else f"{said}, "
        said = f"{others}{len(verdict.refused)} refused by MLX"
    # Never rounded to the limit: what is short of it has 99 % at most, what is beyond it 101 % at least.
    share = 100 * verdict.worst
    rounded = share if math.isinf(share) else math.ceil(share) if share > 100 else math.floor(share)
    worst = f"{rounded}%" if verdict.worst_case else ""
    return (verdict.kernel, said, *map(str, counts), worst, verdict.worst_case)


def failures(outcome: Outcome, target: Target, seed: int) -> str:
    """What went wrong first with each route, with the command that repeats it; empty where nothing did. What MLX
    refused comes last of each kernel."""
    lines = []
    for verdict in outcome.verdicts.values():
        first_of_each = list({(each.route, each.kind): each for each in reversed(verdict.failures)}.values())[::-1]
        listed = sorted(first_of_each, key=lambda each: each.kind == REFUSED)[:MOST_LISTED]
        for failure in listed:
            way = f" ({failure.way})" if failure.way else ""
            kind = "refused by MLX" if failure.kind == REFUSED else failure.kind
            lines += [f"{kind}: {failure.route}", f"  on      {failure.case}{way}"]
            first, *rest = failure.detail.splitlines() or [""]
            lines += [f"  because {first}", *(f"          {line.strip()}" for line in rest)]
            lines.append(f"  repeat  {failure.command(target.name, seed)}")
        if len(verdict.failures) > len(listed):
            lines.append(f"and {len(verdict.failures) - len(listed)} more of {verdict.kernel}")
    return "\n".join(lines)


def to_text(outcome: Outcome, machine: Machine, target: Target, seed: int, version: str, date: str) -> str:
    """The report as text, for a bug: where and with what it was found, the table, all that is listed of failures, and
    what the words mean."""
    ways = f", run {', '.join(target.ways)}" if any(target.ways) else ""
    cores = f", {machine.cores} cores" if machine.cores else ""
    prints = ", ".join(f"{verdict.kernel} {verdict.fingerprint}" for verdict in outcome.verdicts.values())
    parts = [
        f"autotune {version} verify, {date}",
        f"device    {target.name}: {machine.device_name}, {machine.architecture}{cores}, NAX {target.nax}{ways}",
        f"versions  MLX {machine.mlx}, {machine.os}, Python {sys.version.split()[0]}",
        f"seed      {seed}",
        f"kernels   {prints}",
        "",
        table(outcome),
        "",
        failures(outcome, target, seed) or "No failures.",
        "",
        LEGEND,
    ]
    return "\n".join(parts) + "\n"


def document(report: dict[str, Any]) -> str:
    """A report as it is written to a file."""
    return json.dumps({"schema": 1, **report}, indent=2, allow_nan=False) + "\n"
