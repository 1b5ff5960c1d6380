"""``autotune check``: whether tables still hold, for continuous integration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Optional

import typer

from ..errors import OK, STALE, UsageError, unknown
from . import sources
from .output import JSON, emit, next_step, note

if TYPE_CHECKING:
    from ..search.check import Finding

FORMATS = ("text", "json", "github")


def register(app: typer.Typer) -> None:
    @app.command()
    def check(
        tables: Optional[list[Path]] = typer.Argument(
            None, help="Tables or folders of tables. Default: tuned_tables/ here, else the shipped ones."
        ),
        workload: Optional[list[str]] = typer.Option(None, help="Workload that has to be covered (repeatable)."),
        mlx: str = typer.Option("", help="Advise a re-check of routes measured with another MLX version than this."),
        format: str = typer.Option("text", help="text, json or github (annotations)."),
        json: bool = JSON,
    ) -> None:
        """Check tables without a GPU: schema, fingerprints, evidence, coverage, and that their CSV gives them."""
        import gc

        from ..search import workloads
        from ..search.check import check as findings_of

        gc.disable()  # a large table makes half a million objects that all stay: a quarter of the time went to looking
        if format not in FORMATS:
            raise unknown("format", format, FORMATS)
        for name in workload or []:
            workloads.load(name)  # a misspelt name is the caller's mistake, not the tables'
        files = _files(tables or [])
        findings = [finding for file in files for finding in findings_of(file, workload or [], mlx)]
        failed = [finding for finding in findings if finding.fails]
        predicted = [file for file in files if "simulated" in sources.of_table(file)]
        if json or format == "json":
            tables_ = {"tables": [str(file) for file in files], "simulated": [str(file) for file in predicted]}
            emit({**tables_, "findings": [vars(finding) for finding in findings]})
        else:
            for finding in findings:
                print(_github(finding) if format == "github" else _text(finding))
            names = ", ".join(file.name for file in files) or "no tables"
            print(f"checked {names}: {'current' if not failed else f'{len(failed)} to mend'}")
            for file in predicted:
                note(
                    f"{file} is simulated: a model's predictions, which no routed call takes unless a program names it"
                )
        if failed and failed[0].remedy.startswith("run"):
            next_step(failed[0].remedy.removeprefix("run: "))
        raise typer.Exit(STALE if failed else OK)


def _files(given: list[Path]) -> list[Path]:
    from .. import paths

    if not given:
        here = Path("tuned_tables")
        given = [here if here.is_dir() else paths.tuned_tables()]
    files = []
    for path in given:
        if path.is_dir():
            files += sorted(path.glob("*.json"))
        elif path.suffix == ".csv":
            files.append(path.with_suffix(".json"))
        elif path.exists():
            files.append(path)
        else:
            raise UsageError(f"{path} does not exist", "give a table or a folder of tables")
    if not files:
        note(f"no tables in {', '.join(str(path) for path in given)}")
    return list(dict.fromkeys(files))


def _text(finding: Finding) -> str:
    return f"{finding.path}:{finding.line}: {finding.kind}: {finding.text} ({finding.remedy})"


def _github(finding: Finding) -> str:
    """An annotation of GitHub's workflow commands; their syntax wants %, CR and LF escaped, in the file's name also the
    colon and the comma."""
    level = "error" if finding.fails else "warning"
    text = f"{finding.text}. {finding.remedy}"
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    file = finding.path.replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
    return f"::{level} file={file},line={finding.line},title=autotune {finding.kind}::{escaped}"
