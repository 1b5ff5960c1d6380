"""What a verification tries: which kernels run on a target, with which configs, on which cases.

For each kind of problem that a kernel serves there is a small covering set of its configs (``cover.py``). The usual
kinds see the whole set and every case; the others, of which there are dozens, a config and a third of the cases each,
dealt in turn.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from .. import kernels
from ..devices import cases
from ..devices.cases import Case, Kind
from ..devices.proof import promise
from ..errors import UsageError, unknown
from ..kernels import STOCK, Kernel, Route
from ..problem import Family, Problem
from . import cover, space

EDGES = 64
"""A config's values up to this one set M of its own cases."""
SOME_M = (1, 2, 3, 4, 5, 8, 9, 16, 17, 33, 64, 128, 256)
"""A route that is legal for a problem must be right for every M (``Kernel.build``); one of these makes it legal."""
THIN = 3
"""Kinds besides the usual ones see every third case."""


@dataclass(frozen=True)
class Target:
    """Where kernels run: ``name`` as ``--device`` says it; ``ways`` in which the MSL host runs them, else one empty."""

    name: str
    backend: str
    nax: bool
    ways: tuple[str, ...] = ("",)

    @property
    def host(self) -> bool:
        """Whether a processor stands in for a GPU: only kernels that need one run there."""
        return self.name == "msl-host"

    @property
    def fills(self) -> bool:
        """Whether it is a GPU, with cores to fill."""
        return self.backend != "cpu" and not self.host


@dataclass(frozen=True)
class Work:
    """A config on a kind of problem, and the cases to try it on."""

    route: Route
    kind: Kind
    cases: tuple[Case, ...]


def chosen(target: Target, names: Sequence[str]) -> list[Kernel]:
    """The kernels to verify: those named, or all that run on the target. Raises :class:`UsageError` for one that does
    not run there."""
    running = [kernel for kernel in kernels.KERNELS.values() if runs(kernel, target)]
    if not names:
        return running
    for name in names:
        if kernels.kernel(name) not in running:
            known = ", ".join(kernel.name for kernel in running)
            raise UsageError(f"kernel {name} does not run on {target.name}", f"there: {known or 'none'}")
    return [kernel for kernel in running if kernel.name in names]


def runs(kernel: Kernel, target: Target) -> bool:
    """Whether a target has something to run for the kernel."""
    # What runs on a CPU too is a composition of MLX's own ops, and has nothing for the host to run.
    return kernel.runs_on(target.backend, target.nax) and not (target.host and kernel.runs_on("cpu", False))


def plan(target: Target, names: Sequence[str] = (), exhaustive: bool = False) -> list[Work]:
    """What to try on a target: a covering set of each kernel's configs, or all of them if ``exhaustive``."""
    works = []
    for kernel in chosen(target, names):
        covering = [] if exhaustive else cover.configs(kernel, target.backend)
        others: dict[Kind, list[Route]] = {}
        for number, kind in enumerate(cases.kinds(kernel.ops)):
            if exhaustive:
                sets = (space.legal_set(kernel, kind.problem(*corner), target.backend) for corner in cover.CORNERS)
                routes = [STOCK] if kernel.name == STOCK.kernel else list(dict.fromkeys(itertools.chain(*sets)))
            else:
                routes = [route for route in covering if home(kernel, route, kind)]
                alike = replace(kind, dtype="f16")
                if not routes and alike not in others:
                    others[alike] = cover.configs(kernel, target.backend, alike)
                routes = routes or [route for route in others[alike] if home(kernel, route, kind)]
                if not kind.usual:
                    routes = [routes[number % len(routes)]] if routes else []
            thin = 1 if exhaustive or kind.usual else THIN
            works += [work(kernel, route, kind, target, number, thin) for route in routes]
    return [each for each in works if each.cases]


def given(target: Target, routes: Sequence[Route], chosen_cases: Sequence[Case]) -> list[Work]:
    """What ``--route`` and ``--case`` ask for: these routes on these cases, or on all cases of every kind."""
    works = []
    for route in routes:
        kernel = kernels.kernel(route.kernel)
        chosen(target, [kernel.name])
        _require_whole(kernel, route)
        if chosen_cases:
            mine = [
                Work(route, Kind.of(case.problem), (case,))
                for case in chosen_cases
                if _serves(kernel, route, case.problem)
            ]
        else:
            kinds = cases.kinds(kernel.ops)
            mine = [work(kernel, route, kind, target, 0, 1) for kind in kinds if home(kernel, route, kind)]
        if not mine:
            where = "these cases" if chosen_cases else "any case"
            raise UsageError(
                f"route '{route}' is not legal for {where}", "its parameters are those of the kernel's space"
            )
        works += mine
    return works


def _require_whole(kernel: Kernel, route: Route) -> None:
    """Raises :class:`UsageError` for a route that lacks parameters of its kernel, has others, or has them in another
    order."""
    config, names = route.config, list(kernel.parameters)
    for name in config:
        if name not in names:
            raise unknown(f"parameter of {kernel.name}:", name, names)
    if missing := [name for name in names if name not in config]:
        raise UsageError(f"route '{route}' lacks {', '.join(missing)}", f"{kernel.name} takes {', '.join(names)}")
    if list(config) != names or len(route.items) != len(names):
        raise UsageError(f"route '{route}' has its parameters in another order", f"write {', '.join(names)}, each once")
    for name, value in config.items():
        if not kernel.parameters[name].holds(value):
            raise UsageError(f"route '{route}': {name} cannot be {value}", f"autotune spaces --kernel {kernel.name}")


def work(kernel: Kernel, route: Route, kind: Kind, target: Target, number: int, thin: int) -> Work:
    """The cases of a kind for a config: those of the table where it is legal, and its own; every ``thin``-th of them,
    from the ``number``-th on."""
    place = home(kernel, route, kind)
    if place is None:
        return Work(route, kind, ())
    strict = promise(kernel) is not None
    listed = cases.table(kind, strict, filling=target.fills)
    values = [value for value in route.config.values() if isinstance(value, int)]
    own = cases.around(kind, values, *place, strict, EDGES)
    kept = [case for case in dict.fromkeys([*listed, *own]) if _serves(kernel, route, case.problem)]
    return Work(route, kind, tuple(kept[number % thin :: thin] or kept[:1]))


def home(kernel: Kernel, route: Route, kind: Kind) -> tuple[int, int] | None:
    """The smallest N and K of the ladders at which a config is legal for the kind, or None."""
    if not any(_serves(kernel, route, kind.problem(1, n, k)) for n, k in _FAR):
        return None
    for n, k in _LADDER:
        if _serves(kernel, route, kind.problem(1, n, k)):
            return n, k
    return None


_LADDER = sorted(itertools.product(cases.LADDER_N, cases.LADDER_K), key=lambda size: (size[0] * size[1], size))
_FAR = ((130, 2070), (1030, 16500))
"""Where a config is legal that is legal anywhere."""


def _serves(kernel: Kernel, route: Route, problem: Problem) -> bool:
    """Whether the route is legal for the problem at its own or some other M."""
    config = route.config
    return kernel.accepts(problem, config) or any(kernel.accepts(each, config) for each in _at_some_m(problem.family))


@lru_cache(maxsize=4096)
def _at_some_m(family: Family) -> tuple[Problem, ...]:
    return tuple(family.at(m) for m in SOME_M)
