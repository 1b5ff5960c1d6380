"""One launch of a kernel as the work that it asks of a GPU, and how long that takes.

Each kind of work gives a bound: the seconds that it would take if nothing else limited the launch. A launch takes about
as long as its largest bound; how far the others add to it is one exponent, large for kernels whose many small
threadgroups overlap everything, small for tiled ones, which wait for memory before they compute.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .chip import SimulatedChip

LANES, MATRIX, NAX = "lanes", "matrix", "nax"
"""Units: the lanes' own arithmetic, the simdgroup's matrix instructions, the neural accelerators."""
MEMORY, CACHE, WAITING, LAUNCH = "memory", "cache", "waiting", "launch"
"""The bounds beside the units'."""
ARITHMETIC = (LANES, MATRIX, NAX)
BOUNDS = (MEMORY, CACHE, *ARITHMETIC, WAITING, LAUNCH)
CORE_SIMDGROUPS = 24
"""Simdgroups that a core holds at once where registers allow (github.com/philipturner/metal-benchmarks)."""
CORE_REGISTER_BYTES = 384 << 10
"""Registers of a core: 208 KB on M1 and M2 (the same source); MLX's largest NAX threadgroup needs more. Assumed."""
SATURATING = 0.5
"""Threadgroups for each core from which memory is read as fast as it goes: assumed."""
CORE_THREADGROUP_BYTES = 60 << 10
"""Threadgroup memory of a core, the same source; one threadgroup gets 32 KB of it at most."""


@dataclass(frozen=True)
class Task:
    """Some arithmetic of a launch: what it is for, the unit that does it, and how many operations, all groups together
    (multiply-adds for matrix units, instructions of one lane for lanes)."""

    what: str
    unit: str
    operations: float


@dataclass(frozen=True)
class Launch:
    """One kernel launch.

    ``weights`` are bytes of B that have to be read once, from memory or from the cache if they are there; ``other`` the
    bytes of everything else that is read or written once; ``requested`` what all threadgroups together ask the caches
    for. A threadgroup waits ``steps`` times for loads and barriers; ``direct`` says that operands go to registers and
    not through threadgroup memory, so that simdgroups need not wait for each other; ``sharp`` that the kernel overlaps
    memory and arithmetic. ``resident`` threadgroups of ``simdgroups`` fit on a core. ``written`` bytes of ``other`` are
    written.
    """

    name: str
    groups: int
    simdgroups: int
    resident: int
    tasks: tuple[Task, ...]
    weights: float = 0.0
    other: float = 0.0
    written: float = 0.0
    requested: float = 0.0
    steps: float = 0.0
    direct: bool = True
    sharp: bool = True


@dataclass(frozen=True)
class Part:
    """A launch with its bounds in seconds and the seconds that it takes. ``waves`` is how often a core's share of
    threadgroups fills it; ``tasks`` are the seconds of each kind of arithmetic."""

    launch: Launch
    bounds: dict[str, float]
    tasks: dict[str, float]
    waves: float
    seconds: float

    @property
    def rules(self) -> str:
        """The largest bound, all arithmetic as one: named after the unit that does most of it."""
        totals = {name: value for name, value in self.bounds.items() if name not in ARITHMETIC}
        units = {name: self.bounds[name] for name in ARITHMETIC}
        unit = max(units, key=lambda name: units[name])
        totals[unit] = sum(units.values())
        return max(totals, key=lambda name: totals[name])


def part(launch: Launch, chip: SimulatedChip, hot: bool, gap: float) -> Part:
    """How long a launch takes on a chip.

    ``hot`` says that the weights were just used and may still lie in the last-level cache; ``gap`` are the seconds
    between a kernel and the next one.
    """
    c = chip.constants
    per_core = launch.groups / chip.cores
    # Fewer threadgroups than cores leave cores idle; beyond that the busiest core has more than its share.
    busiest = 1.0 if per_core <= 1 else per_core + c.tail
    rates = {LANES: c.lanes, MATRIX: c.lanes * c.matrix, NAX: c.nax * chip.nax_share}
    each = {task.what: task.operations / launch.groups / rates[task.unit] / chip.clock for task in launch.tasks}
    tasks = {what: busiest * seconds for what, seconds in each.items()}
    units = dict.fromkeys(ARITHMETIC, 0.0)
    for task in launch.tasks:
        units[task.unit] += tasks[task.what]
    waves = max(1.0, busiest / launch.resident)
    waiting = waves * launch.steps * _exposed(launch, chip, sum(each.values()), per_core, hot)
    memory, cached = _places(launch, chip, hot)
    reach = min(1.0, per_core / SATURATING)
    bounds = {
        MEMORY: memory / chip.dram / reach,
        CACHE: max(cached / chip.cache / reach, launch.requested / (c.core_bytes * chip.core_cycles)),
        **units,
        WAITING: waiting,
        LAUNCH: gap,
    }
    exponent = c.sharp if launch.sharp else c.blunt
    seconds = norm((bounds[MEMORY], bounds[CACHE], sum(units.values()) + waiting), exponent) + gap
    return Part(launch, bounds, tasks, waves, seconds)


def _exposed(launch: Launch, chip: SimulatedChip, alone: float, per_core: float, hot: bool) -> float:
    """Seconds of a step's wait that nothing else on the core fills: while one threadgroup (or, without barriers, one
    simdgroup) waits, the others that are there compute. ``alone`` are the seconds of one threadgroup's arithmetic."""
    if not launch.steps:
        return 0.0
    c = chip.constants
    near = c.step_direct_us if launch.direct else c.step_us
    far = 0.0 if hot and launch.weights + launch.other <= chip.cache_bytes else c.far_us
    others = min(launch.resident, max(1.0, per_core))
    together = launch.simdgroups if launch.direct else 1
    busy = alone / together * (others * together - 1)
    return max(0.0, (near + far) * 1e-6 - busy / launch.steps)


def _places(launch: Launch, chip: SimulatedChip, hot: bool) -> tuple[float, float]:
    """Bytes from memory and bytes from the last-level cache. What was written or read a moment ago is in the cache if
    all of it fits; weights only where the caller says that they were used a moment ago."""
    fits = launch.other <= chip.cache_bytes
    kept = hot and launch.other + launch.weights <= chip.cache_bytes
    read = (0.0 if kept else launch.weights) + (0.0 if fits else launch.other)
    cached = launch.weights + launch.other - read
    return read + (0.0 if fits else (chip.constants.write - 1) * launch.written), cached


def norm(bounds: tuple[float, ...], exponent: float) -> float:
    """The largest of the bounds for a large exponent, their sum for 1."""
    largest = max(bounds)
    if largest <= 0:
        return 0.0
    return float(largest * math.fsum((bound / largest) ** exponent for bound in bounds) ** (1 / exponent))


def resident(simdgroups: int, registers: float, threadgroup_bytes: int = 0) -> int:
    """Threadgroups that a core holds at once, at least 1; ``registers`` of 32 bits a thread."""
    most = min(CORE_SIMDGROUPS, CORE_REGISTER_BYTES / (registers * 4 * 32))
    groups = most // simdgroups
    if threadgroup_bytes:
        groups = min(groups, CORE_THREADGROUP_BYTES // threadgroup_bytes)
    return max(1, int(groups))
