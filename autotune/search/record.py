"""A sweep's rows as recorded spaces in T4, one file for each problem and kernel.

Whole spaces are what these files are for: others can then measure their searches on them without the chip. A row that
was dropped for being clearly slower has the time of its first rounds; stock has a file of its own for comparison.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from ..errors import AutotuneError
from ..kernels import Route
from . import recorded, results
from .results import Result

_INVALIDITY = {
    results.OK: "correct",
    results.PRUNED: "correct",
    results.INACCURATE: "correctness",
    results.FAILED: "runtime",
}


def files(rows: Iterable[Result]) -> dict[str, str]:
    """Names and contents. Metadata say which problem, kernel and machine; routes stand in the order of their names, so
    that the same rows give the same bytes."""
    found: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for row in rows:
        found[row.problem, Route.parse(row.route).kernel].append(row)
    written = {}
    for (problem, kernel), each in sorted(found.items()):
        each.sort(key=lambda row: row.route)
        metadata = {"problem": problem, "kernel_name": kernel, **asdict(each[0].origin)}
        written[_name(each[0].chip, problem, kernel)] = recorded.t4([_entry(row) for row in each], metadata)
    return written


def write(rows: Iterable[Result], folder: Path) -> list[Path]:
    """Writes the files, replacing those of the same names. Raises :class:`AutotuneError` where that cannot be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, text in files(rows).items():
            (folder / name).write_text(text, "utf-8")
            paths.append(folder / name)
        return paths
    except OSError as error:
        raise AutotuneError(
            f"{folder} cannot be written ({error.strerror or error})", "name another folder with --record"
        ) from None


def _entry(row: Result) -> recorded.Entry:
    seconds = row.time_us / 1e6
    runtimes = (seconds,) if seconds else ()
    return recorded.Entry(Route.parse(row.route).config, _INVALIDITY[row.status], seconds, runtimes, row.date)


def _name(chip: str, problem: str, kernel: str) -> str:
    return re.sub(r"[^A-Za-z0-9.=-]+", "_", f"{chip} {problem} {kernel}") + ".json"
