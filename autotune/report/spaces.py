"""What there is to choose from: each kernel's parameters, and how many of its configs are legal for a problem."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .. import chips, kernels, machine
from ..chips import Chip
from ..kernels import Kernel, Route
from ..kernels.base import Value
from ..problem import Problem
from ..search import space
from . import tables


@dataclass(frozen=True)
class Target:
    """The device that the spaces are for. ``words`` says of it what a reader wants to know."""

    chip: str
    backend: str
    nax: bool
    words: str
    here: bool


def of_machine(kind: str) -> Target:
    """This machine's ``gpu`` or ``cpu``."""
    found = machine.local(kind)
    nax = f", NAX {'on' if found.nax else 'off'}" if found.backend == "metal" else ""
    return Target(chips.here(kind), found.backend, found.nax, f"{found.device_name}, {found.backend}{nax}", True)


def of_chip(chip: Chip) -> Target:
    """A chip of the catalogue, taken at its best: with its neural accelerators, if it has any, in use."""
    nax = chip.nax_from_os is not None
    words = f"{chip.name}, {chip.backend}"
    if chip.backend == "metal":
        words += f", NAX on (from macOS {chip.nax_from_os})" if nax else ", no NAX"
    return Target(chip.id, chip.backend, nax, words, False)


@dataclass(frozen=True)
class Space:
    """One kernel on one device: the candidate values of its parameters, the points that they make, and the legal routes
    of each problem (none for a problem that the kernel does not serve)."""

    kernel: str
    summary: str
    parameters: dict[str, tuple[Value, ...]]
    raw: int
    legal: dict[Problem, tuple[Route, ...]]


def view(target: Target, problems: Sequence[Problem], only: Iterable[str] = ()) -> list[Space]:
    """The spaces of the kernels that run on the device, or of those named.

    Raises :class:`UsageError` for a name that is unknown or whose kernel does not run there.
    """
    chosen = space.demand(only, target.backend, target.nax, target.chip)
    running = [each for each in kernels.KERNELS.values() if each.runs_on(target.backend, target.nax)]
    return [_space(kernel, target.backend, problems) for kernel in chosen or running]


def _space(kernel: Kernel, backend: str, problems: Iterable[Problem]) -> Space:
    values = map(tuple, space.candidates(kernel, backend))
    legal = {problem: space.legal_set(kernel, problem, backend) for problem in problems}
    return Space(
        kernel.name, kernel.summary, dict(zip(kernel.parameters, values)), space.raw_size(kernel, backend), legal
    )


def routes(spaces: Iterable[Space]) -> dict[Problem, list[Route]]:
    """The legal routes of each problem, all kernels' together."""
    found: dict[Problem, list[Route]] = {}
    for each in spaces:
        for problem, legal in each.legal.items():
            found.setdefault(problem, []).extend(legal)
    return found


def document(target: Target, spaces: Sequence[Space], listed: bool) -> dict[str, Any]:
    """The spaces as a JSON document; the routes themselves only where they are asked for."""
    return {
        "chip": {"id": target.chip, "backend": target.backend, "nax": target.nax},
        "kernels": [
            {
                "kernel": each.kernel,
                "summary": each.summary,
                "parameters": {name: list(values) for name, values in each.parameters.items()},
                "raw": each.raw,
                "legal": {str(problem): len(legal) for problem, legal in each.legal.items()},
            }
            for each in spaces
        ],
        **(
            {"routes": {str(p): [str(route) for route in legal] for p, legal in routes(spaces).items()}}
            if listed
            else {}
        ),
    }


def listing(spaces: Sequence[Space]) -> list[Any]:
    """The legal routes, one a line; of several problems, each one's routes under its text."""
    found = routes(spaces)
    parts: list[Any] = []
    for problem, legal in found.items():
        if len(found) > 1:
            parts += [*([""] if parts else []), tables.styled(str(problem), "bold")]
        parts += [str(route) for route in legal]
    return parts


def text(target: Target, spaces: Sequence[Space]) -> list[Any]:
    """The spaces as lines and grids for :func:`autotune.report.tables.write`."""
    parts: list[Any] = [f"{target.chip}: {target.words}", ""]
    for each in spaces:
        title = tables.styled(each.kernel, "bold")
        parts.append(title.append(f"  {each.summary}", style="not bold"))
        if each.parameters:
            rows = ((f"  {name}", ", ".join(map(str, values))) for name, values in each.parameters.items())
            parts.append(tables.grid(rows))
        parts += [f"  {_sizes(each)}", ""]
    found = routes(spaces)
    if len(found) > 1:
        parts.append(
            tables.grid(((str(p), str(len(legal))) for p, legal in found.items()), ("problem", "legal"), (1,), 0)
        )
    elif found:
        (problem, legal), *_ = found.items()
        parts.append(f"{problem}: {tables.count(len(legal), 'legal config')} in all")
    return [*parts, *_elsewhere(target, spaces)]


def _elsewhere(target: Target, spaces: Sequence[Space]) -> list[str]:
    """A line on the kernels that only run on other devices, where all that run on this one are listed."""
    away = [each for each in kernels.KERNELS.values() if not each.runs_on(target.backend, target.nax)]
    if not away or len(spaces) + len(away) < len(kernels.KERNELS):
        return []
    needs = " or ".join(dict.fromkeys(backend for each in away for backend in each.backends))
    nax = " with NAX" if all(each.nax for each in away) else ""
    verb = "needs" if len(away) == 1 else "need"
    return [f"{tables.count(len(away), 'kernel')} {verb} {needs}{nax}: --chip m5max shows them, on any machine"]


def _sizes(each: Space) -> str:
    """``45 points, 12 legal``; over several problems the smallest and the largest legal set, and for how many."""
    raw = tables.count(each.raw, "point")
    sizes = [len(legal) for legal in each.legal.values()]
    served = [size for size in sizes if size]
    if not sizes:
        return raw
    if len(sizes) == 1 or not served:
        return f"{raw}, {max(sizes)} legal"
    return f"{raw}, {tables.interval_of(min(served), max(served))} legal on {len(served)} of {len(sizes)} problems"


def next_step(target: Target, problems: Sequence[Problem], workload: str = "") -> str:
    """The command that follows: a problem to count for, or the sweep that measures the problems, or would elsewhere.

    ``problems`` are those that were named one by one.
    """
    chip = "" if target.here else f"--chip {target.chip}"
    names = [f"--workload {shlex.quote(workload)}"] if workload else []
    names += [f"--problem {tables.as_words(each)}" for each in problems]
    if not names:
        return " ".join(filter(None, ("autotune spaces", chip, "--problem 'matmul M=4 N=512 K=512 f16 nt'")))
    # Another chip's sweep can be counted here, and is run there.
    return " ".join(filter(None, ("autotune sweep", chip, *names, "--dry-run" if chip else "")))
