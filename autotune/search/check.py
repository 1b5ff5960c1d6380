"""Whether a table still holds: what continuous integration asks, without a GPU and in less than a second."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .. import kernels
from ..errors import AutotuneError
from ..kernels import STOCK
from ..problem import Problem
from ..routing import freshness, table
from ..routing.table import Row, Table
from . import export, results, space, workloads

BROKEN, STALE, SLOWER, INCOMPLETE, RECHECK = "broken", "stale", "slower", "incomplete", "recheck"


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be: in which file and line, what and why, and what to do.

    ``recheck`` is advice and fails nothing; every other kind does.
    """

    kind: str
    path: str
    line: int
    text: str
    remedy: str

    @property
    def fails(self) -> bool:
        return self.kind != RECHECK


def check(path: Path, required: Sequence[str] = (), mlx: str = "") -> list[Finding]:
    """All findings for a table and the CSV beside it.

    ``required`` are workloads to be covered besides those that the header names; ``mlx`` is the version to hold the
    evidence against, if any.
    """
    try:
        text = path.read_text("utf-8")
        loaded = table.load(path)
        families = list(loaded)
    except AutotuneError as error:
        return [Finding(BROKEN, str(path), 1, error.cause.removeprefix(f"{path}: "), error.remedy)]
    except (OSError, UnicodeDecodeError) as error:
        return [Finding(BROKEN, str(path), 1, f"cannot be read ({error})", "restore it")]
    lines = _lines(text)
    spaces = {name: space.fingerprint(kernel) for name, kernel in kernels.KERNELS.items()}
    found = list(_derivation(path, text, loaded, required))
    for family, rows in families:
        for row in rows:
            found += _route(str(path), lines.get((family, row.first), 1), family, row, loaded, mlx, spaces)
    return found


def _route(
    path: str, line: int, family: str, row: Row, loaded: Table, mlx: str, spaces: dict[str, str]
) -> Iterator[Finding]:
    where = f"{family}, M={row.first}..{row.last}, {row.route}"
    kernel = kernels.kernel(row.route.kernel)
    again = f"run on {loaded.header.chip.id}: autotune sweep && autotune export"
    if kernels.fingerprint.of(kernel) != row.kernel:
        yield Finding(STALE, path, line, f"{where}: kernel {kernel.name} changed since it was measured", again)
    elif spaces[kernel.name] != row.space:
        yield Finding(STALE, path, line, f"{where}: the space of {kernel.name} changed since it was searched", again)
    if row.route != STOCK and row.low < 1 + loaded.header.margin:
        bound = f"its own evidence puts the speedup as low as {row.low:.3g}"
        yield Finding(SLOWER, path, line, f"{where}: {bound}, below the margin", again)
    if mlx and row.mlx != mlx:
        # A re-check at most, since only the machine that runs it decides; but said where the router will not take it.
        used = "" if freshness.same_minor(row.mlx, mlx) else ", with which it is not used"
        yield Finding(RECHECK, path, line, f"{where}: measured with MLX {row.mlx}, not {mlx}{used}", again)


def _derivation(path: Path, text: str, loaded: Table, required: Sequence[str]) -> Iterator[Finding]:
    """Whether the table is what its results give, and covers what it is held to."""
    csv = path.with_suffix(".csv")
    try:
        rows = results.read(csv)
        again = export.derive(rows, loaded, loaded.header.workloads, gpu_bound=loaded.header.gpu_bound)
        if loaded.header.neighbours is None:  # exported before there was such a rule: no fault of its routes
            again = replace(again, header=replace(again.header, neighbours=None))
    except AutotuneError as error:
        cause = error.cause.removeprefix(f"{csv} ").removeprefix(f"{csv}, ")
        yield Finding(BROKEN, str(csv), 1, cause, error.remedy)
        return
    if table.dumps(again) != text:
        yield Finding(
            STALE, str(path), 1, f"{path.name} is not what {csv.name} gives", f"run: autotune export --from-csv {csv}"
        )
    for name in dict.fromkeys((*loaded.header.workloads, *required)):
        try:
            missing = uncovered(workloads.load(name), rows)
        except AutotuneError as error:
            yield Finding(BROKEN, str(path), 1, error.cause, error.remedy)
            continue
        if missing:
            yield Finding(
                INCOMPLETE,
                str(path),
                1,
                f"{len(missing)} problems of workload {name} were not measured in full, such as {missing[0]}",
                f"run on {loaded.header.chip.id}: autotune sweep --workload {name} && autotune export",
            )


def uncovered(workload: workloads.Workload, rows: Sequence[results.Result]) -> list[Problem]:
    """The workload's problems that the rows do not cover: stock was not timed, or a legal route has no row at all.

    Kernels whose spaces are searched are not asked for: how far a search went is the sweep's to say.
    """
    seen: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.route != STOCK.kernel or row.status == results.OK:
            seen[row.problem].add(row.route)
    backend, whole = rows[0].backend if rows else "", space.dealt_out()
    return [
        problem
        for problem in workload.problems
        if not {str(route) for route in space.legal_routes(problem, backend, whole)} <= seen[str(problem)]
    ]


def _lines(text: str) -> dict[tuple[str, int], int]:
    """The line of each route, by family and first M, from the file's one-route-a-line layout."""
    found: dict[tuple[str, int], int] = {}
    family = ""
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith('{"family": "'):
            family = stripped.split('"')[3]
        elif stripped.startswith('{"m": ['):
            first = stripped[len('{"m": [') :].split(",", 1)[0]
            if first.isdigit():
                found[family, int(first)] = number
    return found
