"""Where files live: the project's own data, and the user's.

The project's data (``configs/``, ``tuned_tables/``) lies beside the package in a checkout and inside it in a wheel.
The user's (studies, tables) lies where the system keeps such things, or under ``AUTOTUNE_DATA``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Callable
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _shipped(name: str) -> Path:
    inside = _PACKAGE / "_data" / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def configs() -> Path:
    """``configs/``: chips.yaml, spaces/, workloads/."""
    return _shipped("configs")


def tuned_tables() -> Path:
    """``tuned_tables/``: the tables that come with the project."""
    return _shipped("tuned_tables")


def user_data() -> Path:
    """The user's data folder: ``AUTOTUNE_DATA``, else the platform's custom. Not created here."""
    if given := os.environ.get("AUTOTUNE_DATA"):
        return Path(given).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "autotune"
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "autotune"


def user_tables() -> Path:
    """Where ``autotune export`` writes by default and the router looks before the shipped tables."""
    return user_data() / "tables"


def user_cache() -> Path:
    """What can be made again at some cost: ``AUTOTUNE_CACHE``, else the platform's custom. Not created here."""
    if given := os.environ.get("AUTOTUNE_CACHE"):
        return Path(given).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "autotune"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "autotune"


def put_whole(path: Path, make: Callable[[Path], object]) -> None:
    """Puts at ``path``, whose folder is there, what ``make`` makes at the path it is given: whole or not at all,
    whoever else puts the same there. Raises :class:`OSError`, and what ``make`` raises.

    Not by ``tempfile``, whose import takes milliseconds, and a lock that a program may hold when a signal ends it.
    """
    folder = _own_folder(path.parent)
    fresh = folder / path.name
    try:
        make(fresh)
        os.replace(fresh, path)
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
            folder.rmdir()


def _own_folder(parent: Path) -> Path:
    """A new folder there that this user alone can write to: on a shared one, nobody else puts a link in its place."""
    for number in itertools.count():
        folder = parent / f".{os.getpid()}.{number}"
        with contextlib.suppress(FileExistsError):  # another thread's, or of a process that was killed
            folder.mkdir(0o700)
            return folder
    raise AssertionError("numbers do not end")
