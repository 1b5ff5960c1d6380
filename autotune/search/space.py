"""The legal set: every route that a sweep may measure for a problem, enumerated once.

Values come from ``configs/spaces/*.yaml``, legality from the kernels. Every later step picks from the set, so that no
illegal and no repeated measurement can happen (research on 16 public spaces: samplers that propose a point of the raw
space spend most of their asks on such).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from .. import kernels, paths
from ..errors import UsageError, unknown
from ..kernels import STOCK, Kernel, Route
from ..problem import Problem
from ..yamlfile import load as read
from .points import enumerate_points

Values = dict[str, dict[str, list[Any]]]
"""For each parameter: ``values``, and what a backend adds to them under its name."""

_BACKENDS = ("metal", "cuda", "cpu")


def legal_routes(problem: Problem, backend: str, only: Iterable[str] = (), nax: bool = False) -> list[Route]:
    """All legal routes of the problem, stock first; of configs that do the same work for it, one.

    ``only`` names kernels to keep (stock always stays: it is what others are compared with); ``nax`` says whether the
    device's neural accelerators can be used.
    """
    chosen = set(only) or {kernel.name for kernel in kernels.KERNELS.values() if backend in kernel.offered}
    routes = [STOCK]
    for kernel in kernels.KERNELS.values():
        if kernel.name in chosen and kernel.name != STOCK.kernel and kernel.runs_on(backend, nax):
            routes += legal_set(kernel, problem, backend)
    return routes


def dealt_out() -> list[str]:
    """The kernels whose spaces a sweep measures whole."""
    return [kernel.name for kernel in kernels.KERNELS.values() if not kernel.searched]


def legal_set(kernel: Kernel, problem: Problem, backend: str) -> tuple[Route, ...]:
    """The kernel's routes. Of configs that do the same work the last one stays: the largest multiple of a padding, say,
    which is the one that serves most of the neighbouring M."""
    if problem.op not in kernel.ops:
        return ()
    return _legal(kernel, problem, tuple(tuple(values) for values in candidates(kernel, backend)))


def some_legal(kernel: Kernel, problem: Problem, backend: str) -> Iterator[Route]:
    """As many routes as :func:`legal_set` has, one by one as they are found: for who stops counting early."""
    if problem.op not in kernel.ops:
        return
    values = dict(zip(kernel.parameters, map(tuple, candidates(kernel, backend))))
    points, seen = enumerate_points(values, kernel.constraints(problem)), set()
    for number in range(len(points)):
        config = points.config(number)
        if kernel.accepts(problem, config) and (work := kernel.same(problem, config)) not in seen:
            seen.add(work)
            yield Route.of(kernel.name, config)


def demand(names: Iterable[str], backend: str, nax: bool, where: str) -> list[Kernel]:
    """The kernels of these names. Raises :class:`UsageError` for one that is unknown, or does not run on a device of
    the backend, which is called ``where``."""
    chosen = [kernels.kernel(name) for name in dict.fromkeys(names)]
    for kernel in chosen:
        if not kernel.runs_on(backend, nax):
            needs = f"{' or '.join(kernel.backends)}{', with NAX' if kernel.nax else ''}"
            raise UsageError(f"{kernel.name} does not run on {where}", f"it needs {needs}; see --chip")
    return chosen


def raw_size(kernel: Kernel, backend: str) -> int:
    """Points of the declared space before legality."""
    return math.prod(len(values) for values in candidates(kernel, backend))


@lru_cache(maxsize=1024)
def _legal(kernel: Kernel, problem: Problem, values: tuple[tuple[Any, ...], ...]) -> tuple[Route, ...]:
    """The kernel's constraints thin the product out in whole columns; what they leave is asked about one by one. The
    values were checked when the spaces were read."""
    if not kernel.serves(problem):
        return ()
    points = enumerate_points(dict(zip(kernel.parameters, values)), kernel.constraints(problem))
    by_work: dict[object, Route] = {}
    for number in range(len(points)):
        config = points.config(number)
        if kernel.legal(problem, config):
            by_work[kernel.same(problem, config)] = Route.of(kernel.name, config)
    return tuple(by_work.values())


def candidates(kernel: Kernel, backend: str) -> list[list[Any]]:
    """The values of each of the kernel's parameters on a backend, in order."""
    space = spaces()[kernel.name]
    return [
        sorted(
            {*space[name]["values"], *space[name].get(backend, ())}, key=lambda value: (isinstance(value, str), value)
        )
        for name in kernel.parameters
    ]


def fingerprint(kernel: Kernel) -> str:
    """Twelve hexadecimal digits of the kernel's declared values: a space with new candidates was not fully measured."""
    text = json.dumps(spaces()[kernel.name], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def spaces() -> dict[str, Values]:
    """All kernels' values. Raises :class:`UsageError` for a file that names an unknown kernel, parameter or value."""
    found: dict[str, Values] = {}
    for path in sorted((paths.configs() / "spaces").glob("*.yaml")):
        for name, values in read(path).items():
            _check(path, name, values)
            found[name] = values
    missing = sorted(set(kernels.KERNELS) - set(found))
    if missing:
        raise UsageError(f"no space is declared for {', '.join(missing)}", "add it to configs/spaces/")
    return found


def _check(path: Path, name: str, values: Any) -> None:
    if name not in kernels.KERNELS:
        raise unknown(f"kernel in {path.name}", name, kernels.KERNELS)
    parameters = kernels.KERNELS[name].parameters
    if not isinstance(values, dict) or list(values) != list(parameters):
        raise UsageError(f"{path.name}: {name} must list {', '.join(parameters) or 'nothing'} in this order")
    for parameter, lists in values.items():
        if not isinstance(lists, dict) or not all(isinstance(choices, list) for choices in lists.values()):
            raise UsageError(f"{path.name}: {name}.{parameter} must hold lists", "such as values: [2, 4]")
        if "values" not in lists:
            raise UsageError(f"{path.name}: {name}.{parameter} lacks 'values'", "backends only add to them")
        for key, choices in lists.items():
            if key != "values" and key not in _BACKENDS:
                raise unknown(f"key in {path.name}: {name}.{parameter}", key, ("values", *_BACKENDS))
            for choice in choices:
                if not parameters[parameter].holds(choice):
                    raise UsageError(f"{path.name}: {name}.{parameter} cannot be {choice!r}", "see the kernel's space")
