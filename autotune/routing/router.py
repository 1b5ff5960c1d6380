"""The router: from a problem to the route that this machine's tables hold for it.

Tables are looked for in three places, first come first served: those that ``AUTOTUNE_TABLES`` names, those that the
user exported, those that come with the project. A table is used only if its header names this very device. All of this
happens when a family is first asked for; afterwards a look-up is a dictionary and a bisection. A family that no table
has is answered by its nearest tuned neighbour where a table's header allows it (:mod:`autotune.routing.neighbours`).
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .. import kernels, paths
from ..errors import TableError
from ..kernels import STOCK, Op, Route
from ..problem import Family, Problem
from . import decision, ready, table
from .decision import Answer, Decision
from .table import Table
from .tokens import Tokens


class RoutingWarning(UserWarning):
    """Something keeps a routed op on stock; the text says what to do. Given once for each cause."""


@dataclass(frozen=True)
class Verdict:
    """Whether a table file would be used for a device, and in words why or why not; ``kind`` is the kind of device that
    the table is for, empty where it cannot be read."""

    path: str
    used: bool
    reason: str
    kind: str = ""


FAMILIES = 4096
"""Families whose answers are kept, the last ones asked for: a model has tens, a program that runs for weeks on shapes
of all kinds would have ever more."""


class Router:
    """Looks routes up for one kind of MLX device (``gpu`` or ``cpu``).

    ``explicit`` tables were asked for by name: they come first and a fault in them is worth a warning, while shipped
    tables of other chips are passed over in silence. ``simulated`` allows these, and no others, to be simulated ones.
    """

    def __init__(self, kind: str, explicit: tuple[Path, ...] = (), simulated: bool = False) -> None:
        self.kind = kind
        self._explicit = explicit
        self._simulated = simulated
        self._tables: list[Table] | None = None
        self._lock = threading.Lock()
        self._answer = lru_cache(FAMILIES)(self._compile)

    def find(self, problem: Problem) -> Decision:
        """The route that the tables hold for the problem as it is, its layout included."""
        return decision.decide(self._answer(problem.family), problem)

    def call(self, problem: Problem) -> Decision:
        """What a routed call of the problem takes, which cannot tell the layouts of a dense product apart."""
        return decision.of_call(self.find, problem)

    def verdicts(self) -> list[Verdict]:
        """Every table file in reach with whether it would be used and why, in order of precedence."""
        return [self.judge(path) for path in self._candidates()]

    def _compile(self, family: Family) -> Answer:
        with self._lock:
            if self._tables is None:
                self._tables = self._load()
            return self._look_up(family, self._tables)

    def _look_up(self, family: Family, tables: Sequence[Table]) -> Answer:
        """What the tables have for the family, with a warning for what of it cannot be used."""
        found = decision.answer(tables, family)
        for fault in found.faults:
            warn_once(f"{fault} (stock is used)")
        stale = next((grade.reason for grade in found.grades if not grade.usable), None)
        if found.table and stale is not None:
            warn_once(f"{found.table.path}: stale routes are not used ({stale}): run autotune sweep")
        return found

    def _candidates(self) -> list[Path]:
        found = list(self._explicit)
        for entry in filter(None, os.environ.get("AUTOTUNE_TABLES", "").split(os.pathsep)):
            path = Path(entry).expanduser()
            found.extend(sorted(path.glob("*.json")) if path.is_dir() else [path])
        for folder in (paths.user_tables(), paths.tuned_tables()):
            found.extend(sorted(folder.glob("*.json")))
        return list(dict.fromkeys(found))

    def _load(self) -> list[Table]:
        loaded = []
        for path in self._candidates():
            verdict = self.judge(path)
            if verdict.used:
                try:
                    loaded.append(table.load(path))
                    loaded[-1].index()
                except TableError as error:
                    warn_once(f"{error} (stock is used)")
            elif verdict.kind in ("", self.kind) and self._asked_for(path):
                warn_once(f"{path} is not used: {verdict.reason}")
        return loaded

    def _asked_for(self, path: Path) -> bool:
        """Whether the user named this file or its folder, or exported it: then silence would hide a mistake."""
        return not path.is_relative_to(paths.tuned_tables())

    def judge(self, path: Path) -> Verdict:
        """Whether the table at ``path`` would be used, from its header alone."""
        from ..machine import backend, local

        try:
            header = table.peek(path)
        except TableError as error:
            return Verdict(str(path), False, str(error).removeprefix(f"{path}: "))
        chip, ours = header.chip, backend(self.kind)
        kind = "cpu" if chip.backend == "cpu" else "gpu"
        if chip.backend != ours:
            return Verdict(str(path), False, f"it is for {chip.backend}, this device is {ours}", kind)
        machine = local(self.kind)
        if chip.identity != machine.identity:
            reason = f"it is for {_words(*chip.identity[1:])}; this device is {_words(*machine.identity[1:])}"
            return Verdict(str(path), False, f"{reason}: run autotune sweep", kind)
        if header.source == "simulated" and not (self._simulated and path in self._explicit):
            reason = "its numbers are simulated: run autotune sweep, or ask for it by use_table"
            return Verdict(str(path), False, reason, kind)
        return Verdict(str(path), True, f"{header.source} on this device", kind)


def _words(device_name: str, architecture: str, cores: int, nax: bool) -> str:
    return f"{device_name}, {architecture}, {cores} cores, NAX {'on' if nax else 'off'}"


def disabled() -> bool:
    """Whether ``AUTOTUNE_DISABLE`` turns routing off: any text but an empty one, 0, false and no."""
    return os.environ.get("AUTOTUNE_DISABLE", "").lower() not in ("", "0", "false", "no")


class Routers:
    """The process's routers and the state that users change: on or off, and which tables."""

    def __init__(self) -> None:
        self.on = not disabled()
        self._bare = False
        self._transforms = Tokens()
        self._explicit: tuple[Path, ...] = ()
        self._simulated = False
        self._routers: dict[str, Router] = {}
        self._broken: set[tuple[Family, Route]] = set()
        self._changed: set[Callable[[], None]] = set()
        self._choosing = threading.RLock()

    def of(self, kind: str) -> Router:
        # Under the lock no router of tables that `use` has just put aside can come in after it.
        with self._choosing:
            router = self._routers.get(kind)
            if router is None:
                router = self._routers[kind] = Router(kind, self._explicit, self._simulated)
            return router

    def on_change(self, callback: Callable[[], None]) -> None:
        """Calls back whenever look-ups made so far no longer hold; asking twice is asking once."""
        self._changed.add(callback)

    def switch(self, on: bool, bare: bool = False) -> None:
        """``bare`` says that nobody transforms what is computed (:meth:`autotune.kernels.base.Kernel.bare`)."""
        self.on, self._bare = on, bare
        self._notify()

    @contextlib.contextmanager
    def transforming(self) -> Iterator[None]:
        """What is computed inside may be differentiated or vectorized, in this thread or, which costs them some
        microseconds, in others."""
        token = self._transforms.take()
        try:
            with ready.holding():
                yield
        finally:
            del token

    def use(self, path: Path | None, simulated: bool) -> None:
        with self._choosing:
            self._explicit = () if path is None else (path,)
            self._simulated = simulated
            self._routers.clear()
        self._notify()

    def op(self, problem: Problem, kind: str, stock: Op) -> Op:
        """The callable that computes the problem: stock itself, or the route with stock to fall back on."""
        if not self.on:
            return stock
        route = self.of(kind).find(problem).route
        if route == STOCK or self.failed(problem.family, route):
            return stock
        try:
            kernels.probe(route, problem)
            run = kernels.build(route, problem)
            bare = kernels.build(route, problem, bare=True) if self._bare else run
            return Routed(self, run, bare, stock, problem.family, route)
        except Exception as error:
            self._retire(problem.family, route, error)
            return stock

    def failed(self, family: Family, route: Route) -> bool:
        """Whether the route failed for that family in this process, and is not used for it again."""
        return (family, route) in self._broken

    def _retire(self, family: Family, route: Route, error: Exception) -> None:
        self._broken.add((family, route))
        # Keyed on the route: a config that a machine does not take fails alike for every family, with another text.
        warn_once(
            f"route {route} failed for {family} ({error}) and is not used again in this process; other families "
            "that it fails for take stock without another warning",
            key=f"route {route}",
        )

    def _notify(self) -> None:
        for callback in tuple(self._changed):  # another thread's first call may add one
            callback()


class Routed:
    """A route with stock to fall back on, called like the op."""

    __slots__ = ("_bare", "_family", "_route", "_routers", "_run", "_stock", "ready")

    def __init__(self, routers: Routers, run: Op, bare: Op, stock: Op, family: Family, route: Route) -> None:
        self._routers, self._run, self._bare, self._stock = routers, run, bare, stock
        self._family, self._route = family, route
        self.ready = getattr(bare, "ready", None)
        """The op's own way to a ready launch, where it has one (``kernels.calls.BareQuantized``)."""

    def __call__(self, *args, stream=None):
        try:
            return (self._run if self._routers._transforms else self._bare)(*args, stream=stream)
        except Exception as error:
            out = self._stock(*args, stream=stream)
            self._routers._retire(self._family, self._route, error)
            self._routers._notify()
            return out


ROUTERS = Routers()
_WARNED: set[str] = set()


def warn_once(text: str, key: str = "") -> None:
    """One :class:`RoutingWarning` in a process for each ``key``, which is the text where none is given."""
    key = key or text
    if key not in _WARNED:
        _WARNED.add(key)
        with contextlib.suppress(RoutingWarning):  # made an error by the user's filters: a routed call never raises
            warnings.warn(f"autotune: {text}", RoutingWarning, stacklevel=_program())


def _program() -> int:
    """The ``stacklevel``, for a warning by who calls this, of the program's own line."""
    ours = __name__.partition(".")[0]
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == ours:
        level, frame = level + 1, frame.f_back
    return level
