"""``autotune bench``: stock against routed, paired, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Optional

import typer

from ..errors import FAILED, OK, REGRESSION, WRONG, UsageError, unknown
from .measuring import measuring
from .output import JSON, emit, next_step, note

if TYPE_CHECKING:
    from ..kernels import Route
    from ..problem import Problem
    from ..search.bench import Bench, Line
    from ..search.measure import Effort

NOISY = 0.2
"""Noise floor beyond which a run is not worth reading."""
FORMATS = ("text", "markdown", "csv", "json")


def register(app: typer.Typer) -> None:
    @app.command()
    def bench(
        workload: Optional[list[str]] = typer.Option(None, help="Name or YAML file of a workload (repeatable)."),
        problem: Optional[list[str]] = typer.Option(None, help="A problem (repeatable)."),
        op: Optional[list[str]] = typer.Option(None, help="Only this op (repeatable)."),
        m: Optional[list[int]] = typer.Option(None, "--m", help="Only problems with this M (repeatable)."),
        device: str = typer.Option("", envvar="AUTOTUNE_DEVICE", help="gpu or cpu; MLX's default device if left out."),
        table: Optional[Path] = typer.Option(None, help="Measure with this table first."),
        effort: str = typer.Option("standard", help="quick, standard or full."),
        load: str = typer.Option("chained", help="chained (as in decoding) or queued (independent calls)."),
        from_json: Optional[Path] = typer.Option(
            None, "--from-json", help="Measure nothing: print what --json printed before, in another format."
        ),
        fail_on_regression: bool = typer.Option(
            False, "--fail-on-regression", help="Exit 4 if a problem is slower than stock beyond the noise."
        ),
        format: str = typer.Option("text", help="text, markdown, csv or json."),
        force: bool = typer.Option(False, "--force", help="Measure although this machine or MLX build seems unfit."),
        json: bool = JSON,
    ) -> None:
        """Time stock against routed, call by call in turns, for a workload's products and chains."""
        from ..devices.base import LOADS
        from ..report import bench as report
        from ..search.measure import EFFORTS
        from .selection import device_kind

        for what, name, known in (("effort", effort, EFFORTS), ("load", load, LOADS), ("format", format, FORMATS)):
            if name not in known:
                raise unknown(what, name, known)
        if from_json is not None:
            earlier = _read(from_json)
            if json or format == "json":
                emit(report.to_json(earlier))
            else:
                print(_render(earlier, format))
            return
        kind = device_kind(device)
        done = _run(kind, workload or [], problem or [], op or [], m or [], table, EFFORTS[effort], load, force)
        if json or format == "json":
            emit(report.to_json(done))
        else:
            print(_render(done, format))
        if done.noise > NOISY:
            note(f"warning: stock was {done.noise:.0%} from itself; the machine was busy and these numbers say little")
        for line in done.failed:
            note(f"failed here and ran on stock: {line.label} by {line.route}: see the warning above")
        if done.wrong:
            for line in done.wrong:
                note(_wrong(line, kind))
        elif not any(line.routed for line in done.lines):
            note("no route but stock is in use: both sides ran the same code")
            named = {"--workload": workload or [], "--problem": problem or []}
            asked = [f"{option} {each!r}" for option, values in named.items() for each in values]
            next_step(" ".join(["autotune sweep", *asked, "&& autotune export"]))
        else:
            next_step("autotune explain 'PROBLEM' says why a route was chosen")
        slower = REGRESSION if fail_on_regression and done.regressions else OK
        raise typer.Exit(WRONG if done.wrong else FAILED if done.failed else slower)


def _wrong(line: Line, kind: str) -> str:
    """What to say of a line whose routed result is another one than stock's."""
    from .. import machine
    from ..kernels import STOCK
    from ..search.bench import UNCOMPARABLE

    how = f"{line.apart:.2g} from stock's result, relative to its norm, and {line.stray:.2g} in an element"
    if line.apart >= UNCOMPARABLE:
        how = "not finite, or of another shape or dtype than stock's"
    named = dict.fromkeys(route.split()[0] for route in line.route.split(" + "))
    suspects = " ".join(f"--kernel {name}" for name in named if name != STOCK.kernel)
    verify = f"autotune verify --device {machine.backend(kind)} {suspects}"
    return f"wrong: {line.label} by {line.route} is {how}: run: {verify}"


def _render(done: Bench, format: str) -> str:
    from ..report import bench as report

    return {"csv": report.to_csv, "markdown": report.to_markdown}.get(format, report.to_text)(done)


def _read(path: Path) -> Bench:
    from ..report import bench as report

    try:
        return report.parse_json(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})", "give a file that bench --json printed") from None
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is no output of bench --json ({error})", "run: autotune bench --json") from None


def _run(
    kind: str,
    workloads_: list[str],
    problems: list[str],
    ops: list[str],
    ms: list[int],
    table: Path | None,
    effort: Effort,
    load: str,
    force: bool,
) -> Bench:
    from datetime import datetime, timezone

    import mlx.core as mx

    from .. import chips, machine
    from ..devices import clock
    from ..devices.chain import ChainSession
    from ..kernels import STOCK
    from ..routing import switch
    from ..routing.router import ROUTERS, disabled
    from ..search import bench, workloads
    from .selection import chosen_problems

    mx.set_default_device(mx.Device(getattr(mx, kind)))
    here, cache = machine.local(kind), chips.cache_bytes(kind)
    if disabled():
        raise UsageError("AUTOTUNE_DISABLE keeps every call on stock", "unset it to measure routes")
    if table:
        switch.use_table(table)
    ROUTERS.switch(True, bare=True)  # as `enable` has calls where nobody transforms
    names = workloads_ if workloads_ or problems else ["quick" if kind == "cpu" else "small-batch"]
    chosen = chosen_problems(names, problems, ops, kind, quick=False)
    chains = bench.chains_of([workloads.load(name) for name in names], chosen, ms, ops)

    def route_of(product: Problem) -> Route:
        taken = ROUTERS.of(kind).call(product)
        return STOCK if ROUTERS.failed(taken.problem.family, taken.route) else taken.route

    with measuring(kind, force):
        note(f"stock against routed, products and chains: {len(chains)}")
        lines, noise = bench.measure(
            chains,
            route_of,
            lambda chain: ChainSession(chain.products, cache, load),
            effort,
            lambda line: note(f"{line.label}: {line.speedup:.2f}x"),
        )
    return bench.Bench(
        ", ".join([*names, *problems]),
        f"{here.device_name} ({here.cores} cores)" if here.cores else here.device_name,
        here.mlx,
        here.os,
        datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        load,
        noise,
        tuple(lines),
        clock.name(here.backend),
    )
