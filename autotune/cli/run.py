"""``autotune run``: a program of somebody else's, with its MLX calls routed."""

from __future__ import annotations

import os
import runpy
import sys
import traceback
from importlib.util import find_spec
from pathlib import Path
from typing import Optional

import typer

from ..errors import FAILED, UsageError

_AS_GIVEN = {"ignore_unknown_options": True, "allow_interspersed_args": False}
"""What follows the program's name is the program's."""


def register(app: typer.Typer) -> None:
    @app.command(context_settings=_AS_GIVEN)
    def run(
        program: str = typer.Argument(help="A module, such as mlx_lm.server, or a file that ends in .py."),
        arguments: Optional[list[str]] = typer.Argument(None, help="The program's own arguments."),
        table: Optional[Path] = typer.Option(None, help="Look in this table first."),
    ) -> None:
        """Run a Python program with its MLX calls routed."""
        _demand(program)
        from ..routing import switch

        if table:
            switch.use_table(table)
        switch.enable(inference=True)  # the program's modules are imported after this, as it asks
        script = _is_file(program)
        sys.argv = [program, *(arguments or [])]
        sys.path.insert(0, str(Path(program).resolve().parent) if script else os.getcwd())
        try:
            if script:
                runpy.run_path(program, run_name="__main__")
            else:
                runpy.run_module(program, run_name="__main__", alter_sys=True)
        except ImportError:  # the program's own: the command line would take it for a lack of MLX
            traceback.print_exc()
            raise typer.Exit(FAILED) from None


def _is_file(program: str) -> bool:
    return program.endswith(".py")


def _demand(program: str) -> None:
    """Raises :class:`UsageError` where there is no such program, before anything of MLX is loaded."""
    if _is_file(program):
        if not Path(program).is_file():
            raise UsageError(f"there is no file {program}", "name a Python file or an installed module")
        return
    sys.path.insert(0, os.getcwd())
    try:
        found = find_spec(program)
    except (ImportError, ValueError):
        found = None
    finally:
        sys.path.pop(0)
    if found is None:
        raise UsageError(f"there is no module {program}", "install it here, or name a file that ends in .py")
