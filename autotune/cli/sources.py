"""Measured and simulated results in files: neither is written over the other."""

from __future__ import annotations

from pathlib import Path

from ..errors import TableError, UsageError


def demand(path: Path, source: str) -> None:
    """Raises :class:`UsageError` where there is a file at ``path`` that holds anything but what is ``source``:
    ``measured`` or ``simulated``. A ``.json`` that is torn or no table is left to the caller, who writes it anew."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder", "name a file")
    if path.exists():
        there = of_table(path) if path.suffix == ".json" else _rows(path)
        if there - {source}:
            what = f"{' and '.join(sorted(there))} results" if there <= {"measured", "simulated"} else "something else"
            raise UsageError(
                f"{path} holds {what}, and {source} ones would replace them",
                "write elsewhere with --out, or move it away",
            )


def of_table(path: Path) -> set[str]:
    """What the table's header says, ``measured`` or ``simulated``; nothing where it cannot be read."""
    from ..routing import table

    try:
        return {table.peek(path).source}
    except TableError:
        return set()


def _rows(path: Path) -> set[str]:
    from ..search import results

    try:
        return {row.source for row in results.read(path)}
    except UsageError:
        return {"unknown"}
