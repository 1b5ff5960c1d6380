"""``autotune explain``: why one problem takes its route, and why it takes as long as it does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import typer

from . import output

if TYPE_CHECKING:
    from ..problem import Problem
    from ..report.bounds import Bounds
    from ..routing.table import Table
    from ..search.results import Result


def register(app: typer.Typer) -> None:
    @app.command()
    def explain(
        problem: list[str] = typer.Argument(
            metavar="PROBLEM", help="Such as 'quantized_matmul M=3 N=13824 K=5120 f16 affine-b4-g64 nt'."
        ),
        chip: str = typer.Option("", metavar="ID", help="Ask this chip's table instead, and its model, such as m5max."),
        table: str = typer.Option("", metavar="PATH", help="Ask this file instead."),
        mlx: str = typer.Option("", metavar="VERSION", help="MLX whose rules the model follows. Default: installed."),
        cores: int = typer.Option(0, min=0, help="GPU cores of the modelled chip. Default: the table's, or the most."),
        plot: Optional[Path] = typer.Option(
            None, help="Draw the modelled time against M there, such as bounds.png; needs '.[plot]'."
        ),
        json: bool = output.JSON,
    ) -> None:
        """Tell which route a problem takes on this machine, why, what else was measured, and what stock costs; for an
        Apple GPU besides what bounds the stock op by a model of the chip, and where these bounds hand over."""
        from .. import machine
        from ..errors import UsageError
        from ..problem import Problem
        from ..report import bounds as model
        from ..report import bounds_plot, bounds_text, explain_text
        from ..report import explain as report
        from ..report import tables as shared

        wanted = Problem.parse(" ".join(problem))
        if plot and plot.is_dir():
            raise UsageError(f"{plot} is a folder", f"name a file, such as {plot / 'bounds.png'}")
        if chip or table:
            chosen = shared.choose(chip, table) if table or shared.exists(chip) or not _modelled(chip) else None
            found = [chosen] if chosen else []
            files = shared.in_reach(filter(machine.has, ("gpu", "cpu")), chosen.path) if chosen else ()
        else:
            files = shared.in_reach([machine.default_kind()])
            found = [shared.choose("", file.path) for file in files if file.kinds]
        taken = report.look_up(found, wanted)
        decides = taken.table
        results, note = report.beside(decides)
        explanation = report.explain(wanted, taken, results, [note], files)
        bounds = _bounds(wanted, chip, cores, mlx, decides, results)
        if bounds is None and (mlx or cores or plot):
            raise UsageError("there is no Apple GPU to model here", "name one with --chip, such as m4pro")
        if json:
            output.emit({**report.document(explanation), "model": model.document(bounds) if bounds else None})
        else:
            parts = explain_text.text(explanation)
            shared.write(output.console(), [*parts, "", *bounds_text.text(bounds)] if bounds else parts)
        if plot and bounds:
            # Last: what was asked about is told even where the picture cannot be drawn.
            bounds_plot.plot(bounds, plot)
            output.note(f"wrote {plot}")
        if os.environ.get("AUTOTUNE_DISABLE"):
            output.note("AUTOTUNE_DISABLE is set: routed calls take stock, whatever the tables say")
        if decides is None and chip:
            output.next_step(f"autotune sweep --chip {bounds.chip.id if bounds else chip} --simulate")
        else:
            output.next_step(explain_text.next_step(explanation, shared.option(chip, table)))


def _modelled(name: str) -> bool:
    """Whether there is a model of the chip that the user named."""
    from .. import chips
    from ..devices.simulated import chip
    from ..errors import UsageError

    try:
        return chips.get(name).id in chip.names()
    except UsageError:
        return False


def _bounds(
    problem: Problem, name: str, cores: int, mlx: str, table: Optional[Table], results: list[Result]
) -> Optional[Bounds]:
    """The model's account for the chip that the user named, else the table's, else this machine's; None where that is
    no Apple GPU. Measured times of stock stand beside it where they are that chip's."""
    from .. import chips, machine
    from ..devices.simulated import chip
    from ..report import bounds

    key = table.header.chip if table else None
    if not name and key is None:
        local = chips.of_machine(machine.default_kind())
        name = local.id if local and local.backend == "metal" else ""
        cores = cores or (machine.local("gpu").cores if name else 0)
    id_ = name or (key.id if key else "")
    if not id_ or not _modelled(id_):
        return None
    own = key is not None and key.id == chips.get(id_).id
    if own and key and not cores and key.cores in chips.get(id_).gpu_cores:
        cores = key.cores
    modelled = chip.get(id_, cores)
    measured = bounds.measured_by_m(results, problem) if own and key and key.cores == modelled.cores else {}
    return bounds.bounds(problem, modelled, mlx or machine.mlx_version(), measured)
