"""``autotune verify``: whether every kernel computes what it should, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import typer

from ..errors import UnfitError, UsageError, unknown
from .output import JSON, emit, next_step, note

if TYPE_CHECKING:
    from ..search.trials import Target, Work

DEVICES = ("metal", "cuda", "cpu", "msl-host")


def register(app: typer.Typer) -> None:
    @app.command()
    def verify(
        device: str = typer.Option("", help="metal, cuda, cpu or msl-host. Default: MLX's default device."),
        kernel: Optional[list[str]] = typer.Option(None, help="Only this kernel (repeatable)."),
        route: Optional[list[str]] = typer.Option(None, help="Only this route, such as 'pad multiple=8 fill=zeros'."),
        case: Optional[list[str]] = typer.Option(None, help="With --route: only this case, as a report names it."),
        exhaustive: bool = typer.Option(False, "--exhaustive", help="All legal configs on all cases: hours."),
        schedule: Optional[list[str]] = typer.Option(
            None, help="On msl-host: in-order, reverse, random or random:SEED (repeatable)."
        ),
        check: bool = typer.Option(False, "--check", help="On msl-host: with every access checked."),
        seed: Optional[int] = typer.Option(None, min=0, help="Seed of the inputs. Default: another one each time."),
        jobs: int = typer.Option(0, min=0, help="Processes (0: one on a GPU, else one for each processor, 8 at most)."),
        timeout: float = typer.Option(120.0, min=1.0, help="Seconds without an answer after which a route has hung."),
        out: Optional[Path] = typer.Option(None, help="Write the report here: JSON, or text if the name ends in .txt."),
        json: bool = JSON,
    ) -> None:
        """Prove on this device that every kernel computes what it should, element by element, against float64.

        msl-host runs the Metal kernels' own text on this machine's processor, without a Mac.
        """
        import secrets
        from datetime import datetime, timezone

        from .. import machine
        from .._version import __version__
        from ..kernels import Route
        from ..report import verify as report

        target, kind = target_of(device, schedule or [], check)
        works = _works(target, kernel or [], [Route.parse(text) for text in route or []], case or [], exhaustive)
        chosen_seed = secrets.randbelow(1 << 31) if seed is None else seed
        outcome = _run(target, kind, works, chosen_seed, jobs, timeout)
        date = datetime.now(timezone.utc).strftime("%Y-%m-%d")
        about = (outcome, machine.local(kind), target, chosen_seed, __version__, date)
        written = report.to_json(*about)
        if out is not None:
            text = report.to_text(*about) if out.suffix == ".txt" else report.document(written)
            try:
                out.write_text(text, "utf-8")
            except OSError as error:
                raise UsageError(f"{out} cannot be written ({error.strerror})", "name another file") from None
        if json:
            emit(written)
        else:
            print(report.table(outcome))
            print(report.LEGEND)
            if listed := report.failures(outcome, target, chosen_seed):
                print(f"\n{listed}")
        runs = sum(verdict.runs for verdict in outcome.verdicts.values())
        note(f"{runs} runs in {outcome.seconds:.0f} s on {target.name}, seed {chosen_seed}")
        _then(outcome.exit_code, target, out)
        raise typer.Exit(outcome.exit_code)


def target_of(device: str, schedules: list[str], check: bool) -> tuple[Target, str]:
    """The target that the options name, and MLX's kind of device for it. Raises :class:`UnfitError` if not there."""
    from .. import machine
    from ..devices.proof import CHECK, WAYS
    from ..search.trials import Target

    if device and device not in DEVICES:
        raise unknown("device", device, DEVICES)
    if (schedules or check) and device != "msl-host":
        raise UsageError("--schedule and --check are the MSL host's", "add --device msl-host")
    for text in schedules:
        order, colon, number = text.partition(":")
        if order not in WAYS or order == CHECK or (colon and (order != "random" or not number.isdecimal())):
            raise UsageError(f"schedule {text!r} is not understood", "in-order, reverse, random or random:SEED")
    if device == "msl-host":
        _require_compiler()
        ways = (*schedules, *([CHECK] if check else [])) or WAYS
        return Target(device, "metal", True, ways), "cpu"
    kind = machine.default_kind() if not device else "cpu" if device == "cpu" else "gpu"
    if not machine.has(kind) or (device and machine.backend(kind) != device):
        here = [machine.backend(each) for each in ("gpu", "cpu") if machine.has(each)]
        raise UnfitError(f"this MLX build has no {device} device", f"here: --device {' or '.join(here)}, or msl-host")
    local = machine.local(kind)
    return Target(local.backend, local.backend, local.nax), kind


def _require_compiler() -> None:
    """Raises :class:`UnfitError` with cause and remedy where the MSL host cannot compile."""
    from ..devices.msl_host import toolchain
    from ..errors import AutotuneError

    try:
        toolchain.runtime_library()
    except AutotuneError as error:
        raise UnfitError(error.cause, error.remedy) from None


def _works(target: Target, names: list[str], routes: list[Any], cases: list[str], exhaustive: bool) -> list[Work]:
    from .. import kernels
    from ..devices.cases import Case
    from ..search import trials

    if cases and not routes:
        raise UsageError("--case needs --route", "a report gives both in its commands")
    if routes and (names or exhaustive):
        raise UsageError("--route takes neither --kernel nor --exhaustive", "leave them out")
    for route in routes:
        kernels.kernel(route.kernel)
    works = (
        trials.given(target, routes, [Case.parse(text) for text in cases])
        if routes
        else trials.plan(target, names, exhaustive)
    )
    if not works:
        raise UsageError(f"no kernel of autotune's runs on {target.name}", "autotune devices says what is here")
    return works


def _run(target: Target, kind: str, works: list[Work], seed: int, jobs: int, timeout: float) -> Any:
    import os

    from .. import kernels
    from ..kernels import ahead
    from ..report.verify import listener
    from ..search import verify
    from ..search.isolated import IsolatedDevice

    processes = jobs or (min(8, os.cpu_count() or 1) if kind == "cpu" else 1)
    workers = [IsolatedDevice(kind, 1 << 20, timeout) for _ in range(min(processes, len(works)))]
    progress = listener()
    try:
        if target.backend == "cuda":
            ahead.compile_ahead(kernels.KERNELS, [(work.cases[0].problem, work.route) for work in works])
        return verify.verify(works, workers, seed, target.ways, progress)
    finally:
        progress.close()
        for worker in workers:
            worker.close()


def _then(code: int, target: Target, out: Path | None) -> None:
    """The command that comes next."""
    from ..errors import OK

    if code == OK:
        next_step("autotune sweep" if not target.host else "autotune verify on the device itself")
    elif out is None:
        next_step("the same command with --out report.txt, to attach to a bug report")
