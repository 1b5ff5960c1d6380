"""How much of a GPU's bandwidth products reach, by a bench or by a table's measurements.

    autotune bench --workload small-batch --json > bench.json
    python benchmarks/bandwidth.py bench.json
    autotune show tuned_tables/h100.json --times --json > times.json
    python benchmarks/bandwidth.py times.json --copy 2960 --link 1.5 [--fits]      # anywhere: nothing is measured

Prints, for each quantized product, the bytes of packed weights, scales and biases, once, over the time of a call, stock
and routed, and what share that is of a copy: bytes read and written by MLX's ``a + 1`` over 512 MiB, each on the result
of the one before, or ``--copy`` GB/s. Chained calls include the small kernel that links one call to the next
(``autotune/devices/operands.py``), which is timed here alone, in a chain of its own, or taken from ``--link``
microseconds: shares are given with it and without. Copies, links and a bench's calls are all timed by the same clock
(``autotune/devices/clock.py``), each the median of nine; run it on the machine of the bench.

At the end, for each M and quantization with four routed products or more, plain ones apart: the line through their
times that is best in relative terms, as what a call takes whatever its size and the rate at which its bytes come beyond
that; ``--fits`` prints these alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import mlx.core as mx
import numpy as np

from autotune import machine
from autotune.devices import clock, operands
from autotune.kernels import STOCK
from autotune.problem import DTYPES, Problem
from autotune.routing.neighbours import class_of

COPIED = 512 << 20
COPIES, LINKS, TIMES = 20, 500, 9
LEAST = 4
"""Products that a line is drawn through, at least."""


def copy_bandwidth() -> float:
    """Bytes a second, read and written."""
    a = mx.zeros((COPIED // 2,), mx.float16)
    mx.eval(a)

    def copies(calls: int) -> list[mx.array]:
        out = a
        for _ in range(calls):
            out = out + 1
        return [out]

    return 2 * COPIED / timed(copies, COPIES)


def timed(build: clock.Build, calls: int) -> float:
    """Median seconds a call, after one evaluation to warm up."""
    timer = clock.here()
    return median([timer.seconds(STOCK, build, calls) for _ in range(TIMES + 1)][1:]) / calls


def link(problem: Problem) -> float:
    """Seconds of one link in a chain of links alone, timed as a bench times its calls."""
    a = mx.random.normal((problem.m, problem.k)).astype(mx.float16)
    mx.eval(a)

    def links(calls: int) -> list[mx.array]:
        out = a
        for _ in range(calls):
            out = operands.linked(problem, a, out)
        return [out]

    return timed(links, LINKS)


def weight_bytes(problem: Problem) -> int:
    """Packed weights, scales and biases."""
    q = problem.quantization
    assert q is not None
    item = DTYPES[problem.dtype] * 2 if q.has_biases else 1
    return problem.n * problem.k * q.bits // 8 + problem.n * problem.k // q.group_size * item


@dataclass(frozen=True)
class Line:
    """A product's microseconds a call."""

    problem: Problem
    stock_us: float
    routed_us: float
    routed: bool
    clock: str


@dataclass(frozen=True)
class Source:
    """What a file says: where and when, under which load, and the lines of quantized products."""

    machine: str
    mlx: str
    date: str
    load: str
    lines: tuple[Line, ...]


def read(path: Path) -> Source:
    """What ``bench --json`` or ``show --times --json`` wrote. Raises ValueError, KeyError or TypeError."""
    raw = json.loads(path.read_text("utf-8"))
    if "tables" in raw:
        (table,) = raw["tables"]
        cells = table["times"]
        lines = [
            Line(
                Problem.parse(each["problem"]),
                each["stock_us"],
                each["routed_us"],
                each["route"] != str(STOCK),
                each["clock"],
            )
            for each in cells
        ]
        mlx, date = (", ".join(sorted({each[name] for each in cells})) for name in ("mlx", "date"))
        found = Source(table["chip"]["device_name"], mlx, date, table["load"], tuple(lines))
    else:
        clock_ = raw.get("clock", clock.PLAIN)  # older files do not say
        lines = [
            Line(Problem.parse(each["label"]), each["before_us"], each["after_us"], each["routed"], clock_)
            for each in raw["lines"]
            if each["label"].count("M=") == 1
        ]
        found = Source(raw["machine"], raw["mlx"], raw["date"], raw["load"], tuple(lines))
    return replace(found, lines=tuple(line for line in found.lines if line.problem.quantization))


def fits(lines: Iterable[Line]) -> Iterator[str]:
    """Fixed microseconds and TB/s for each M of a class with enough routed products, and how far the worst lies off."""
    classes: dict[tuple[str, int, bool], list[Line]] = {}
    for line in lines:
        if line.routed:
            key = (class_of(str(line.problem.family)), line.problem.m, line.clock == clock.PLAIN)
            classes.setdefault(key, []).append(line)
    for (class_, m, _), each in sorted(classes.items()):
        if len(each) < LEAST:
            continue
        moved = np.array([weight_bytes(line.problem) for line in each])
        took = np.array([line.routed_us for line in each])
        slope, fixed = np.polyfit(moved, took, 1, w=1 / took)
        if slope <= 0:
            continue
        off = np.max(np.abs((fixed + slope * moved) / took - 1))
        yield (
            f"{class_}, M={m}: {fixed:.1f} us and the bytes at {1e-6 / slope:.2f} TB/s, "
            f"within {off:.0%} for {len(each)} products of {min(moved) / 1e6:.1f} to {max(moved) / 1e6:.1f} MB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="what bench --json or show --times --json wrote")
    parser.add_argument("--copy", type=float, metavar="GB/s", help="a copy's bandwidth, instead of measuring it")
    parser.add_argument("--link", type=float, metavar="US", help="a link's time, instead of measuring it")
    parser.add_argument("--fits", action="store_true", help="only what calls take whatever their size")
    options = parser.parse_args()
    try:
        source = read(options.file)
    except (OSError, KeyError, TypeError, ValueError) as error:
        parser.exit(2, f"{options.file} is no output of bench --json or show --times --json ({error})\n")
    if options.fits:
        print("\n".join([f"{source.machine}, MLX {source.mlx}, {source.date}", *fits(source.lines)]))
        return
    chained = source.load == "chained"
    if options.copy is None or (chained and options.link is None):
        here = machine.local(machine.default_kind()).device_name
        if not source.machine.startswith(here):
            parser.exit(
                2,
                f"{options.file} was measured on {source.machine}, this is {here}: run both on one machine, or give "
                "--copy and --link\n",
            )
    copied = copy_bandwidth() if options.copy is None else options.copy * 1e9
    print(f"{source.machine}, MLX {source.mlx}, {source.date}; copy {copied / 1e9:.0f} GB/s")
    for line in source.lines:
        linked = 0.0 if not chained else link(line.problem) * 1e6 if options.link is None else options.link
        moved = weight_bytes(line.problem)
        shares = [
            moved / (us - away) * 1e6 / copied for us in (line.stock_us, line.routed_us) for away in (0.0, linked)
        ]
        print(
            f"{line.problem}, {moved / 1e6:.1f} MB, link {linked:.1f} us: "
            f"stock {shares[0]:.0%} ({shares[1]:.0%}), routed {shares[2]:.0%} ({shares[3]:.0%})"
        )
    print("in parentheses without the link")
    for fit in fits(source.lines):
        print(fit)


if __name__ == "__main__":
    main()
