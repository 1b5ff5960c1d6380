"""Small tables and results for the reports' tests: all fields are plausible, tests name those that they are about."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from autotune import kernels, machine
from autotune.kernels import Route
from autotune.problem import Problem
from autotune.routing import table
from autotune.routing.table import ChipKey, Header, Row, Table
from autotune.search import results
from autotune.search.results import Origin, Result

H100 = ChipKey("h100", "cuda", "NVIDIA H100 80GB HBM3", "sm_90", 132, False)
M5MAX = ChipKey("m5max", "metal", "Apple M5 Max", "applegpu_g17s", 40, True)
WIDE = "quantized_matmul N=13824 K=5120 f16 affine-b4-g64 nt"
DENSE = "matmul N=4096 K=4096 bf16 nt"
PAD, REPEAT, STOCK = "pad multiple=8 fill=zeros", "pad multiple=8 fill=repeat", "stock"


def header(chip: ChipKey = H100, **fields: Any) -> Header:
    return replace(Header(chip, "measured", "0.1.0", "chained", 0.03, 0.012), **fields)


def row(first: int, last: int, route: str = STOCK, speedup: float = 1.0, half: float = 0.05, **fields: Any) -> Row:
    """A row with the interval ``speedup`` ± ``half``; fresh unless ``kernel`` or ``mlx`` says otherwise."""
    parsed = Route.parse(route)
    known = kernels.KERNELS.get(parsed.kernel)
    fingerprint = kernels.fingerprint.of(known) if known else "gone"
    made = Row(
        first, last, parsed, last, speedup, speedup - half, speedup + half, 16, 3.1e-4,
        fingerprint, "space", machine.mlx_version(), "Linux 6.8.0", "2025-11-20",
    )  # fmt: skip
    return replace(made, **fields)


def make(families: dict[str, list[Row]], head: Header | None = None, path: str = "made.json") -> Table:
    return Table(head or header(), {name: [each.as_json() for each in rows] for name, rows in families.items()}, path)


def saved(folder: Path, families: dict[str, list[Row]], head: Header | None = None, name: str = "h100.json") -> Path:
    path = folder / name
    table.save(make(families, head), path)
    return path


def origin(head: Header | None = None) -> Origin:
    head = head or header()
    c = head.chip
    return Origin(
        c.id, c.backend, c.device_name, c.architecture, c.cores, c.nax,
        "Linux 6.8.0", machine.mlx_version(), head.autotune, head.load, head.source,
    )  # fmt: skip


def stamp(route: str) -> dict[str, Any]:
    return {
        "origin": origin(), "error": 3.1e-4, "stock_error": 3.0e-4,
        "kernel": f"kernel of {route.split()[0]}", "space": "space", "date": "2025-11-20", "seed": 1,
    }  # fmt: skip


def timed(family: str, m: int, route: str, us: float, stock_us: float, **fields: Any) -> Result:
    """A route timed in eight rounds that differ by 1 %."""
    wobble = (0.99, 1.0, 1.0, 1.01) * 2
    stock, times = [stock_us * 1e-6] * 8, [us * 1e-6 * w for w in wobble]
    logs = [math.log(s / t) for s, t in zip(stock, times)]
    problem = table.problem_at(family, m)
    made = results.timed(problem, Route.parse(route), results.OK, stock, times, logs, **stamp(route))
    return replace(made, **fields)


def refused(family: str, m: int, route: str, status: str, reason: str) -> Result:
    return results.untimed(table.problem_at(family, m), Route.parse(route), status, reason, **stamp(route))


def problem(family: str, m: int) -> Problem:
    return table.problem_at(family, m)
