"""What ``autotune sweep --record`` writes: searched spaces that were measured whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .output import note

if TYPE_CHECKING:
    from ..search.studies import ProblemStudy


def write(opened: Sequence[ProblemStudy], folder: Path) -> None:
    """Writes the spaces of the kernels that were asked for, those of which every legal config was measured."""
    from ..kernels import STOCK
    from ..report.tables import count
    from ..search import record, results

    written: list[Path] = []
    short: dict[str, tuple[int, int, int]] = {}
    by_problem = {study.problem: study for study in reversed(opened)}  # the first of each: later ones have all kernels
    for study in reversed(by_problem.values()):
        rows = study.rows()
        timed = STOCK in rows and rows[STOCK].status == results.OK
        spaces = record.by_kernel(study.routes)
        whole = [name for name, routes in spaces.items() if timed and rows.keys() >= set(routes)]
        for name in spaces.keys() - set(whole):
            problems, some, of = short.get(name, (0, 0, 0))
            measured = sum(route in rows for route in spaces[name])
            short[name] = problems + 1, some + measured, of + len(spaces[name])
        kept = [rows[route] for name in whole for route in spaces[name]]
        if len(whole) > 1 or len(spaces) == 1:  # stock alone says nothing
            written += record.write(kept, folder, study.rounds())
    for path in written:
        note(f"wrote {path}")
    if short:
        parts = [
            f"{name} at {count(problems, 'problem')} ({some} of {of} configs)"
            for name, (problems, some, of) in sorted(short.items())
        ]
        note(f"not measured whole, or without stock's time, and not written: {', '.join(parts)}")
