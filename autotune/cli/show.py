"""``autotune show``: routing tables, readable."""

from __future__ import annotations

import os

import typer

from ..errors import UsageError
from . import output


def register(app: typer.Typer) -> None:
    @app.command()
    def show(
        file: str = typer.Argument("", metavar="FILE", help="Show this table instead; the same as --table."),
        chip: str = typer.Option("", metavar="ID", help="Show this chip's table instead, such as m5max."),
        table: str = typer.Option("", metavar="PATH", help="Show this file instead."),
        family: str = typer.Option("", metavar="TEXT", help="Only families with this in their text, such as N=13824."),
        json: bool = output.JSON,
    ) -> None:
        """Show the routes that this machine's tables hold, with the evidence for each."""
        from .. import machine
        from ..report import show as report
        from ..report import tables as shared

        if file and (chip or table):
            raise UsageError("FILE, --chip and --table each name a table", "give one")
        table = table or file
        files: tuple[shared.Standing, ...] = ()
        if chip or table:
            found = [shared.choose(chip, table)]
        else:
            files = shared.in_reach(filter(machine.has, ("gpu", "cpu")))
            found = [shared.choose("", file.path) for file in files if file.kinds]
        measured, notes = report.measurements(found)
        views = report.in_use(found, family, measured=measured)
        report.demand(views, family)
        if json:
            output.emit(report.document(views, files))
        else:
            shared.write(output.console(), report.text(views))
            for line in notes + ([] if chip or table else shared.passed_over(files)):
                output.note(line)
        if os.environ.get("AUTOTUNE_DISABLE"):
            output.note("AUTOTUNE_DISABLE is set: routed calls take stock, whatever the tables say")
        output.next_step(report.next_step(views, shared.option(chip, table)))
