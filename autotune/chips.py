"""What chips exist (``configs/chips.yaml``), and which of them this machine is.

The catalogue gives what a device does not tell of itself: the name that people use, bandwidth, cache sizes. It is read
by commands and the search; routing never needs it, since a table's header carries the device's own words.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from . import paths
from .errors import UnfitError, UsageError, unknown

CPU = "cpu"
UNKNOWN_CACHE = 64 << 20
"""Bytes of last-level cache to assume where none is known: more than most chips have, which costs only memory."""


@dataclass(frozen=True)
class Chip:
    """One entry of the catalogue; ``None`` and empty where a fact is not public. Bandwidths are GB/s by core count."""

    id: str
    name: str
    backend: str
    device_names: tuple[str, ...]
    architecture: str | None
    generation: int | None
    gpu_cores: tuple[int, ...]
    memory_bandwidth_gbs: dict[int, float]
    last_level_cache_mb: float | None
    threadgroup_memory_kb: int | None
    max_threads_per_threadgroup: int | None
    nax_from_os: str | None
    sources: tuple[str, ...]


@cache
def catalogue() -> dict[str, Chip]:
    """All chips by id. Raises :class:`UsageError` where chips.yaml has an unknown key."""
    return read(paths.configs() / "chips.yaml")


def read(path: Path) -> dict[str, Chip]:
    """The chips of a file. Raises :class:`UsageError` that names the key which is unknown or missing."""
    from .yamlfile import check_keys, load

    content = load(path)
    check_keys(path.name, content, ("schema", "chips"), ("schema", "chips"))
    keys = tuple(name for name in Chip.__dataclass_fields__ if name != "id")
    chips = {}
    for id_, raw in content["chips"].items():
        check_keys(f"{path.name}, {id_}", raw, keys, keys)
        chips[id_] = _chip(id_, raw)
    if CPU not in chips:
        raise UsageError(f"{path.name} has no chip {CPU!r}", "keep the generic entry")
    return chips


def _chip(id_: str, raw: dict[str, Any]) -> Chip:
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}
    return Chip(id=id_, **fields)


def get(name: str) -> Chip:
    """The chip of that id; spaces, dashes and case do not matter ("M5 Max" is m5max). Raises :class:`UsageError`."""
    key = "".join(name.lower().split()).replace("-", "").replace("_", "").removeprefix("apple").removeprefix("nvidia")
    if key not in catalogue():
        raise unknown("chip", name, catalogue())
    return catalogue()[key]


def of_machine(kind: str) -> Chip | None:
    """This machine's chip for MLX's ``gpu`` or ``cpu``; None where the catalogue does not have the device's name."""
    from .machine import local

    if kind == "cpu":
        return catalogue()[CPU]
    machine = local(kind)
    for chip in catalogue().values():
        if chip.backend == machine.backend and machine.device_name in chip.device_names:
            return chip
    return None


def here(kind: str) -> str:
    """The id under which this machine's results are filed: the catalogue's, or the device's name run together."""
    from .machine import local

    chip = of_machine(kind)
    if chip is not None:
        return chip.id
    return "".join(c for c in local(kind).device_name.lower() if c.isalnum()) or kind


def require(name: str, kind: str) -> str:
    """The id of the chip that the user named, if this machine has it.

    Raises :class:`UsageError` for an unknown name and :class:`UnfitError` for another machine's chip.
    """
    from .machine import local

    local_id = here(kind)
    if name == local_id:
        return local_id
    chip = get(name)
    if chip.id != local_id:
        model = ", or ask a model of it with --simulate" if chip.backend == "metal" else ""
        raise UnfitError(
            f"this machine has no {chip.id}, its {kind} is {local(kind).device_name}",
            f"measure on a machine with {chip.name}, or leave --chip out{model}",
        )
    return local_id


def elsewhere(name: str, kind: str) -> Chip | None:
    """The chip of that name where it is another than this machine's; None where it is this machine's, or no name is
    given. Raises :class:`UsageError` for an unknown name."""
    if not name or name == here(kind):
        return None
    chip = get(name)
    return None if chip.id == here(kind) else chip


def cache_bytes(kind: str) -> int:
    """Last-level cache of this machine's device in bytes, as the system or the catalogue says, else a safe guess."""
    if kind == "cpu":
        return _cpu_cache() or UNKNOWN_CACHE
    chip = of_machine(kind)
    if chip is None or chip.last_level_cache_mb is None:
        return UNKNOWN_CACHE
    return int(chip.last_level_cache_mb * (1 << 20))


def _cpu_cache() -> int:
    """The largest cache that Linux or macOS reports for the first processor, 0 if none."""
    import subprocess
    import sys

    if sys.platform == "darwin":
        sizes = []
        for name in ("hw.perflevel0.l2cachesize", "hw.l3cachesize", "hw.l2cachesize"):
            done = subprocess.run(["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, check=False)
            sizes.append(int(done.stdout) if done.stdout.strip().isdigit() else 0)
        return max(sizes)
    largest = 0
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text().strip()
        scale = {"K": 1 << 10, "M": 1 << 20}.get(text[-1:], 1)
        digits = text.rstrip("KM")
        largest = max(largest, int(digits) * scale if digits.isdigit() else 0)
    return largest
