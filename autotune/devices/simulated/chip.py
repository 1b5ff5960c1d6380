"""The constants of the model: what ``configs/chips.yaml`` and ``configs/simulated.yaml`` know of a chip."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from ... import chips, machine, paths
from ...errors import UsageError, unknown
from ...yamlfile import check_keys, load

MB = 1 << 20


@dataclass(frozen=True)
class Constants:
    """What all chips share; units and origins are in ``configs/simulated.yaml``, one entry a field."""

    lanes: float
    matrix: float
    nax: float
    nax_share: float
    nax_base: float
    nax_float32: float
    nax_unpack: float
    unpack_2: float
    unpack_4: float
    unpack_8: float
    unpack_odd: float
    unpack_fp: float
    multiply: float
    load_x: float
    fragment: float
    stage: float
    dram: float
    cache: float
    core_bytes: float
    write: float
    launch_us: float
    queued_us: float
    evaluate_us: float
    evaluate_nax_us: float
    step_us: float
    step_direct_us: float
    far_us: float
    tail: float
    drift_k: float
    drift: float
    ragged: float
    emulated: float
    sharp: float
    blunt: float

    def unpack(self, mode: str, bits: int) -> float:
        """Lane operations that unpacking one weight costs."""
        if mode != "affine":
            return self.unpack_fp
        return {1: self.unpack_2, 2: self.unpack_2, 4: self.unpack_4, 8: self.unpack_8}.get(bits, self.unpack_odd)


@dataclass(frozen=True)
class SimulatedChip:
    """An Apple GPU as the model sees it.

    ``bandwidth`` is the peak of memory in bytes a second, ``cache_bytes`` the last-level cache, ``clock`` in cycles a
    second; ``nax`` is whether MLX uses the neural accelerators (a system from macOS 26.2 on is assumed for chips that
    have them).
    """

    id: str
    name: str
    architecture: str
    generation: int
    cores: int
    bandwidth: float
    cache_bytes: float
    clock: float
    nax: bool
    constants: Constants

    @property
    def nax_share(self) -> float:
        """Share of the accelerators' rate that a full grid sustains; less on the base chip of a generation."""
        c = self.constants
        return c.nax_share * (c.nax_base if self.architecture.endswith("g") else 1.0)

    @property
    def evaluate(self) -> float:
        """Seconds that an ``mx.eval`` around a single call adds to it."""
        c = self.constants
        return (c.evaluate_nax_us if self.generation >= 17 else c.evaluate_us) * 1e-6

    @property
    def dram(self) -> float:
        """Bytes a second that kernels reach from memory."""
        return self.bandwidth * self.constants.dram

    @property
    def cache(self) -> float:
        """Bytes a second from the last-level cache."""
        return self.bandwidth * self.constants.cache

    @property
    def core_cycles(self) -> float:
        """Cycles a second of all cores together."""
        return self.cores * self.clock

    def with_constants(self, **changes: float) -> SimulatedChip:
        return replace(self, constants=replace(self.constants, **changes))


def get(name: str, cores: int = 0) -> SimulatedChip:
    """The chip of that name with so many GPU cores (0: the most that it is sold with).

    Raises :class:`UsageError` for a chip that is not Apple's, one whose facts are not public, and a wrong core count.
    """
    known = chips.get(name)
    content = _content(paths.configs() / "simulated.yaml")
    if known.id not in content["clock_ghz"]:
        raise UsageError(
            f"there is no model of {known.name}", f"simulated chips: {', '.join(sorted(content['clock_ghz']))}"
        )
    if cores and cores not in known.gpu_cores:
        raise unknown(f"number of {known.name}'s GPU cores", str(cores), map(str, known.gpu_cores))
    cores = cores or max(known.gpu_cores)
    assert known.generation is not None
    architecture = known.architecture or f"applegpu_g{known.generation}{_letter(known.id)}"
    cache_mb = known.last_level_cache_mb or content["assumed_cache_mb"]
    return SimulatedChip(
        known.id,
        known.name,
        architecture,
        known.generation,
        cores,
        known.memory_bandwidth_gbs[cores] * 1e9,
        cache_mb * MB,
        content["clock_ghz"][known.id] * 1e9,
        bool(known.nax_from_os) and machine.nax(architecture, known.nax_from_os),
        constants(),
    )


def names() -> tuple[str, ...]:
    """Ids of the chips that can be simulated."""
    return tuple(_content(paths.configs() / "simulated.yaml")["clock_ghz"])


def constants() -> Constants:
    """The constants of ``configs/simulated.yaml``. Raises :class:`UsageError` where one is missing or unknown."""
    return _constants(paths.configs() / "simulated.yaml")


def origins() -> dict[str, tuple[float, str, str]]:
    """For each constant its value, unit and origin."""
    entries = _content(paths.configs() / "simulated.yaml")["constants"]
    return {name: (entry["value"], entry["unit"], entry["from"]) for name, entry in entries.items()}


@cache
def _constants(path: Path) -> Constants:
    return Constants(**{name: float(entry["value"]) for name, entry in _content(path)["constants"].items()})


@cache
def _content(path: Path) -> dict[str, Any]:
    content = load(path)
    top = ("schema", "clock_ghz", "assumed_cache_mb", "constants")
    check_keys(path.name, content, top, top)
    names_ = tuple(field.name for field in fields(Constants))
    check_keys(f"{path.name}, constants", content["constants"], names_, names_)
    for name, entry in content["constants"].items():
        check_keys(f"{path.name}, {name}", entry, ("value", "unit", "from"), ("value", "unit", "from"))
    return content


def _letter(id_: str) -> str:
    """The class of GPU by the pattern of the known architectures: ``d`` for an Ultra, ``s`` for a Pro or Max."""
    return "d" if id_.endswith("ultra") else "s" if id_.endswith(("pro", "max")) else "g"
