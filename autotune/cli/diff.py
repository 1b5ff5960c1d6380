"""``autotune diff``: what changed between two routing tables."""

from __future__ import annotations

import typer

from . import output


def register(app: typer.Typer) -> None:
    @app.command()
    def diff(
        a: str = typer.Argument(metavar="A", help="The older table's file."),
        b: str = typer.Argument(metavar="B", help="The newer table's file."),
        format: str = typer.Option("text", metavar="text|markdown|json", help="How to print it."),
        fail_on: str = typer.Option("", metavar="slower", help="End with exit code 4 where anything is slower."),
        json: bool = output.JSON,
    ) -> None:
        """Compare two routing tables: what is faster, slower, new or gone, and what takes another route."""
        from ..errors import REGRESSION
        from ..report import diff as report
        from ..report import tables as shared

        how = "json" if json else report.one_of("format", format, report.FORMATS)
        if fail_on:
            report.one_of("kind of change to fail on", fail_on, report.FAIL_ON)
        found = report.diff(shared.choose("", a), shared.choose("", b))
        if how == "json":
            output.emit(report.document(found))
        elif how == "markdown":
            print(report.markdown(found), end="")
        else:
            shared.write(output.console(), report.text(found))
        output.next_step(report.next_step(found))
        if fail_on and found.counts[fail_on]:
            raise typer.Exit(REGRESSION)
