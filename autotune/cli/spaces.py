"""``autotune spaces``: what there is to choose from."""

from __future__ import annotations

from typing import Optional

import typer

from . import output


def register(app: typer.Typer) -> None:
    @app.command()
    def spaces(
        problem: Optional[list[str]] = typer.Option(
            None,
            metavar="TEXT",
            help="Count legal configs for it, such as 'matmul M=4 N=512 K=512 f16 nt' (repeatable).",
        ),
        workload: str = typer.Option(
            "", metavar="NAME", help="Count for this workload's problems, by name or YAML file."
        ),
        kernel: Optional[list[str]] = typer.Option(None, metavar="NAME", help="Only this kernel (repeatable)."),
        chip: str = typer.Option(
            "",
            metavar="ID",
            help="A chip of the catalogue, such as m5max, instead of this machine's; NAX on if it has any.",
        ),
        list_: bool = typer.Option(False, "--list", help="Print the legal routes themselves, one a line."),
        json: bool = output.JSON,
    ) -> None:
        """Show each kernel's parameters, their candidate values, and how many configs are legal for a problem."""
        from .. import chips, machine
        from ..errors import UsageError
        from ..problem import Problem
        from ..report import spaces as report
        from ..report import tables as shared
        from ..search import workloads

        named = [Problem.parse(text) for text in problem or []]
        problems = tuple(dict.fromkeys([*named, *(workloads.load(workload).problems if workload else ())]))
        if list_ and not problems:
            raise UsageError("--list needs a problem", "name one with --problem or several with --workload")
        target = report.of_chip(chips.get(chip)) if chip else report.of_machine(machine.default_kind())
        found = report.view(target, problems, kernel or ())
        if json:
            output.emit(report.document(target, found, list_))
        else:
            shared.write(output.console(), report.listing(found) if list_ else report.text(target, found))
        output.next_step(report.next_step(target, named, workload))
