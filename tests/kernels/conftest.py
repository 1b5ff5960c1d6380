"""The MSL host for tests of Metal kernels: launches run on this machine's CPU, in a schedule of the test's choice."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from autotune.devices.msl_host import native, toolchain
from autotune.devices.msl_host.host import MslHost
from autotune.devices.msl_host.runner import Runner
from autotune.kernels import launch

Host = Callable[[str], AbstractContextManager[None]]


def options(mode: str) -> native.Options:
    """``in-order``, ``reverse``, ``random-<seed>``, or ``check``, which is random with the checker on."""
    order, _, seed = mode.partition("-") if mode.startswith("random") else (mode, "", "")
    if mode == "check":
        return native.Options(native.Schedule("random", 7), check=True)
    return native.Options(native.Schedule(order, int(seed or 0)))  # type: ignore[arg-type]


def runner(mode: str) -> Runner:
    """A runner for ``launch.through``."""
    return Runner(MslHost(options(mode)))


@pytest.fixture
def host() -> Host:
    """``with host("check"): ...`` sends every launch to the host."""
    toolchain.compiler()  # where there is none, its error says what to install
    return lambda mode: launch.through(runner(mode))
