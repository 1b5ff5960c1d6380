"""``autotune bench``: stock against routed, paired, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Optional

import typer

from ..errors import OK, REGRESSION, unknown
from .output import JSON, emit, next_step, note

if TYPE_CHECKING:
    from ..report.bench import Bench, Line
    from ..routing.router import Router

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
        fail_on_regression: bool = typer.Option(
            False, "--fail-on-regression", help="Exit 4 if a problem is slower than stock beyond the noise."
        ),
        format: str = typer.Option("text", help="text, markdown, csv or json."),
        json: bool = JSON,
    ) -> None:
        """Time stock against routed, call by call in turns, for a workload's products and chains."""
        from ..devices.base import LOADS
        from ..report import bench as report
        from ..search.measure import EFFORTS
        from .sweep import device_kind

        for what, name, known in (("effort", effort, EFFORTS), ("load", load, LOADS), ("format", format, FORMATS)):
            if name not in known:
                raise unknown(what, name, known)
        kind = device_kind(device)
        done = _run(kind, workload or [], problem or [], op or [], m or [], table, EFFORTS[effort], load)
        if json or format == "json":
            emit(report.to_json(done))
        else:
            print({"text": report.to_text, "markdown": report.to_markdown, "csv": report.to_csv}[format](done))
        if not any(line.routed for line in done.lines):
            note("no route but stock is in use: both sides ran the same code")
            next_step("autotune sweep && autotune export")
        else:
            next_step("autotune explain 'PROBLEM' says why a route was chosen")
        raise typer.Exit(REGRESSION if fail_on_regression and done.regressions else OK)


def _run(
    kind: str,
    workloads_: list[str],
    problems: list[str],
    ops: list[str],
    ms: list[int],
    table: Path | None,
    effort: object,
    load: str,
) -> Bench:
    from datetime import datetime, timezone

    import mlx.core as mx

    from .. import chips, machine
    from ..report.bench import Bench
    from ..routing.router import Router
    from ..search import workloads
    from .sweep import chosen_problems

    mx.set_default_device(mx.Device(getattr(mx, kind)))
    here = machine.local(kind)
    router = Router(kind, (table,) if table else ())
    names = workloads_ if workloads_ or problems else ["quick" if kind == "cpu" else "small-batch"]
    loaded = [workloads.load(name) for name in names]
    chains = [(chain.label, chain.products) for each in loaded for chain in each.chains]
    chained = {product for _, products in chains for product in products}
    if names or problems:
        chosen = chosen_problems(names, problems, ops, kind, quick=False)
        chains += [("", (each,)) for each in chosen if each not in chained]
    if ms:
        chains = [(label, products) for label, products in chains if products[0].m in ms]
    lines, noises = _lines(chains, router, chips.cache_bytes(kind), effort, load)
    return Bench(
        ", ".join([*names, *problems]),
        f"{here.device_name} ({here.cores} cores)" if here.cores else here.device_name,
        here.mlx,
        here.os,
        datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        load,
        float(f"{max(noises):.3g}"),
        tuple(lines),
    )


def _lines(
    chains: list[tuple[str, tuple[object, ...]]], router: Router, cache: int, effort: object, load: str
) -> tuple[list[Line], list[float]]:
    from statistics import median

    from ..devices.chain import ROUTED, ChainSession
    from ..errors import UsageError
    from ..kernels import STOCK
    from ..report.bench import line
    from ..search.measure import Meter
    from ..search.stats import noise_floor

    if not chains:
        raise UsageError("no problem is left to measure", "choose another --m, --op or workload")
    lines, noises = [], []
    for label, products in chains:
        session = ChainSession(products, router, cache, load)  # type: ignore[arg-type]
        meter = Meter(session, effort)  # type: ignore[arg-type]
        routes = [str(route) for route in session.routes]
        untouched = all(route == str(STOCK) for route in routes)
        comparison = meter.compare(STOCK if untouched else ROUTED)
        meter.settle(comparison)
        shape = label or str(products[0])
        lines.append(
            line(label, shape, routes, median(comparison.stock), median(comparison.times), comparison.interval)
        )
        note(f"{shape}: {comparison.interval.value:.2f}x")
        if untouched:
            noises.append(noise_floor(comparison.ratios))
    if not noises:
        comparison = meter.compare(STOCK)
        meter.settle(comparison)
        noises.append(noise_floor(comparison.ratios))
    return lines, noises
