"""Fakes: a device that takes no time, and routing tables that nobody measured; and a record of warnings.

The device's seconds come from a function, its noise from a seed, and its clock is a sum.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from autotune import kernels, machine
from autotune.devices.base import LOADS, Accuracy, RouteFailed
from autotune.kernels import STOCK, Route
from autotune.machine import Machine
from autotune.problem import Problem
from autotune.routing import table
from autotune.routing.router import RoutingWarning

MACHINE = Machine("cpu", "cpu", "Fake Processor", "fake64", 8, False, "FakeOS 1.0", "0.32.4")
EXACT = Accuracy(1e-7, 4e-7, 0.0)

Seconds = Callable[[Problem, Route], float]


class FakeDevice:
    """Opens :class:`FakeSession` and counts what is asked of them.

    ``seconds`` is the true time of one call. ``noise`` is the standard deviation of the log of a factor on each
    evaluation; ``drift`` a factor as a function of the seconds that have passed on the fake clock. ``accuracy`` and
    ``failures`` (kinds of :class:`RouteFailed`) are by the route's text; ``fail_in`` names what fails: ``open`` (then
    the key is the problem's text), ``check`` or ``time``.
    """

    def __init__(
        self,
        seconds: Seconds,
        *,
        noise: float = 0.0,
        seed: int = 0,
        drift: Callable[[float], float] | None = None,
        accuracy: Mapping[str, Accuracy] | None = None,
        failures: Mapping[str, str] | None = None,
        fail_in: tuple[str, ...] = ("check", "time"),
        on: Machine = MACHINE,
    ) -> None:
        self.machine = on
        self.seconds = seconds
        self.noise = noise
        self.random = random.Random(seed)
        self.drift = drift or (lambda now: 1.0)
        self.accuracy = dict(accuracy or {})
        self.failures = dict(failures or {})
        self.fail_in = fail_in
        self.now = 0.0
        self.host: dict[str, float] = {}
        self.opened: list[tuple[str, int, str]] = []
        self.checked: list[tuple[str, str]] = []
        self.timed: list[tuple[str, str, int]] = []
        self.closed = 0

    def open(self, problem: Problem, seed: int, load: str) -> FakeSession:
        assert load in LOADS
        self.opened.append((str(problem), seed, load))
        self.fail("open", str(problem))
        return FakeSession(self, problem)

    def close(self) -> None:
        self.closed += 1

    def clock(self) -> float:
        """The fake clock, for whatever takes one."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Passes time on the fake clock."""
        self.now += seconds

    def fail(self, where: str, key: str) -> None:
        if where in self.fail_in and key in self.failures:
            raise RouteFailed(self.failures[key], f"{key} in {where}, as the test wants it")


class FakeSession:
    """One problem on a :class:`FakeDevice`."""

    def __init__(self, device: FakeDevice, problem: Problem) -> None:
        self.device = device
        self.problem = problem

    def check(self, route: Route) -> Accuracy:
        self.device.checked.append((str(self.problem), str(route)))
        self.device.fail("check", str(route))
        return self.device.accuracy.get(str(route), EXACT)

    def host(self, route: Route, calls: int) -> float:
        self.device.fail("host", str(route))
        return calls * self.device.host.get(route.kernel, 0.0)

    def time(self, route: Route, calls: int) -> float:
        device = self.device
        device.timed.append((str(self.problem), str(route), calls))
        device.fail("time", str(route))
        factor = device.drift(device.now) * device.random.lognormvariate(0.0, device.noise)
        seconds = calls * device.seconds(self.problem, route) * factor
        device.now += seconds
        return seconds


def costs(stock: float, **by_kernel: float) -> Seconds:
    """Seconds by the kernel's name; kernels that are not named take as long as stock."""

    def seconds(problem: Problem, route: Route) -> float:
        return stock if route == STOCK else by_kernel.get(route.kernel, stock)

    return seconds


def table_header(**overrides: Any) -> table.Header:
    """The header of a table that was measured on this machine's CPU."""
    ours = machine.local("cpu")
    chip = {
        "id": "here",
        "backend": ours.backend,
        "device_name": ours.device_name,
        "architecture": ours.architecture,
        "cores": ours.cores,
        "nax": ours.nax,
    }
    chip.update({name: overrides.pop(name) for name in list(overrides) if name in chip})
    fields = {"source": "measured", "autotune": "0", "load": "chained", "margin": 0.03, "noise": 0.01, **overrides}
    return table.Header(table.ChipKey(**chip), **fields)


def table_row(first: int, last: int, route: str, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A row as it stands in a file, with evidence that makes it valid here."""
    found = kernels.KERNELS.get(route.partition(" ")[0])
    return {
        "m": [first, last],
        "route": route,
        "speedup": [1.5, 1.4, 1.6],
        "at": first,
        "samples": 8,
        "error": 1e-7,
        "kernel": kernels.fingerprint.of(found) if found else "0" * 12,
        "space": "0" * 12,
        "mlx": machine.mlx_version(),
        "os": machine.local("cpu").os,
        "date": "2026-01-31",
        **(overrides or {}),
    }


@contextmanager
def recorded_warnings() -> Iterator[list[str]]:
    """The texts of the :class:`RoutingWarning` that are given inside, each time; any other warning is an error."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        warnings.simplefilter("always", RoutingWarning)
        yield texts
        texts += [str(each.message) for each in caught]
