"""``autotune sweep``: measure routes on this machine."""

from __future__ import annotations

import math
import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import typer

from ..errors import FAILED, INTERRUPTED, OK, UnfitError, UsageError, unknown
from .output import JSON, emit, next_step, note

if TYPE_CHECKING:
    from ..chips import Chip
    from ..kernels import Route
    from ..machine import Machine
    from ..problem import Problem
    from ..search.isolated import IsolatedDevice
    from ..search.studies import ProblemStudy
    from ..search.sweep import Done, Outcome, Plan

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
        quick: bool = typer.Option(False, "--quick", help="The quick workload at quick effort: about a minute."),
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
        from ..search.sweep import Plan

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
                _describe_simulated(plan, run.chip.name, run.chip.nax, json)
                return
            outcome = run.sweep(plan, record)
            _report(outcome, run.chip.id, str(run.path), fresh, json, f"autotune export --from-csv {run.path}")
            raise typer.Exit(INTERRUPTED if outcome.stopped == "interrupted" else FAILED if outcome.failed else OK)
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
            _describe(plan, away.backend if away else backend(kind), nax, json, timeout, away)
            return
        _require_fit(kind, force)
        outcome, url = _run(plan, kind, chip_id, load, timeout, storage, record)
        _report(outcome, chip_id, url, fresh, json)
        raise typer.Exit(INTERRUPTED if outcome.stopped == "interrupted" else FAILED if outcome.failed else OK)


def device_kind(device: str, chip: str = "") -> str:
    """``gpu`` or ``cpu``: as asked, as the chip implies, or MLX's default. Raises :class:`UnfitError` if not there."""
    from .. import machine

    if device and device not in ("gpu", "cpu"):
        raise unknown("device", device, ("gpu", "cpu"))
    if device == "gpu" and chip == "cpu":
        raise UsageError("--chip cpu is no gpu", "leave --device out")
    kind = device or ("cpu" if chip == "cpu" else machine.default_kind())
    if not machine.has(kind):
        raise UnfitError(f"this MLX build has no {kind}", "use --device cpu, or install mlx with cuda12 or cuda13")
    return kind


def chosen_problems(
    workloads_: list[str],
    problems: list[str],
    ops: list[str],
    kind: str,
    quick: bool,
    ms: Sequence[int] = (),
) -> tuple[Problem, ...]:
    """The problems that the options name, without repeats, those of one family together and by M."""
    from ..problem import OPS, Problem
    from ..search import workloads

    for op in ops:
        if op not in OPS:
            raise unknown("op", op, OPS)
    if not workloads_ and not problems:
        workloads_ = ["quick" if quick or kind == "cpu" else "small-batch"]
    found = [each for name in workloads_ for each in workloads.load(name).problems]
    found += [Problem.parse(text) for text in problems]
    kept = [each for each in dict.fromkeys(found) if (not ops or each.op in ops) and (not ms or each.m in ms)]
    if not kept:
        asked = " ".join([*(f"--op {op}" for op in ops), *(f"--m {m}" for m in ms)])
        raise UsageError(f"no problem is left with {asked}", "choose another op, M or workload")
    order = {family: number for number, family in enumerate(dict.fromkeys(each.family for each in kept))}
    return tuple(sorted(kept, key=lambda each: (order[each.family], each.m)))


def seconds(text: str) -> float:
    """``90s``, ``20m``, ``2h`` or a number of seconds; 0 for an empty text. Raises :class:`UsageError`."""
    if not text:
        return 0.0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h|)", text.strip().lower())
    if not match:
        raise UsageError(f"budget {text!r} is no length of time", "such as 90s, 20m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def _kernels(names: list[str]) -> tuple[str, ...]:
    from .. import kernels

    return tuple(kernels.kernel(name).name for name in names)


def _describe(plan: Plan, backend: str, nax: bool, json: bool, timeout: float = 0.0, away: Chip | None = None) -> None:
    from ..report.progress import duration
    from ..report.tables import count
    from ..search import estimate

    timed = backend == "cpu" and not away
    speeds = [_speeds(plan.problems)] if timed else []
    found = estimate.estimate(plan, backend, nax, timeout or math.inf, *speeds)
    if json:
        emit(
            {
                "problems": len(plan.problems),
                "routes": found.routes,
                "minutes_at_least": round(found.seconds / 60, 1),
                "too_long": found.too_long,
            }
        )
        return
    problems, least = count(len(plan.problems), "problem"), duration(found.seconds)
    print(f"{problems}, {count(found.routes, 'route')}, at least {least} at effort {plan.effort.name}")
    if timed:
        note("from the speed of a small stock call of each kind; the other routes at the least length of an evaluation")
    else:
        note("calls that take longer than an evaluation take longer than that; kernels compile once besides")
    if found.too_long:
        few = count(found.too_long, "problem")
        note(f"{few} would take stock more than the {timeout:.0f} s of --timeout for a call: a sweep gives those up")
    if away:
        note(f"counted for {away.name}, timed on none: begin with --quick, then go on with --budget 20m")
    next_step(f"the same command without --dry-run{f' on a machine with {away.name}' if away else ''}")


def _describe_simulated(plan: Plan, name: str, nax: bool, json: bool) -> None:
    """What asking the model takes on this machine: nothing is measured, so that the chip's own minutes do not count."""
    from ..report.progress import duration
    from ..report.tables import count
    from ..search import estimate
    from .simulated import ROUTE_SECONDS

    routes = estimate.estimate(plan, "metal", nax, math.inf).routes
    about = routes * ROUTE_SECONDS
    if json:
        emit(
            {"problems": len(plan.problems), "routes": routes, "evaluations": routes, "seconds_about": round(about, 1)}
        )
        return
    problems = count(len(plan.problems), "problem")
    said = duration(max(1.0, about))
    print(f"{problems}, {count(routes, 'route')}, one evaluation of the model of {name} each: about {said} here")
    note("the time is that of the search in one thread, from a sweep on an AMD EPYC; nothing is measured")
    next_step("the same command without --dry-run")


def _speeds(problems: Sequence[Problem]) -> Any:
    from ..devices.mlx import MlxDevice
    from ..search import estimate

    return estimate.speeds(MlxDevice("cpu", 0), problems)


def _require_fit(kind: str, force: bool) -> None:
    from ..devices import preflight
    from ..machine import local

    objections = preflight.objections(local(kind))
    for objection in objections:
        if not force:
            raise UnfitError(objection, "or measure all the same with --force")
        note(f"warning: {objection}")


def _run(
    plan: Plan, kind: str, chip_id: str, load: str, timeout: float, storage: str, record: str = ""
) -> tuple[Outcome, str]:
    from .. import chips, paths
    from .._version import __version__
    from ..report.progress import listener
    from ..search import lock, studies, tuned
    from ..search.isolated import IsolatedDevice
    from ..search.results import Origin
    from ..search.sweep import Sweep

    stop = Stop()
    url = storage or studies.default_url()
    with lock.exclusive(paths.user_data()):
        opened = studies.open_storage(url)
        count = f"{len(plan.problems)} problem{'s' if len(plan.problems) != 1 else ''}"
        note(f"{chip_id}: {count} at effort {plan.effort.name}, {load} load; what is measured is kept in {url}")
        target = IsolatedDevice(kind, chips.cache_bytes(kind), timeout)
        origin = Origin.of(chip_id, target.machine, __version__, load)
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
                write_record(opened_studies, Path(record))
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


def write_record(opened: Sequence[ProblemStudy], folder: Path) -> None:
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


def _proven(plan: Plan, target: IsolatedDevice) -> Plan:
    """The plan without those of our own kernels that are wrong on this device or do not run there, each of which gets a
    line: what follows would measure hundreds of their routes only to refuse them one by one."""
    from dataclasses import replace

    from .. import kernels
    from ..kernels import STOCK
    from ..search import verify

    backend = target.machine.backend
    here = verify.Target(backend, backend, target.machine.nax)
    failures = verify.before_sweep(plan.problems, plan.kernels, here, target, plan.seed)
    for name, failure in failures.items():
        how = "is wrong" if failure.kind == "wrong" else f"failed ({failure.kind})"
        note(
            f"{name} is left out of this sweep, it {how} on {failure.case}: "
            f"run: autotune verify --device {backend} --kernel {name}"
        )
    kept = tuple(name for name in plan.kernels or kernels.KERNELS if name not in failures)
    return replace(plan, kernels=kept or (STOCK.kernel,)) if failures else plan


class Stop:
    """The first Ctrl-C lets the running measurement finish, the second ends at once."""

    def __init__(self) -> None:
        self._asked = False
        self._before: Any = None

    def asked(self) -> bool:
        return self._asked

    def __enter__(self) -> None:
        def first(number: int, frame: Any) -> None:
            self._asked = True
            note("finishing the running measurement; Ctrl-C again ends at once")
            signal.signal(signal.SIGINT, signal.default_int_handler)

        self._before = signal.signal(signal.SIGINT, first)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)


def _done_json(done: Done) -> dict[str, Any]:
    return {
        "problem": str(done.problem),
        "route": str(done.chosen),
        "best": done.best.route if done.best else "",
        "speedup": [done.best.speedup, done.best.low, done.best.high] if done.best else None,
        "routes": done.routes,
        "refused": done.refused,
        "resumed": done.resumed,
    }


def _report(outcome: Outcome, chip_id: str, url: str, fresh: bool, json: bool, then: str = "") -> None:
    """What the sweep found; ``then`` is the command that comes next, and is given for a simulated sweep alone."""
    from ..devices.simulated.model import OFF
    from ..kernels import STOCK
    from ..report.progress import speedup
    from ..report.tables import count
    from ..search.stats import geometric_mean

    gains = [done.best.low if done.best and done.chosen != STOCK else 1.0 for done in outcome.done]
    faster = sum(done.chosen != STOCK for done in outcome.done)
    if json:
        emit(
            {
                "chip": chip_id,
                "storage": url,
                "source": "simulated" if then else "measured",
                **({"model_off": {"median": OFF[0], "p90": OFF[1]}} if then else {}),
                "stopped": outcome.stopped,
                "left": outcome.left,
                "unfinished": _done_json(outcome.unfinished) if outcome.unfinished else None,
                "stock_failed": {row.problem: row.reason for row in outcome.failed},
                "rounds_disturbed": outcome.disturbed,
                "rounds_slowed": outcome.slowed,
                "problems": [_done_json(done) for done in outcome.done],
            }
        )
    else:
        width = max((len(str(done.problem)) for done in outcome.done), default=0)
        for done in outcome.done:
            print(f"{done.problem!s:{width}}  {speedup(done.best, chosen=done.chosen != STOCK)}")
        if gains:
            print(
                f"{faster} of {len(gains)} problems gain; geometric mean of lower bounds {geometric_mean(gains):.2f}x"
                + (f" (simulated: a model of {chip_id}, nothing was measured)" if then else "")
            )
            if then:
                off, p90 = (f"{100 * share:.0f} %" for share in OFF)
                print(
                    "intervals contain the noise of simulated evaluations alone; the model itself was off by "
                    f"{off} in the median and {p90} at the 90th percentile of published times that it was not fitted "
                    "to (docs/simulated.md)"
                )
        if outcome.unfinished:
            cut = outcome.unfinished
            measured = count(cut.routes, "route")
            print(f"{cut.problem!s:{width}}  {speedup(cut.best)}: the best so far, of {measured}; not finished")
    if outcome.slowed:
        note(f"warning: the machine slowed down in {outcome.slowed} rounds, which were measured again")
    if outcome.stopped:
        why = "the budget is spent" if outcome.stopped == "budget" else "interrupted"
        command = "the same command without --fresh" if fresh else "the same command"
        left = f"{outcome.left} problem{' is' if outcome.left == 1 else 's are'} left"
        note(f"{why}; everything measured is saved, {left}: run {command} to go on")
    for row in outcome.failed:
        note(f"stock itself failed for {row.problem} ({row.reason}): nothing to compare; the next sweep tries again")
    if outcome.done:
        next_step(then or f"autotune export --chip {chip_id}")
