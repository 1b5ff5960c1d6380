"""What commands share in printing: results on stdout, everything for people on stderr."""

from __future__ import annotations

import json
import sys
from typing import Any

import typer

JSON = typer.Option(False, "--json", help="Print one JSON document on stdout and nothing else there.")


def emit(document: dict[str, Any]) -> None:
    """Prints a command's result as JSON, with the schema's version first."""
    print(json.dumps({"schema": 1, **document}, indent=2))


def note(text: str) -> None:
    """A line for the person at the terminal."""
    print(text, file=sys.stderr)


def next_step(command: str) -> None:
    """Ends a command with the one that logically follows."""
    note(f"next: {command}")


def console() -> Any:
    """A rich console on stdout: boxes and colour where it is a terminal, plain text elsewhere."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())
