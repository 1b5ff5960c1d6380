"""``autotune sweep``: measure routes on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import typer

from ..errors import UsageError, unknown
from . import recording
from .dry_run import describe, describe_simulated
from .measuring import measuring
from .outcome import code, tell
from .output import JSON, note
from .selection import chosen_problems, device_kind, seconds
from .stop import Stop

if TYPE_CHECKING:
    from ..kernels import Route
    from ..machine import Machine
    from ..problem import Problem
    from ..search.isolated import IsolatedDevice
    from ..search.plan import Plan
    from ..search.sweep import Outcome

EFFORTS = ("quick", "standard", "full")


def register(app: typer.Typer) -> None:
    @app.command()
    def sweep(
        chip: str = typer.Option("", envvar="AUTOTUNE_CHIP", help="This machine's chip, such as m5max; checked."),
        device: str = typer.Option("", envvar="AUTOTUNE_DEVICE", help="gpu or cpu; MLX's default device if left out."),
        op: Optional[list[str]] = typer.Option(None, help="Only this op (repeatable)."),
        m: Optional[list[int]] = typer.Option(None, "--m", help="Only problems with this M (repeatable)."),
        kernel: Optional[list[str]] = typer.Option(None, help="Only this kernel besides stock (repeatable)."),
        workload: Optional[list[str]] = typer.Option(
            None, help="Name or YAML file of a workload (repeatable). Default: small-batch on a GPU, quick on a CPU."
        ),
        problem: Optional[list[str]] = typer.Option(
            None, help="A problem, such as 'matmul M=4 N=512 K=512 f16 nt' (repeatable)."
        ),
        quick: bool = typer.Option(
            False, "--quick", help="Effort quick, and the workload quick unless others are named: a minute."
        ),
        effort: str = typer.Option("", help="quick, standard (default) or full: time spent on each route."),
        budget: str = typer.Option("", help="Stop after this long, such as 90s, 20m or 2h; sweep again to go on."),
        trials: int = typer.Option(0, min=0, help="At most this many further routes a problem (0: all)."),
        seed: int = typer.Option(0, help="Seed of inputs and of the order of routes."),
        load: str = typer.Option("chained", help="chained (as in decoding) or queued (independent calls)."),
        timeout: float = typer.Option(120.0, min=1.0, help="Seconds without an answer after which a route has hung."),
        fresh: bool = typer.Option(False, "--fresh", help="Measure again what is already known."),
        record: str = typer.Option(
            "", help="Measure spaces whole and evenly, and write each to this folder in T4, the public format."
        ),
        dry_run: bool = typer.Option(False, "--dry-run", help="Say how many problems, routes and minutes, and stop."),
        storage: str = typer.Option("", envvar="AUTOTUNE_STORAGE", help="Any Optuna storage URL. Default: SQLite."),
        force: bool = typer.Option(False, "--force", help="Measure although this machine or MLX build seems unfit."),
        simulate: bool = typer.Option(
            False, "--simulate", help="Ask a model of --chip (an Apple GPU) instead of measuring: works on any machine."
        ),
        mlx: str = typer.Option("", help="With --simulate: MLX whose routing rules stock follows, such as 0.31.1."),
        cores: int = typer.Option(0, min=0, help="With --simulate: GPU cores. Default: the most that the chip has."),
        noise: Optional[float] = typer.Option(
            None,
            min=0.0,
            max=1.0,
            help="With --simulate: deviation of an evaluation's time under --seed, 0 for none. "
            "Default: 0.01, a quiet machine's.",
        ),
        out: Optional[Path] = typer.Option(None, help="With --simulate: the CSV to write. Default: the user's data."),
        json: bool = JSON,
    ) -> None:
        """Measure routes for real matrix products on this machine. Resumes where it stopped."""
        if simulate:
            # The search's matrices are small, and threads only cost them speed. It limits other libraries by itself
            # (search/threads.py); Apple's Accelerate has this variable alone, read when numpy is first imported.
            os.environ.setdefault("VECLIB_MAXIMUM_THREADS", "1")

        from .. import chips
        from ..devices.base import LOADS
        from ..machine import backend, local
        from ..search import space
        from ..search.measure import EFFORTS as BY_NAME
        from ..search.plan import Plan

        if simulate:
            if not chip:
                raise UsageError("--simulate needs a chip", "such as --chip m5max")
            if device or storage or fresh:
                raise UsageError(
                    "--simulate takes no --device, --storage or --fresh", "it keeps nothing between sweeps"
                )
        elif mlx or cores or out or noise is not None:
            raise UsageError(
                "--mlx, --cores, --noise and --out are for --simulate", "leave them out, or add --simulate"
            )
        name = effort or ("quick" if quick or simulate else "standard")
        if name not in EFFORTS:
            raise unknown("effort", name, EFFORTS)
        if load not in LOADS:
            raise unknown("load", load, LOADS)
        if simulate:
            from ..devices.simulated.device import NOISE
            from .simulated import Simulation

            problems = chosen_problems(workload or [], problem or [], op or [], "gpu", quick, m or [])
            effort_ = BY_NAME[name].recording() if record else BY_NAME[name]
            plan = Plan(problems, effort_, _kernels(kernel or []), trials, seconds(budget), seed, True)
            run = Simulation(chip, cores, mlx, load, out, NOISE if noise is None else noise)
            space.demand(plan.kernels, "metal", run.chip.nax, run.chip.id)
            if dry_run:
                describe_simulated(plan, run.chip.name, run.chip.nax, json)
                return
            outcome = run.sweep(plan, record)
            tell(outcome, run.chip.id, str(run.path), fresh, json, f"autotune export --from-csv {run.path}")
            raise typer.Exit(code(outcome))
        kind = device_kind(device, chip)
        # What a sweep of another chip would take can be counted here, though it cannot be run.
        away = chips.elsewhere(chip, kind) if dry_run else None
        chip_id = away.id if away else chips.require(chip, kind) if chip else chips.here(kind)
        default = ("cpu" if away.backend == "cpu" else "gpu") if away else kind
        problems = chosen_problems(workload or [], problem or [], op or [], default, quick, m or [])
        effort_ = BY_NAME[name].recording() if record else BY_NAME[name]
        plan = Plan(problems, effort_, _kernels(kernel or []), trials, seconds(budget), seed, fresh)
        nax = away.nax_from_os is not None if away else local(kind).nax
        space.demand(plan.kernels, away.backend if away else backend(kind), nax, chip_id)
        if dry_run:
            describe(plan, away.backend if away else backend(kind), nax, json, timeout, away)
            return
        with measuring(kind, force):
            outcome, url = _run(plan, kind, chip_id, load, timeout, storage, record)
        tell(outcome, chip_id, url, fresh, json, recorded=bool(record))
        raise typer.Exit(code(outcome))


def _kernels(names: list[str]) -> tuple[str, ...]:
    from .. import kernels

    return tuple(kernels.kernel(name).name for name in names)


def _run(
    plan: Plan, kind: str, chip_id: str, load: str, timeout: float, storage: str, record: str = ""
) -> tuple[Outcome, str]:
    from .. import chips, paths
    from .._version import __version__
    from ..devices import clock
    from ..report.progress import listener
    from ..report.tables import count
    from ..search import studies, tuned
    from ..search.isolated import IsolatedDevice
    from ..search.results import Origin
    from ..search.sweep import Sweep

    stop = Stop()
    url = storage or studies.default_url()
    opened = studies.open_storage(url)
    problems = count(len(plan.problems), "problem")
    note(f"{chip_id}: {problems} at effort {plan.effort.name}, {load} load; what is measured is kept in {url}")
    target = IsolatedDevice(kind, chips.cache_bytes(kind), timeout)
    origin = Origin.of(chip_id, target.machine, __version__, load, clock=clock.name(target.machine.backend))
    before = tuned.load(origin.key, origin.source, (paths.user_tables(), paths.tuned_tables()))
    progress = listener()
    opened_studies = []

    def open_study(problem: Problem, routes: Sequence[Route]) -> studies.ProblemStudy:
        even = plan.effort.final if record else 0
        opened_studies.append(studies.ProblemStudy(opened, problem, origin, routes, even))
        return opened_studies[-1]

    try:
        proven = _proven(plan, target)
        _compile(proven, target.machine)
        with stop:
            outcome = Sweep(target, origin, proven, open_study, progress, stop.asked, tuned=before).run()
        if record:
            recording.write(opened_studies, Path(record))
    except studies.STORAGE_ERRORS as error:
        raise studies.storage_error(error, url) from None
    finally:
        progress.close()
        target.close()
    return outcome, url


def _compile(plan: Plan, machine: Machine) -> None:
    """On CUDA, compiles the spaces of kernels of our own on all processors, where the plan will see most of them."""
    from .. import kernels
    from ..kernels import ahead
    from ..search import space

    if machine.backend != "cuda":
        return
    routes = [
        (problem, route)
        for problem in plan.problems
        for route in space.legal_routes(problem, machine.backend, plan.kernels, machine.nax)
        if kernels.kernel(route.kernel).searched
    ]
    if 0 < len({route for _, route in routes}) <= len(plan.problems) * plan.effort.searched:
        note("compiling kernels of our own; once for this machine")
        ahead.compile_ahead(kernels.KERNELS, routes)


def _proven(plan: Plan, target: IsolatedDevice) -> Plan:
    """The plan without those of our own kernels that are wrong on this device or do not run there, each of which gets a
    line: what follows would measure hundreds of their routes only to refuse them one by one."""
    from dataclasses import replace

    from .. import kernels
    from ..kernels import STOCK
    from ..search import trials, verify

    backend = target.machine.backend
    here = trials.Target(backend, backend, target.machine.nax)
    failures = verify.before_sweep(plan.problems, plan.kernels, here, target, plan.seed)
    for name, failure in failures.items():
        how = "is wrong" if failure.kind == "wrong" else f"failed ({failure.kind})"
        note(
            f"{name} is left out of this sweep, it {how} on {failure.case}: "
            f"run: autotune verify --device {backend} --kernel {name}"
        )
    kept = tuple(name for name in plan.kernels or kernels.KERNELS if name not in failures)
    return replace(plan, kernels=kept or (STOCK.kernel,)) if failures else plan
