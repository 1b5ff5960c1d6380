"""An explanation as text: the decision, its evidence, the rivals, and how far both are from the roofline."""

from __future__ import annotations

from typing import Any

from ..devices.clock import PLAIN
from ..kernels import STOCK
from ..problem import Problem
from ..routing.table import Row
from ..search.between import LEAST_SHARE
from ..search.measured import LEAST_ROUNDS, bar, noise_of, saved_us
from ..search.results import PRUNED, Result
from . import tables
from .ends import Ends
from .explain import Explanation, Listing, clocks

MOST_TIMED, MOST_REFUSED = 20, 10
"""Rows that people want to see; a kernel with a large space has hundreds, and the JSON document has them all."""
NOT_COMPUTED = "not computed: a model gave the times, and autotune verify says whether a kernel is right"


def text(e: Explanation) -> list[Any]:
    """The explanation as lines and grids for :func:`autotune.report.tables.write`."""
    parts: list[Any] = [tables.styled(str(e.problem), "bold")]
    facts = {"route": str(e.found.decision.route), "why": e.found.why, **_evidence(e), **_table(e)}
    parts.append(tables.grid((tables.styled(name, "dim"), fact) for name, fact in facts.items() if fact))
    parts += [tables.styled(f"note: {note}", "yellow") for note in e.notes]
    if e.ends is not None:
        parts += ["", *_between(e, e.ends)]
    if e.measured is not None:
        parts += ["", *_measured(e, e.measured), "", *_roofline(e, e.measured)]
    return parts


def next_step(e: Explanation, option: str = "") -> str:
    """The command that follows: tune what has no route of its own here, else look at the rows around this one."""
    grade = e.found.decision.grade
    if not option and (e.found.decision.neighbour or grade is None or not grade.usable):
        return f"autotune sweep --problem {tables.as_words(e.problem)}"
    words, table = tables.shape(e.problem.family), e.found.table
    known = table is None or any(tables.has_words(family, words) for family in table.families)
    return " ".join(filter(None, ("autotune show", f"--family '{words}'" if known else "", option)))


def _evidence(e: Explanation) -> dict[str, str]:
    row, grade = e.found.decision.row, e.found.decision.grade
    if row is None or grade is None:
        return {}
    return {
        "rival" if tables.is_stock(row) else "speedup": _gain(e, row),
        "bound": tables.bound(e.found.decision.neighbour.bound) if e.found.decision.neighbour else "",
        "error": NOT_COMPUTED if _simulated(e) else f"{row.error:.2g} relative to a float64 reference",
        "state": grade.level + (f": {grade.reason}" if grade.reason else ""),
        "simulated" if _simulated(e) else "measured": f"{row.date}, MLX {row.mlx}, {row.os}",
    }


def _gain(e: Explanation, row: Row) -> str:
    """What the route gains at this very M, if it was measured there, and at the row's weakest M."""
    decision = e.found.decision
    m, whose = decision.problem.m, f" and {tables.shape(decision.neighbour.family)}" if decision.neighbour else ""
    at, rounds = f"at M={row.at}{whose}", _rounds(row.samples)
    gain, alone = tables.speedup(tables.evidence(row)), row.first == row.last == row.at
    if tables.is_stock(row):
        return f"{gain} over stock {at}, {rounds}" + ("" if alone else ", the row's best")
    if e.own is not None and row.at != m:
        own = f"{tables.speedup(e.own.interval)} over stock at M={m}{whose}, {_rounds(e.own.rounds)}"
        return f"{own}; the row's least is {gain} {at}"
    # Without measurements beside the table nobody knows at which M of a row there were some.
    if row.at != m and (e.measured is not None or not tables.measured_in(row)):
        return f"not measured at M={m}; the row's least is {gain} over stock {at}, {rounds}"
    return f"{gain} over stock {at}, {rounds}" + ("" if alone else ", the row's least")


def _rounds(number: int) -> str:
    return tables.count(number, "round") + (" of screening" if number < LEAST_ROUNDS else "")


def _simulated(e: Explanation) -> bool:
    return e.header is not None and e.header.source == "simulated"


def _table(e: Explanation) -> dict[str, str]:
    if e.header is None:
        return {"files": "; ".join(f"{file.path}: {file.reason}" for file in e.files) or "there is none"}
    facts = tables.facts(e.header, ())
    unused = [file.reason for file in e.files if file.path == e.path and not file.kinds]
    return {
        "table": e.path,
        "chip": facts["chip"],
        "numbers": facts["numbers"] if e.header.source != "measured" else "",
        "load": facts["load"],
        "here": f"not used on this machine: {unused[0]}" if unused else "",
    }


def _between(e: Explanation, ends: Ends) -> list[Any]:
    """The route at the M on both sides, and the least that it gains between them."""
    title = tables.styled(f"The route on both sides of M={e.problem.m}", "bold")
    title.append(_whose(e, ends.before.problem), style="yellow not bold")
    said = clocks(ends.rows)
    title.append(f", {said}" if said else "", style="not bold")
    rows = [
        (
            str(end.problem.m),
            tables.three(row.stock_us),
            tables.three(row.time_us),
            tables.speedup(row.interval),
            _rounds(row.rounds) + (f", {row.clock} times" if " and " in said else ""),
        )
        for end, row in zip(ends.both, ends.rows)
    ]
    parts = [title, tables.grid(rows, ("M", "stock us", "route us", "speedup", ""), right=(0, 1, 2))]
    if ends.least is not None:
        least = f"Least gain between them: {ends.least:.2f}x, stock's shorter time over the route's longer one, with "
        least += "the lower bounds of the speedups"
        if len({row.clock == PLAIN for row in ends.rows}) > 1:
            least += f"; a plain time of stock counts as {LEAST_SHARE} of it, as the GPU's own may be that much shorter"
        parts.append(tables.styled(f"{least}.", ""))
    return parts


def _whose(e: Explanation, measured: Problem) -> str:
    """Of what else the measurements are than of the problem's own shape and layout, if so."""
    if e.found.decision.neighbour:
        return f" of the neighbour {tables.shape(measured.family)}"
    return f" of the layout {measured.layout}" if measured.layout != e.problem.layout else ""


def _measured(e: Explanation, m: Listing) -> list[Any]:
    simulated = _simulated(e)
    title = tables.styled(f"{'Simulated' if simulated else 'Measured'} at M={m.problem.m}", "bold")
    title.append(_whose(e, m.problem), style="yellow not bold")
    if m.problem.m != e.problem.m:
        row = e.found.decision.row
        beside = e.ends is not None or (row is not None and row.at == m.problem.m and not tables.measured_in(row))
        what = "beside" if beside else "the nearest to"
        title.append(f", {what} M={e.problem.m}{'' if beside else ' that was'}", style="yellow not bold")
    title.append(f", {m.clocks}" if m.clocks else "", style="not bold")
    timed, refused = m.timed, m.results[len(m.timed) :]
    shown = list(timed[:MOST_TIMED])
    # Stock and the route are what the list is about, however far down they come.
    shown += [each for each in timed[MOST_TIMED:] if each.route in (str(STOCK), str(e.found.decision.route))]
    head = ("", "route", "us", "stock us", "speedup", "" if simulated else "error", "")
    parts = [title, tables.grid((_cells(e, each) for each in shown), head, right=(2, 3), fold=1)]
    parts.append(tables.styled("stock us: stock, timed in turns with that route; the speedup is over that", "dim"))
    if simulated:
        parts.append(
            tables.styled("intervals contain the noise of simulated evaluations alone, not the model's error", "dim")
        )
    if refused:
        rows = [(each.route, f"{each.status}: {each.reason}") for each in refused[:MOST_REFUSED]]
        parts += ["", tables.styled("Refused", "bold"), tables.grid(rows)]
    left = len(timed) - len(shown) + max(0, len(refused) - MOST_REFUSED)
    if left:
        parts.append(tables.styled(f"and {left} more: --json lists them all", "dim"))
    return [*parts, "", *_compared(e, m)]


def _cells(e: Explanation, result: Result) -> tuple[Any, ...]:
    taken = result.route == str(e.found.decision.route)
    return (
        ">" if taken else "",
        tables.styled(result.route, "bold" if taken else ""),
        tables.three(result.time_us),
        tables.three(result.stock_us),
        tables.speedup(result.interval),
        "" if _simulated(e) else f"{result.error:.2g}",
        "dropped" if result.status == PRUNED else "",
    )


def _compared(e: Explanation, m: Listing) -> list[Any]:
    """What the runner-up and stock cost beside the route; beside an M that was not measured, why a route that is faster
    is not taken, as none is second that may not be usable there.

    Ratios are of paired speedups: times of different rounds may differ by more than their routes do.
    """
    taken, second = m.of(e.found.decision.route), m.runner_up(e.found.decision.route)
    if taken is None:
        return [tables.styled(f"The route {e.found.decision.route} was not timed at M={m.problem.m}.", "")]
    lines, rival = _bar(e, m), e.faster
    if rival is not None:
        gain, us = tables.speedup(rival.result.interval), tables.three(rival.result.time_us)
        lines.append(f"Faster at M={rival.m}, but not taken: {rival.result.route}, {us} us, {gain}: {rival.why}.")
    if e.ends is not None:
        return [tables.styled(line, "") for line in lines]
    if second is not None and taken.route == str(STOCK):
        gain = tables.speedup(second.interval)
        lines.append(f"Best rival of stock: {second.route}, {tables.three(second.time_us)} us, {gain}.")
    elif second is not None and second.speedup > 0:
        apart = "; their intervals overlap" if second.interval.overlaps(taken.interval) else ""
        lines.append(f"Runner-up: {second.route}, {_against(second.time_us, taken, second.speedup)}{apart}.")
    if taken.route != str(STOCK):
        lines.append(f"Stock, timed beside it: {_against(taken.stock_us, taken, 1.0)}.")
    return [tables.styled(line, "") for line in lines]


def _bar(e: Explanation, m: Listing) -> list[str]:
    """What a route has to clear at this M: the table's margin, or this problem's own noise where that is more."""
    stock = m.of(STOCK)
    if e.header is None or stock is None:
        return []
    noise, margin = noise_of(stock), e.header.margin
    least = bar(max(noise, margin), e.header.sessions)
    high = tables.per_cent(least - 1)
    said = [f"Stock was up to {tables.per_cent(noise)} from itself: a speedup's lower bound has to clear {high} here."]
    dear = [row for row in m.results if row.low > least and saved_us(row) <= row.host_us]
    if dear and not e.header.gpu_bound:
        best = max(dear, key=lambda row: row.speedup)
        saves, costs = tables.three(saved_us(best)), tables.three(best.host_us)
        said.append(f"{best.route} saves the GPU {saves} us a call and costs the CPU {costs} us more: not taken.")
    return said


def _against(time_us: float, taken: Result, speedup: float) -> str:
    ratio = tables.three(taken.speedup / speedup)
    return f"{tables.three(time_us)} us, {ratio} times the route's {tables.three(taken.time_us)} us"


def _roofline(e: Explanation, m: Listing) -> list[Any]:
    flops, least = m.problem.flops, m.problem.bytes
    title = tables.styled(f"Roofline at M={m.problem.m}", "bold")
    title.append(
        f": {tables.quantity(flops)}FLOP, at least {tables.quantity(least)}B to move, {flops / least:.3g} FLOP/B",
        style="not bold",
    )
    scale, unit = (1, "TFLOP/s") if any(a.tflops >= 0.1 for a in e.roofline) else (1000, "GFLOP/s")
    peak = (f"of {e.peak:.0f}",) if e.peak else ()
    rows = [
        (a.route, tables.three(a.time_us), tables.three(a.gbs))
        + ((f"{100 * a.gbs / e.peak:.0f} %",) if e.peak else ())
        + (tables.three(a.tflops * scale),)
        for a in e.roofline
    ]
    head = ("route", "us", "GB/s", *peak, unit)
    return [title, tables.grid(rows, head, right=(1, 2, 3, 4), fold=0)]
