"""A simulated chip as a device: a sweep can measure it as it would the chip itself, on any machine.

Times come from the model, with noise under the seed of the session: each evaluation is off by a little, and each
session by a little more, as sessions of one machine are. Results are never wrong here: that a route computes the right
thing is for ``autotune verify`` to say, and a model has nothing to add.
"""

from __future__ import annotations

import math
import random

from ...errors import UsageError
from ...kernels import STOCK, Route
from ...machine import Machine
from ...problem import Problem
from ..base import LOADS, Accuracy, RouteFailed
from . import model
from .chip import SimulatedChip

NOISE = 0.01
"""Standard deviation of one evaluation's log time: a quiet machine's."""
SESSION = 0.5
"""What a route's whole session is off by (where its buffers lie, and the like), as a share of the noise of one
evaluation: the ratio of the standard deviations."""


class SimulatedDevice:
    """A chip that exists in the model alone; a :class:`autotune.devices.base.Device`.

    ``machine`` carries the chip's own identity, with ``mlx`` as the version whose rules stock follows. ``noise`` is the
    standard deviation of one evaluation's log time; with 0 the times are the model's alone, whatever the seed.
    """

    def __init__(self, chip: SimulatedChip, version: str = model.NEWEST, noise: float = NOISE) -> None:
        self.chip = chip
        self.version = version
        self.noise = noise
        self.machine = Machine("gpu", "metal", chip.name, chip.architecture, chip.cores, chip.nax, "simulated", version)

    def open(self, problem: Problem, seed: int, load: str) -> SimulatedSession:
        if load not in LOADS:
            raise ValueError(f"load {load!r} is none of {LOADS}")
        return SimulatedSession(self, problem, seed, load)

    def close(self) -> None:
        """There is nothing to let go of."""


class SimulatedSession:
    """One problem on a simulated chip, its weights cold."""

    def __init__(self, device: SimulatedDevice, problem: Problem, seed: int, load: str) -> None:
        self.problem = problem
        self._device = device
        self._load = load
        self._seed = seed
        self._random = random.Random(f"{seed} {problem} {load}")
        self._seconds: dict[Route, float] = {}

    def check(self, route: Route) -> Accuracy:
        self._call(route)
        return Accuracy(0.0, 0.0, 0.0)  # nothing was computed; reports of simulated rows leave errors out

    def time(self, route: Route, calls: int) -> float:
        device = self._device
        seconds = device.chip.evaluate + calls * self._call(route)
        return seconds * math.exp(self._random.gauss(0.0, device.noise))

    def host(self, route: Route, calls: int) -> float:
        return 0.0  # a chip is modelled, not the program that uses it

    def _call(self, route: Route) -> float:
        """Seconds a call, with what this session is off by. Raises :class:`RouteFailed` for a route without a model."""
        if route not in self._seconds:
            device = self._device
            try:
                predicted = model.predict(self.problem, device.chip, device.version, route, self._load)
            except UsageError as error:  # what an illegal or unmodelled route raises; anything else is a defect here
                raise RouteFailed("raised", str(error)) from None
            # The small kernel that links the calls of a chain is timed with them (autotune/devices/mlx.py).
            link = device.chip.constants.launch_us * 1e-6 if self._load == "chained" else 0.0
            off = random.Random(f"{self._seed} {self.problem} {route}").gauss(0.0, SESSION * device.noise)
            scale = math.exp(off) if route != STOCK else 1.0
            self._seconds[route] = (predicted.seconds + link) * scale
        return self._seconds[route]
