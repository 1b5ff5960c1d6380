"""The ``autotune`` command: its sub-commands, and how errors end it.

Results go to stdout, everything for people to stderr. Modules that a command needs are imported inside it, so that
``--help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from typing import Optional

import typer

from .._version import __version__
from ..errors import EXIT_CODES, INTERRUPTED, OK, UNFIT, AutotuneError
from . import bench, check, devices, diff, explain, export, limits, run, show, spaces, sweep, verify

app = typer.Typer(
    name="autotune",
    help="Finds the fastest correct way to compute MLX's matrix products on this machine, and routes them there.",
    epilog=f"Exit codes. {'; '.join(f'{code} {meaning}' for code, meaning in EXIT_CODES.items())}.",
    no_args_is_help=True,
    # Plain help: rich's would take 100 ms of the 200 that --help may take.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (devices, spaces, verify, sweep, export, check, show, explain, diff, limits, bench, run):
    command.register(app)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"autotune {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Optional[bool] = typer.Option(
        None, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Options that stand before a command."""


def main() -> None:
    """Runs the command; an :class:`AutotuneError` becomes one line on stderr and its exit code."""
    try:
        app(standalone_mode=True)
    except AutotuneError as error:
        print(f"autotune: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ImportError as error:
        if "mlx" not in str(error):
            raise
        remedy = (
            "install one, from a checkout: python -m pip install '.[cpu]' "
            "(or '.[cuda12]', '.[cuda13]'; on a Mac plain mlx has Metal)"
        )
        print(f"autotune: MLX has no backend here ({error}): {remedy}", file=sys.stderr)
        sys.exit(UNFIT)
    except KeyboardInterrupt:
        print("autotune: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except SystemExit as end:
        # The reader of our output has left (`| head`): nothing is wrong, and there is nobody to tell.
        if isinstance(end.__context__, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(OK)
        raise


if __name__ == "__main__":
    main()
