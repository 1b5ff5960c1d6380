"""``autotune explain``: why one problem takes its route."""

from __future__ import annotations

import os

import typer

from . import output


def register(app: typer.Typer) -> None:
    @app.command()
    def explain(
        problem: list[str] = typer.Argument(
            metavar="PROBLEM", help="Such as 'quantized_matmul M=3 N=13824 K=5120 f16 affine-b4-g64 nt'."
        ),
        chip: str = typer.Option("", metavar="ID", help="Ask this chip's table instead, such as m5max."),
        table: str = typer.Option("", metavar="PATH", help="Ask this file instead."),
        json: bool = output.JSON,
    ) -> None:
        """Tell which route a problem takes on this machine, why, what else was measured, and what stock costs."""
        from .. import machine
        from ..problem import Problem
        from ..report import explain as report
        from ..report import explain_text
        from ..report import tables as shared

        wanted = Problem.parse(" ".join(problem))
        if chip or table:
            found = [shared.choose(chip, table)]
            files = shared.in_reach(filter(machine.has, ("gpu", "cpu")), found[0].path)
        else:
            files = shared.in_reach([machine.default_kind()])
            found = [shared.choose("", file.path) for file in files if file.kinds]
        decides = report.deciding(found, wanted)
        results, note = report.beside(decides)
        explanation = report.explain(wanted, decides, results, [note], files)
        if json:
            output.emit(report.document(explanation))
        else:
            shared.write(output.console(), explain_text.text(explanation))
        if os.environ.get("AUTOTUNE_DISABLE"):
            output.note("AUTOTUNE_DISABLE is set: routed calls take stock, whatever the tables say")
        output.next_step(explain_text.next_step(explanation, shared.option(chip, table)))
