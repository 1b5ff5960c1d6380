"""Recorded spaces: every config of a space with what it cost, in the field's public formats.

Two are read, plain or gzipped: Kernel Tuner's cache files, and T4, the results format of the FAIR auto-tuning effort
(Kernel Tuner's ``schema/T4``, schema version 1.0.0), which ``autotune sweep --record`` writes. A search can be measured
on a recorded space without the machine that it was recorded on.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError
from .points import Points

Config = Mapping[str, Any]
SCHEMA = "1.0.0"
"""Version of T4 that is written."""


@dataclass(frozen=True, eq=False)
class Recorded:
    """A space with the cost of each of its configs, float64, infinity for one that failed. ``about`` says where it was
    recorded: ``device_name``, ``kernel_name``, ``problem_size``."""

    name: str
    points: Points
    costs: np.ndarray
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def optimum(self) -> float:
        return float(self.costs.min())


def recorded(name: str, configs: Sequence[Config], costs: Sequence[float], about: dict[str, Any]) -> Recorded:
    """A space from its configs. Raises ValueError where :meth:`Points.of` does, and where none has a cost."""
    if not np.isfinite(costs).any():
        raise ValueError("no config has a cost")
    return Recorded(name, Points.of(configs), np.array(costs, np.float64), about)


def read(path: Path) -> Recorded:
    """A Kernel Tuner cache file or a T4 file. Raises :class:`UsageError` with the file's name for anything else."""
    try:
        raw = path.read_bytes()
        content = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
        name = path.name.removesuffix(".gz").removesuffix(".json")
        if "cache" in content:
            return _cache(name, content)
        return _t4(name, content)
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UsageError(
            f"{path} is no recorded space ({reason})", "give Kernel Tuner cache files or T4 files, gzipped or not"
        ) from None


def _cache(name: str, content: dict[str, Any]) -> Recorded:
    """The cost is the time, whatever the objective was: every cache has it. Failed configs have a word in its place, or
    the 1e20 of old versions."""
    names = content["tune_params_keys"]
    rows = list(content["cache"].values())
    about = {key: content.get(key) for key in ("device_name", "kernel_name", "problem_size")}
    return recorded(
        name, [{key: row[key] for key in names} for row in rows], [_cost(row.get("time")) for row in rows], about
    )


def _t4(name: str, content: dict[str, Any]) -> Recorded:
    rows = content["results"]
    costs = []
    for row in rows:
        found = [each["value"] for each in row.get("measurements", []) if each["name"] == "time"]
        costs.append(_cost(found[0] if found and row["invalidity"] == "correct" else None))
    return recorded(name, [row["configuration"] for row in rows], costs, content.get("metadata", {}))


def _cost(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e19:
        return float(value)
    return math.inf


@dataclass(frozen=True)
class Entry:
    """One config of a space that is written: ``invalidity`` is T4's word (``correct``, ``timeout``, ``compile``,
    ``runtime``, ``correctness`` or ``constraints``), ``seconds`` the time of a call, ``runtimes`` its samples, and
    ``timestamp`` when it was measured."""

    config: Config
    invalidity: str
    seconds: float
    runtimes: tuple[float, ...]
    timestamp: str


def t4(entries: Sequence[Entry], metadata: dict[str, Any]) -> str:
    """The entries as T4's JSON, one result a line; times in milliseconds, as the format's users have them."""
    results = [
        json.dumps(
            {
                "timestamp": entry.timestamp,
                "configuration": dict(entry.config),
                "times": {
                    "compilation": 0,
                    "framework": 0,
                    "search_algorithm": 0,
                    "validation": 0,
                    "runtimes": [_ms(each) for each in entry.runtimes],
                },
                "invalidity": entry.invalidity,
                "correctness": int(entry.invalidity == "correct"),
                "measurements": [{"name": "time", "value": _ms(entry.seconds), "unit": "ms"}]
                if entry.invalidity == "correct"
                else [],
                "objectives": ["time"],
            }
        )
        for entry in entries
    ]
    head = json.dumps({"timeunit": "milliseconds", **metadata}, sort_keys=True)
    return f'{{"schema_version": "{SCHEMA}",\n"metadata": {head},\n"results": [\n' + ",\n".join(results) + "\n]}\n"


def _ms(seconds: float) -> float:
    return float(f"{1e3 * seconds:.6g}")
