"""Why a problem takes as long as it does on an Apple GPU, by the model: each bound, which one rules at which M, where
they hand over, and what would move the time.

All of it is prediction (``docs/simulated.md`` says how far off it is); where the problem was measured, the measured
times stand beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from ..devices.simulated import model
from ..devices.simulated.chip import SimulatedChip
from ..devices.simulated.model import Prediction
from ..devices.simulated.work import CACHE, LAUNCH, MEMORY, WAITING
from ..kernels import STOCK, Route
from ..problem import Problem
from ..search.measure import EFFORTS, MOST_CALLS, calibrated
from ..stock_rules import versions

SHOWN = (*range(1, 17), 24, 25, 32, 33, 48, 64, 65, 96, 128, 160, 192, 256, 384, 512, 1024, 2048, 4096, 8192)
"""M at which the bounds are listed, up to twice the M that was asked about and at least to 32."""
BEST = 5
"""Routes that are named as faster."""
MORE = 1.1
"""What would move the time: this much more of a resource."""


@dataclass(frozen=True)
class AtM:
    """The model at one M: the stock kernel, seconds in all and by bound, which bound rules, and the measured seconds
    of stock where there are some, with what the model expects of that measurement (:func:`expected`)."""

    m: int
    kernel: str
    launches: int
    seconds: float
    memory: float
    cache: float
    arithmetic: float
    waiting: float
    launch: float
    rules: str
    measured: float | None = None
    expected: float | None = None

    @property
    def off(self) -> float | None:
        """The relative error of the model: what it expects of the measurement over what was measured, minus one."""
        return None if self.measured is None or self.expected is None else self.expected / self.measured - 1


@dataclass(frozen=True)
class StockTime:
    """Stock as a sweep timed it: seconds a call, in evaluations of at least ``least`` seconds."""

    seconds: float
    least: float

    def calls(self, floor: float) -> int:
        """Calls that an evaluation had, where one costs ``floor`` seconds besides: the sweep's own calibration, which
        no row keeps, on what was measured."""
        calls = MOST_CALLS
        for _ in range(3):
            call = max(self.seconds - floor / calls, 0.0)
            calls, _ = calibrated(lambda number, call=call: floor + number * call, self.least)  # type: ignore[misc]
        return calls


@dataclass(frozen=True)
class Crossing:
    """The first M at which another bound rules, or another kernel is launched."""

    m: int
    before: str
    after: str
    kernel_before: str
    kernel_after: str


@dataclass(frozen=True)
class Lever:
    """Something that would change the time, and seconds with it."""

    what: str
    seconds: float


@dataclass(frozen=True)
class Bounds:
    """Everything that the model says of a problem on a chip; ``routes`` are the fastest legal ones by its account."""

    problem: Problem
    chip: SimulatedChip
    version: str
    prediction: Prediction
    by_m: tuple[AtM, ...]
    crossings: tuple[Crossing, ...]
    levers: tuple[Lever, ...]
    routes: tuple[Lever, ...]


def bounds(
    problem: Problem, chip: SimulatedChip, version: str, measured: Mapping[int, StockTime] | None = None
) -> Bounds:
    """The model's account of the stock op, chained with cold weights; ``measured`` is stock, chained too, by M.

    Raises :class:`UsageError` for a version of MLX whose rules are not known.
    """
    known = measured or {}
    most = max(32, 2 * problem.m)
    listed = sorted({m for m in SHOWN if m <= most} | {problem.m} | {m for m in known if m <= most})
    every = [_at(problem, chip, version, m) for m in range(1, max(64, problem.m) + 1)]
    by_m = tuple(_beside(_at(problem, chip, version, m), known.get(m), chip) for m in listed)
    return Bounds(
        problem,
        chip,
        version,
        model.predict(problem, chip, version),
        by_m,
        _crossings(every),
        _levers(problem, chip, version),
        _routes(problem, chip, version),
    )


def _at(problem: Problem, chip: SimulatedChip, version: str, m: int) -> AtM:
    predicted = model.predict(problem.with_m(m), chip, version)
    b = predicted.bounds
    return AtM(
        m,
        predicted.parts[0].launch.name,
        len(predicted.parts),
        predicted.seconds,
        b[MEMORY],
        b[CACHE],
        predicted.arithmetic,
        b[WAITING],
        b[LAUNCH],
        predicted.rules,
    )


def _beside(at: AtM, measured: StockTime | None, chip: SimulatedChip) -> AtM:
    if measured is None:
        return at
    return replace(at, measured=measured.seconds, expected=expected(at.seconds, measured, chip))


def expected(seconds: float, measured: StockTime, chip: SimulatedChip) -> float:
    """What a sweep would measure, seconds a call, where a chained call takes ``seconds`` by the model: the small kernel
    that links calls is timed with them (autotune/devices/mlx.py), and so is each one's share of its evaluation."""
    return seconds + chip.constants.launch_us * 1e-6 + chip.evaluate / measured.calls(chip.evaluate)


def _crossings(every: Sequence[AtM]) -> tuple[Crossing, ...]:
    return tuple(
        Crossing(each.m, before.rules, each.rules, before.kernel, each.kernel)
        for before, each in pairwise(every)
        if (before.rules, before.kernel) != (each.rules, each.kernel)
    )


def _levers(problem: Problem, chip: SimulatedChip, version: str) -> tuple[Lever, ...]:
    """The same call on a chip with a tenth more of one thing."""
    c = chip.constants
    per_cent = f"{100 * (MORE - 1):.0f} %"
    changed = {
        f"{per_cent} more memory bandwidth": replace(chip, bandwidth=chip.bandwidth * MORE),
        f"{per_cent} higher clock": replace(chip, clock=chip.clock * MORE),
        "waiting for half as long": chip.with_constants(
            step_us=c.step_us / 2, step_direct_us=c.step_direct_us / 2, far_us=c.far_us / 2
        ),
        "launches at no cost": chip.with_constants(launch_us=0.0),
    }
    return tuple(Lever(what, model.predict(problem, other, version).seconds) for what, other in changed.items())


def _routes(problem: Problem, chip: SimulatedChip, version: str) -> tuple[Lever, ...]:
    """The fastest route of each kernel that the model puts before stock, fastest first."""
    from ..search import space

    stock = model.predict(problem, chip, version).seconds
    best: dict[str, tuple[float, Route]] = {}
    for route in space.legal_routes(problem, "metal", nax=chip.nax):
        if route == STOCK:
            continue
        seconds = model.predict(problem, chip, version, route).seconds
        if seconds < min(stock, best.get(route.kernel, (stock, route))[0]):
            best[route.kernel] = seconds, route
    found = sorted(best.values(), key=lambda each: each[0])
    return tuple(Lever(str(route), seconds) for seconds, route in found[:BEST])


def document(b: Bounds) -> dict[str, Any]:
    """The account as a JSON document; times in microseconds, rounded to four digits."""
    p = b.prediction
    return {
        "simulated": True,
        "chip": {
            "id": b.chip.id,
            "cores": b.chip.cores,
            "bandwidth_gbs": b.chip.bandwidth / 1e9,
            "clock_ghz": b.chip.clock / 1e9,
            "nax": b.chip.nax,
        },
        "mlx": b.version,
        "mlx_rules": versions.standing_in(b.version),
        "mlx_rules_beyond": list(versions.beyond(b.version)),
        "predicted_us": _us(p.seconds),
        "evaluated_us": _us(p.seconds + b.chip.evaluate),
        "rules": p.rules,
        "bounds_us": {name: _us(seconds) for name, seconds in p.bounds.items()},
        "arithmetic_us": {what: _us(seconds) for what, seconds in p.tasks.items()},
        "launches": [
            {
                "kernel": part.launch.name,
                "threadgroups": part.launch.groups,
                "waves": float(f"{part.waves:.3g}"),
                "us": _us(part.seconds),
                "rules": part.rules,
            }
            for part in p.parts
        ],
        "by_m": [
            {
                "m": each.m,
                "kernel": each.kernel,
                "predicted_us": _us(each.seconds),
                "memory_us": _us(each.memory),
                "cache_us": _us(each.cache),
                "arithmetic_us": _us(each.arithmetic),
                "waiting_us": _us(each.waiting),
                "launch_us": _us(each.launch),
                "rules": each.rules,
                "measured_us": None if each.measured is None else _us(each.measured),
                "expected_us": None if each.expected is None else _us(each.expected),
            }
            for each in b.by_m
        ],
        "crossings": [vars(each) for each in b.crossings],
        "levers": [{"what": each.what, "us": _us(each.seconds)} for each in b.levers],
        "routes": [{"route": each.what, "us": _us(each.seconds)} for each in b.routes],
    }


def unit_name(rules: str) -> str:
    """A bound in words."""
    return {
        "lanes": "arithmetic",
        "matrix": "matrix units",
        "nax": "neural accelerators",
    }.get(rules, rules)


def _us(seconds: float) -> float:
    return float(f"{seconds * 1e6:.4g}")


def measured_by_m(results: Iterable[Any], problem: Problem, load: str = "chained") -> dict[int, StockTime]:
    """Stock as it was measured, by M, for the problem's family."""
    found = {}
    for result in results:
        if result.route == str(STOCK) and result.load == load and result.time_us > 0 and result.source == "measured":
            other = Problem.parse(result.problem)
            if other.family == problem.family:
                found[other.m] = StockTime(result.time_us * 1e-6, _least(result.rounds))
    return found


def _least(rounds: int) -> float:
    """The least seconds of an evaluation of the sweep that gave stock so many rounds: each effort has its own."""
    known = sorted(EFFORTS.values(), key=lambda effort: effort.final)
    return [known[0], *(effort for effort in known if effort.final <= rounds)][-1].seconds
