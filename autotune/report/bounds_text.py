"""The model's account of a problem as text."""

from __future__ import annotations

from typing import Any

from ..stock_rules import versions
from . import tables
from .bounds import Bounds, Crossing, Lever, unit_name

FEW = 0.02
"""Share of the time below which a lever is not worth a line."""


def text(b: Bounds) -> list[Any]:
    """Lines and grids for :func:`autotune.report.tables.write`."""
    p, chip = b.prediction, b.chip
    title = tables.styled(f"Model of the {chip.name}", "bold")
    title.append(
        f" ({chip.cores} GPU cores, {chip.bandwidth / 1e9:.0f} GB/s, MLX {versions.said(b.version)}): "
        "predicted, not measured",
        style="yellow not bold",
    )
    first = p.parts[0]
    kernels = ", ".join(dict.fromkeys(part.launch.name for part in p.parts))
    said = (
        f"Stock at M={b.problem.m}: {_us(p.seconds)} us in {len(p.parts)} launch{'es' if len(p.parts) > 1 else ''} "
        f"({kernels}; {first.launch.groups} threadgroups, {first.launch.groups / chip.cores:.3g} a core, "
        f"{first.waves:.3g} waves). Its largest bound is {unit_name(p.rules)}. "
        f"An mx.eval around each call would make it {_us(p.seconds + chip.evaluate)} us."
    )
    parts: list[Any] = [title, tables.styled(said, ""), "", _at_m(b), "", *_by_m(b)]
    if b.crossings:
        parts += ["", tables.styled("Where it changes", "bold"), tables.grid([_crossing(each) for each in b.crossings])]
    return [*parts, "", *_levers(b)]


def _at_m(b: Bounds) -> Any:
    """Each bound at the problem's own M, the arithmetic by what it is for."""
    p = b.prediction
    bounds = p.bounds
    rows = [
        ("memory", _us(bounds["memory"]), f"{_from_memory(b)} at {b.chip.dram / 1e9:.0f} GB/s that are reached"),
        ("cache", _us(bounds["cache"]), "what all threadgroups ask of the caches"),
        ("arithmetic", _us(p.arithmetic), _tasks(b)),
        ("waiting", _us(bounds["waiting"]), "for loads and barriers, as far as nothing else runs meanwhile"),
        ("launch", _us(bounds["launch"]), "from one kernel to the next that needs its result"),
    ]
    ruling = "arithmetic" if p.rules in ("lanes", "matrix", "nax") else p.rules
    marked = [(">" if name == ruling else "", name, *rest) for name, *rest in rows]
    return tables.grid(marked, ("", "bound", "us", "of which"), right=(2,))


def _from_memory(b: Bounds) -> str:
    least = sum(part.launch.weights for part in b.prediction.parts)
    return f"{tables.quantity(least)}B of weights"


def _tasks(b: Bounds) -> str:
    units = {task.what: task.unit for part in b.prediction.parts for task in part.launch.tasks}
    tasks = sorted(b.prediction.tasks.items(), key=lambda each: -each[1])
    words = [f"{what} {_us(seconds)} ({unit_name(units[what])})" for what, seconds in tasks if seconds > 5e-8]
    return ", ".join(words).replace(" (arithmetic)", "")


def _by_m(b: Bounds) -> list[Any]:
    """Each bound at every M, and what was measured in a grid of its own: with it, one would not fit 80 columns."""
    head = ("M", "kernel", "time", "memory", "cache", "arithmetic", "waiting", "launch", "rules")
    rows = []
    for each in b.by_m:
        times = (each.seconds, each.memory, each.cache, each.arithmetic, each.waiting, each.launch)
        rows.append((str(each.m), each.kernel, *map(_us, times), unit_name(each.rules)))
    parts = [
        tables.styled("Predicted time and bounds by M, in us", "bold"),
        tables.grid(rows, head, right=(0, *range(2, 8))),
    ]
    beside = [
        (str(each.m), _us(each.seconds), _us(each.measured), f"{100 * each.off:+.0f} %")
        for each in b.by_m
        if each.measured is not None and each.off is not None
    ]
    if beside:
        parts += ["", tables.styled("Beside what was measured", "bold")]
        parts.append(tables.grid(beside, ("M", "predicted us", "measured us", "off"), right=range(4), fold=None))
        said = "off: the prediction, with the link of the chain and a share of its evaluation, over what was measured"
        parts.append(tables.styled(said, "dim"))
    return parts


def _crossing(each: Crossing) -> tuple[str, str]:
    if each.before != each.after and each.kernel_before == each.kernel_after:
        what = f"{unit_name(each.before)} hands over to {unit_name(each.after)}"
    elif each.before == each.after:
        what = f"{each.kernel_before} hands over to {each.kernel_after}"
    else:
        what = (
            f"{each.kernel_before}, bound by {unit_name(each.before)}, hands over to {each.kernel_after}, "
            f"bound by {unit_name(each.after)}"
        )
    return f"M={each.m}", what


def _levers(b: Bounds) -> list[Any]:
    now = b.prediction.seconds
    rows = [_lever(each, now) for each in b.levers if abs(each.seconds / now - 1) >= FEW]
    parts: list[Any] = [tables.styled("What would move it", "bold")]
    parts.append(
        tables.grid([*rows, *(_lever(each, now) for each in b.routes)], right=(1, 2), fold=0)
        if rows or b.routes
        else ""
    )
    if not b.routes:
        parts.append(tables.styled("No other route is faster by the model.", ""))
    return parts


def _lever(each: Lever, now: float) -> tuple[str, str, str]:
    return each.what, f"{_us(each.seconds)} us", f"{now / each.seconds:.2f}x"


def _us(seconds: float) -> str:
    return tables.three(seconds * 1e6)
