"""``autotune limits``: from where on one kind of route beats another, by paired measurements and bisection."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import typer

from ..errors import UsageError, unknown
from .measuring import measuring
from .output import JSON, console, emit, next_step, note

if TYPE_CHECKING:
    from ..problem import Problem
    from ..routing.table import ChipKey
    from ..search.duel import Axis, Duel, Found
    from ..search.measure import Effort


WHOLE = 1 << 12
"""A size that is a multiple of every group size."""


def register(app: typer.Typer) -> None:
    @app.command()
    def limits(
        problem: list[str] = typer.Argument(
            metavar="PROBLEM", help="Such as 'quantized_matmul N=13824 K=5120 f16 affine-b4-g64 nt'."
        ),
        along: str = typer.Option("M=1..64", metavar="RANGE", help="Such as M=1..64, or K=512..16384:512."),
        first: Optional[list[str]] = typer.Option(
            None, help="vector, matrix, split, a kernel or a route (repeatable). Default: vector; stock if dense."
        ),
        second: Optional[list[str]] = typer.Option(
            None, help="What may take over, likewise (repeatable). Default: matrix; split if dense."
        ),
        checks: int = typer.Option(0, min=0, help="Further comparisons, to look for a second crossing, such as 4."),
        device: str = typer.Option("", envvar="AUTOTUNE_DEVICE", help="gpu or cpu; MLX's default device if left out."),
        effort: str = typer.Option("standard", help="quick, standard or full: length of one evaluation."),
        load: str = typer.Option("chained", help="chained (as in decoding) or queued (independent calls)."),
        seed: int = typer.Option(0, help="Seed of the inputs."),
        timeout: float = typer.Option(120.0, min=1.0, help="Seconds without an answer after which a route has hung."),
        force: bool = typer.Option(False, "--force", help="Measure although this machine or MLX build seems unfit."),
        json: bool = JSON,
    ) -> None:
        """Measure a limit and its interval: vector_limit, where split-K begins, where any two routes change places."""
        from ..devices.base import LOADS
        from ..report import boundary as report
        from ..report import tables
        from ..search.duel import Axis
        from ..search.measure import EFFORTS
        from .selection import device_kind

        for what, name, known in (("effort", effort, EFFORTS), ("load", load, LOADS)):
            if name not in known:
                raise unknown(what, name, known)
        axis = Axis.parse(along)
        template = _template(" ".join(problem), axis)
        defaults = ("stock", "split") if template.quantization is None else ("vector", "matrix")
        words = (first or [defaults[0]], second or [defaults[1]])
        both = sorted({*words[0]} & {*words[1]})
        if both:
            raise UsageError(f"{both[0]} is on both sides", "name other routes with --first and --second")
        kind = device_kind(device)
        found, chip = _find(template, axis, words, kind, EFFORTS[effort], load, checks, seed, timeout, force)
        names = (" or ".join(words[0]), " or ".join(words[1]))
        if json:
            emit(report.document(found, names, chip))
        else:
            tables.write(console(), report.text(found, names, chip))
        next_step("autotune sweep measures every M of a workload; then autotune show has its limits")


def _template(text: str, axis: Axis) -> Problem:
    """The problem at the axis' first value: what the text says of that axis is of no account. Raises
    :class:`UsageError` also where a weight that is quantized in groups would get a part of one along the axis."""
    from ..problem import Problem

    letter = axis.name.upper()
    rest = re.sub(rf"\b{axis.name}=\d+\b", "", text, flags=re.IGNORECASE)
    whole = Problem.parse(f"{rest} {letter}={WHOLE}")
    grouped = "k" if whole.layout == "nt" else "n"
    if whole.quantization is not None and axis.name == grouped:
        group = whole.quantization.group_size
        if axis.first % group or (axis.step % group and axis.first != axis.last):
            first = -(-axis.first // group) * group
            raise UsageError(
                f"{letter} must be a multiple of the group size {group} all along {axis}",
                f"such as --along {letter}={first}..{max(first, axis.last)}:{group}",
            )
    return Problem.parse(f"{rest} {letter}={axis.first}")


def _find(
    template: Problem,
    axis: Axis,
    words: tuple[list[str], list[str]],
    kind: str,
    effort: Effort,
    load: str,
    checks: int,
    seed: int,
    timeout: float,
    force: bool,
) -> tuple[Found, ChipKey]:
    from .. import chips, machine
    from .._version import __version__
    from ..report import tables
    from ..report.explain import beside
    from ..routing.table import load as load_table
    from ..search import duel, isolated
    from ..search.results import Origin
    from ..stock_rules import MATRIX, VECTOR

    if machine.backend(kind) == "cpu" and {VECTOR, MATRIX} & {*words[0], *words[1]}:
        raise UsageError(
            "MLX's CPU build has one kernel for every M: there is no vector and no matrix side",
            "name kernels, such as --first stock --second dequantize",
        )
    chip = Origin.of(chips.here(kind), machine.local(kind), __version__, load).key
    for side in words:
        duel.demand(side, template, chip)
    rows = [row for file in tables.in_reach([kind]) if file.kinds for row in beside(load_table(Path(file.path)))[0]]
    known = duel.known(rows, template)
    camps = (duel.camp(words[0], chip, known), duel.camp(words[1], chip, known))
    with measuring(kind, force):
        target = isolated.IsolatedDevice(kind, chips.cache_bytes(kind), timeout)
        try:
            found = duel.find(target, template, axis, camps, effort, load, checks, seed, _tell(axis))
        finally:
            target.close()
    return found, chip


def _tell(axis: Axis) -> Callable[[Duel], None]:
    """A line for each point as it is measured."""

    def tell(each: Duel) -> None:
        ahead = each.second if each.sign.value > 0 else each.first
        sure = "" if each.sign.clear else ", not clearly"
        note(f"{axis.name.upper()}={each.value}: {ahead} is ahead{sure}")

    return tell
