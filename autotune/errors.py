"""Errors that a user can act on, each with the exit code that the command line ends with.

An error has one line: what went wrong, then what to do about it. The command line prints it without a traceback;
in library use it is an ordinary exception, raised by the functions that are asked for something explicitly
(``use_table``) and never by a routed operation.
"""

from __future__ import annotations

from collections.abc import Iterable

OK = 0
FAILED = 1
USAGE = 2
STALE = 3
REGRESSION = 4
UNFIT = 5
WRONG = 6
INTERRUPTED = 130

EXIT_CODES = {
    OK: "fine",
    FAILED: "failed",
    USAGE: "wrong use: unknown name, malformed problem or file",
    STALE: "tables are stale or incomplete",
    REGRESSION: "a regression was measured",
    UNFIT: "this machine is unfit to measure (another chip, throttled, crippled MLX build)",
    WRONG: "wrong results were computed",
    INTERRUPTED: "interrupted; what was measured is saved",
}


class AutotuneError(Exception):
    """Something failed; ``cause`` says what and ``remedy`` what to do."""

    exit_code = FAILED

    def __init__(self, cause: str, remedy: str = "") -> None:
        super().__init__(f"{cause}: {remedy}" if remedy else cause)
        self.cause = cause
        self.remedy = remedy


class UsageError(AutotuneError):
    """A name, a problem or a file that the user gave is not understood."""

    exit_code = USAGE


class UnfitError(AutotuneError):
    """This machine cannot measure what was asked."""

    exit_code = UNFIT


class TableError(AutotuneError):
    """A routing table cannot be used as it is: missing, torn, newer schema, foreign, or outside a kernel's space."""

    exit_code = USAGE


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a misspelt ``name``: the nearest known one if there is one, else all of them."""
    from difflib import get_close_matches

    names = sorted(known)
    near = get_close_matches(name.lower(), names, n=3, cutoff=0.6)
    remedy = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return UsageError(f"unknown {kind} {name!r}", remedy)
