"""``autotune export``: from results to a routing table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Optional

import typer

from ..errors import AutotuneError, UsageError
from .output import JSON, emit, next_step, note

if TYPE_CHECKING:
    from ..routing.table import Table
    from ..search.results import Result


def register(app: typer.Typer) -> None:
    @app.command()
    def export(
        chip: str = typer.Option("", envvar="AUTOTUNE_CHIP", help="Chip whose results to export; default: this one."),
        out: Optional[Path] = typer.Option(
            None, help="Folder to write to. Default: the user's tables, or that of the CSV."
        ),
        from_csv: Optional[Path] = typer.Option(None, "--from-csv", help="Results from a CSV instead of the studies."),
        without: Optional[list[str]] = typer.Option(None, help="Leave this kernel's routes out (repeatable)."),
        workload: Optional[list[str]] = typer.Option(None, help="Only this workload's problems (repeatable)."),
        m: Optional[list[int]] = typer.Option(
            None, "--m", help="Only problems with this M (repeatable); M that lie beyond these stay on stock."
        ),
        without_m: Optional[list[int]] = typer.Option(
            None, "--without-m", help="Leave problems with this M out (repeatable): stock, unless between two others."
        ),
        load: str = typer.Option("chained", help="Which load's results: chained or queued."),
        gpu_bound: bool = typer.Option(
            False, "--gpu-bound", help="Also routes that save the GPU less than their calls cost the CPU."
        ),
        storage: str = typer.Option("", envvar="AUTOTUNE_STORAGE", help="Any Optuna storage URL. Default: SQLite."),
        json: bool = JSON,
    ) -> None:
        """Write <chip>.json (the routes) and <chip>.csv (their evidence) from what was measured."""
        from .. import kernels, paths
        from ..report import tables
        from ..report.kernels import HEAD, gains
        from ..routing import table
        from ..search import results
        from . import sources

        folder = out or (from_csv.parent if from_csv else paths.user_tables())
        rows, dropped = _rows(from_csv, chip, load, storage)
        left_out = [kernels.kernel(name).name for name in without or []]
        found, rows = rows, _only(rows, workload or [], left_out, m or [], without_m or [])
        if not rows and found:
            raise AutotuneError(
                "there are no results to export with --workload, --without, --m and --without-m as they are",
                "ask for less, or run autotune sweep with the same",
            )
        if not rows:
            raise AutotuneError("there are no results to export", "run: autotune sweep")
        chip_id = rows[0].chip
        path = folder / f"{from_csv.stem if from_csv else chip_id}.json"
        evidence = path.with_suffix(".csv")
        given = from_csv is not None and evidence.exists() and evidence.samefile(from_csv)
        read = len(found) + (dropped if from_csv else 0)
        for target in (path,) if given else (path, evidence):
            sources.demand(target, rows[0].source)
        if given and len(rows) < read:
            raise UsageError(
                f"{from_csv} would be left with {len(rows)} of its {read} results",
                "name a folder for the table and its results: --out FOLDER",
            )
        before = _incumbent(path)
        derived = _derive(rows, before, gpu_bound)
        table.write_atomically(evidence, results.dumps(rows))
        table.save(derived, path)
        if before is not None and (gone := _lost(before, derived)):
            note(
                f"{path} was replaced: {gone} of its {before.count} routes are for products that are not in it any more"
            )
        routed = sum(row["route"] != "stock" for each in derived.families.values() for row in each)
        if dropped and from_csv:
            note(
                f"{dropped} results were left out: of an older MLX or of another clock than their problem's newest, or "
                "measured again"
            )
        elif dropped:
            why = "from before a kernel, or the way of measuring, changed"
            note(f"{dropped} results {why} were left out: run autotune sweep to renew them")
        if json:
            emit(
                {
                    "chip": chip_id,
                    "table": str(path),
                    "csv": str(evidence),
                    "results": len(rows),
                    "families": len(derived.families),
                    "routes": derived.count,
                    "routes_not_stock": routed,
                    "left_out": dropped,
                    "kernels": [vars(each) for each in gains(rows)],
                    "neighbours": [each.as_json() for each in derived.header.neighbours or ()],
                }
            )
        else:
            said = ", simulated" if derived.header.source == "simulated" else ""
            routes, families = tables.count(derived.count, "route"), tables.count(len(derived.families), "family")
            problems = tables.count(len({row.problem for row in rows}), "problem")
            print(f"{path}: {routes} for {families} ({problems}), {routed} not stock{said}; one may serve several M")
            print(f"{evidence}: {len(rows)} results")
            print(HEAD)
            for each in gains(rows):
                print(f"  {each}")
            print("shapes that are not tuned:")
            for bound in derived.header.neighbours or ():
                takes = "their neighbours' routes" if bound.holds else "stock"
                print(f"  {bound.class_}: {takes}; {tables.bound(bound)}")
        in_reach = path.parent.resolve() in (paths.user_tables().resolve(), paths.tuned_tables().resolve())
        named = "" if in_reach else f"autotune.use_table({str(path)!r}); "
        use = f", or in a program: import autotune; {named}autotune.enable()"
        use = use if derived.header.source == "measured" else ""
        next_step(f"autotune show --table {path}{use}")


def _rows(from_csv: Path | None, chip: str, load: str, storage: str) -> tuple[list[Result], int]:
    """The latest row of each route of the chip's problems, and how many were left out, as stale or as superseded."""
    from .. import kernels
    from ..search import export as export_
    from ..search import results, space, studies

    if from_csv is not None:
        rows = results.read(from_csv)
        if chip and any(row.chip != chip for row in rows):
            raise UsageError(f"{from_csv} is of {rows[0].chip}, not {chip}", "leave --chip out")
        latest = export_.current(rows)
        return latest, len(rows) - len(latest)
    from .. import chips, machine

    if not chip:
        chip = chips.here(machine.default_kind())
    url = storage or studies.default_url()
    found: list[Result] = []
    try:
        opened = studies.open_storage(url)
        every = list(studies.all_rows(opened))
        dropped = sum((row.chip, row.load) == (chip, load) for row in studies.all_rows(opened, outdated=True))
    except studies.STORAGE_ERRORS as error:
        raise studies.storage_error(error, url) from None
    if all(row.chip != chip for row in every):
        local = {chips.here(kind) for kind in ("gpu", "cpu") if machine.has(kind)}
        chip = chip if chip in local else chips.get(chip).id
    for row in every:
        if row.chip != chip or row.load != load or row.source != "measured":
            continue
        kernel = kernels.KERNELS.get(row.route.split(" ", 1)[0])
        current = kernel and (row.kernel, row.space) == (kernels.fingerprint.of(kernel), space.fingerprint(kernel))
        if current:
            found.append(row)
        else:
            dropped += 1
    if not found:
        local, known = {chips.here(kind) for kind in ("gpu", "cpu") if machine.has(kind)}, chips.catalogue().get(chip)
        there = "" if chip in local else f" on a machine with {known.name if known else chip}, and export there"
        raise AutotuneError(f"there are no current results of {chip} in {url}", f"run{there}: autotune sweep")
    return export_.newest(_one_device(found)), dropped


def _one_device(rows: list[Result]) -> list[Result]:
    """The rows of one device, where a storage has those of several of one name: this machine's, if it is among them."""
    from .. import machine

    identities = {row.origin.key.identity for row in rows}
    if len(identities) == 1:
        return rows
    ours = {machine.local(kind).identity for kind in ("gpu", "cpu") if machine.has(kind)} & identities
    if len(ours) != 1:
        raise AutotuneError(
            f"the storage has results of {len(identities)} devices named {rows[0].chip}", "export on the one you mean"
        )
    return [row for row in rows if row.origin.key.identity in ours]


def _only(
    rows: list[Result], names: list[str], without: list[str], ms: list[int], without_ms: list[int]
) -> list[Result]:
    from ..problem import Problem
    from ..search import workloads

    wanted = {str(problem) for name in names for problem in workloads.load(name).problems}
    found = {text: Problem.parse(text).m for text in {row.problem for row in rows}}
    kept = {text for text, m in found.items() if (not ms or m in ms) and m not in without_ms}
    kept = kept & wanted if names else kept
    return [
        row
        for row in rows
        if row.problem in kept and (row.route.split(" ", 1)[0] not in without or row.route == "stock")
    ]


def _incumbent(path: Path) -> Table | None:
    """The table that stands at ``path``, if a usable one does."""
    from ..routing import table

    if not path.exists():
        return None
    try:
        incumbent = table.load(path)
        return incumbent if all(True for _ in incumbent) else None
    except AutotuneError as error:
        note(f"warning: the table that is there is not used to break ties ({error.cause})")
        return None


def _lost(before: Table, after: Table) -> int:
    """How many routes that are not stock had an M of a family for which the new table has no row."""
    from ..kernels import STOCK

    there = {family: [(row.first, row.last) for row in rows] for family, rows in after}
    return sum(
        not any(first <= row.last and row.first <= last for first, last in there.get(family, []))
        for family, rows in before
        for row in rows
        if row.route != STOCK
    )


def _derive(rows: list[Result], incumbent: Table | None, gpu_bound: bool) -> Table:
    """The table, with ties broken by the one that stands there."""
    from ..search import export, workloads

    measured = {row.problem for row in rows if row.route == "stock"}
    covered = [
        name for name in workloads.names() if all(str(problem) in measured for problem in workloads.load(name).problems)
    ]
    return export.derive(rows, incumbent, covered, gpu_bound=gpu_bound)
