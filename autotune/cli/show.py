"""``autotune show``: routing tables, readable."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Optional

import typer

from ..errors import UsageError
from . import output

if TYPE_CHECKING:
    from ..routing.table import Table


def register(app: typer.Typer) -> None:
    @app.command()
    def show(
        file: str = typer.Argument("", metavar="FILE", help="Show this table instead; the same as --table."),
        chip: str = typer.Option("", metavar="ID", help="Show this chip's table instead, such as m5max."),
        table: str = typer.Option("", metavar="PATH", help="Show this file instead."),
        family: str = typer.Option(
            "", metavar="TEXT", help="Only families with these words, or words that begin so: N=138, f16, b4-g64."
        ),
        times: bool = typer.Option(
            False, "--times", help="What stock and the routes take at each measured M, shape beside shape."
        ),
        m: Optional[list[int]] = typer.Option(None, "--m", help="With --times, only this M (repeatable)."),
        workload: Optional[list[str]] = typer.Option(
            None, help="With --times, only this workload's shapes, in its order (repeatable)."
        ),
        format: str = typer.Option("", metavar="text|markdown", help="With --times, how to print them."),
        json: bool = output.JSON,
    ) -> None:
        """Show the routes that this machine's tables hold, with the evidence for each."""
        from .. import machine
        from ..report import show as report
        from ..report import tables as shared

        if file and (chip or table):
            raise UsageError("FILE, --chip and --table each name a table", "give one")
        table = table or file
        if not times and (m or workload or format):
            raise UsageError("--m, --workload and --format are for --times", "add --times")
        files: tuple[shared.Standing, ...] = ()
        if chip or table:
            found = [shared.choose(chip, table)]
        else:
            files = shared.in_reach(filter(machine.has, ("gpu", "cpu")))
            found = [shared.choose("", file.path) for file in files if file.kinds]
        if times:
            output.next_step(_times(found, family, m or [], workload or [], format or "text", json, (chip, table)))
            return
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


def _times(
    found: list[Table],
    words: str,
    ms: list[int],
    workloads_: list[str],
    format: str,
    json: bool,
    named: tuple[str, str],
) -> str:
    """Prints the times of the tables that have some, and gives the command that follows; ``named`` are --chip and
    --table."""
    from ..errors import AutotuneError, unknown
    from ..report import tables as shared
    from ..report import times as report
    from ..report.explain import beside
    from ..search import workloads

    if format not in report.FORMATS:
        raise unknown("format", format, report.FORMATS)
    if json and format != "text":
        raise UsageError("--json and --format are two forms", "give one")
    if not found:
        raise AutotuneError("no table is in use on this machine", "name one, or run: autotune sweep && autotune export")
    order = [problem.family for name in workloads_ for problem in workloads.load(name).problems]
    views, missing = [], []
    for table in found:
        results, none = beside(table)
        if none:
            missing.append(AutotuneError(f"{table.path} has no times ({none})", "run: autotune export"))
            continue
        try:
            views.append(report.times(table, results, words, ms, order))
        except AutotuneError as error:
            missing.append(error)
    if not views:
        raise missing[0]
    for each in missing:
        output.note(each.cause)
    if json:
        output.emit(report.document(views))
    elif format == "markdown":
        print(report.markdown(views))
    else:
        console = output.console()
        shared.write(console, report.text(views, console.width if console.is_terminal else shared.WIDE))
    return report.next_step(views, shared.option(*named))
