"""``autotune run``: a program of somebody else's, with its MLX calls routed."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Optional

import typer

from ..errors import UsageError

_AS_GIVEN = {"ignore_unknown_options": True, "allow_interspersed_args": False}
"""What follows the program's name is the program's."""


def register(app: typer.Typer) -> None:
    @app.command(context_settings=_AS_GIVEN)
    def run(
        program: str = typer.Argument(help="A module, such as mlx_lm.server, or a file that ends in .py."),
        arguments: Optional[list[str]] = typer.Argument(None, help="The program's own arguments."),
        table: Optional[Path] = typer.Option(None, help="Look in this table first."),
        record_shapes: Optional[Path] = typer.Option(
            None,
            metavar="FILE.yaml",
            help="Add the program's products to this workload, for autotune sweep --workload.",
        ),
        quiet: bool = typer.Option(False, "--quiet", "-q", help="Do not say at the end how much was routed."),
    ) -> None:
        """Run a Python program with its MLX calls routed. It ends as the program does."""
        _demand(program)
        if record_shapes:
            _demand_recording(record_shapes)
        # A process of the program's own: its errors, exit code and signals are not this command's to handle.
        options = [str(table or ""), str(record_shapes or ""), "quiet" if quiet else ""]
        words = [sys.executable, "-m", "autotune.cli.program", *options, program, *(arguments or [])]
        os.execv(sys.executable, words)


def _demand_recording(path: Path) -> None:
    """Raises :class:`UsageError` where products could not be recorded in that file: now, and not after hours."""
    from ..routing.router import disabled
    from ..search import workload_file

    if disabled():
        raise UsageError("AUTOTUNE_DISABLE is set, so that no product would be recorded", "unset it")
    workload_file.demand(path)


def _demand(program: str) -> None:
    """Raises :class:`UsageError` where there is no such program. Nothing of it is imported here: that is for after its
    calls are routed."""
    if program.startswith("-"):
        raise UsageError(f"there is no option {program}", "autotune run --help lists them; then comes the program")
    if program.endswith(".py"):
        if not Path(program).is_file():
            raise UsageError(f"there is no file {program}", "name a Python file or an installed module")
        return
    top, here = program.partition(".")[0], os.getcwd()
    sys.path.insert(0, here)
    try:
        found = find_spec(top)
    except (ImportError, ValueError):
        found = None
    finally:
        sys.path.remove(here)
    if found is None:
        raise UsageError(f"there is no module {top}", "install it here, or name a file that ends in .py")
