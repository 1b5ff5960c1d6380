"""What autotune costs a program that gains nothing from it, and what its commands cost: each with its goal.

    python benchmarks/overhead.py            all but the sweep, one to two minutes
    python benchmarks/overhead.py --sweep    also `autotune sweep --quick`
    python benchmarks/overhead.py --json

What is about start-up runs in fresh processes, one uncounted and then ``--processes`` counted ones: the value is their
median, with the least and the most. A call's cost is the difference of two loops, ours and stock's, timed in turns
batch by batch; a group of batches gives one difference, that of the two fastest batches (what disturbs a loop only ever
makes it slower), and the value is the median of the groups, with the least and the most. Calls build MLX's graph and
are not evaluated: that is where Python's time goes, on any device.

Tables are synthetic: results that nobody measured, for this machine, turned into a table by the code that ``autotune
export`` uses. They lie in a temporary folder; the user's tables are neither read nor written.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autotune.kernels import Op
    from autotune.problem import Problem
    from autotune.search.results import Result

ROUTES = 10_000
FAMILIES = 500
"""Families of the large table; each has ``ROUTES / FAMILIES`` routes, at odd M from 1 up, which no interval joins."""
GROUPS, BATCHES, CALLS = 15, 20, 400
CALLED = (
    "matmul M=3 N=64 K=64 f16 nt",
    "addmm M=3 N=64 K=64 f16 nt row",
    "quantized_matmul M=3 N=64 K=64 f16 affine-b4-g64 nt",
)
"""Small products, one an op, whose calls are timed."""

IMPORT_ALONE = """
import time
import mlx.core as mx
start = time.perf_counter()
import autotune
autotune.matmul
print(time.perf_counter() - start)
"""

FIRST_CALL = """
import time
import mlx.core as mx
import autotune
a = mx.zeros((3, 64), mx.float16)
mx.eval(a)
autotune.matmul
start = time.perf_counter()
autotune.matmul(a, a.T)
print(time.perf_counter() - start)
"""

FIRST_LOOK_UP = """
import sys, time
import mlx.core as mx
from autotune.problem import Problem
from autotune.routing.router import Router
problem = Problem.parse(sys.argv[2])
start = time.perf_counter()
found = Router(sys.argv[1]).find(problem)
print(time.perf_counter() - start)
assert found.followed, "the table was not used"
"""


@dataclass(frozen=True)
class Reading:
    """One figure: its median with the least and the most, and the goal that the median is held to (None: no goal)."""

    name: str
    unit: str
    value: float
    least: float
    most: float
    samples: int
    goal: float | None

    @classmethod
    def of(cls, name: str, unit: str, values: Sequence[float], goal: float | None) -> Reading:
        scale = {"us": 1e6, "ms": 1e3, "s": 1.0}[unit]
        scaled = [float(f"{value * scale:.4g}") for value in values]
        return cls(name, unit, float(f"{median(scaled):.4g}"), min(scaled), max(scaled), len(scaled), goal)

    @property
    def verdict(self) -> str:
        return "" if self.goal is None else "pass" if self.value <= self.goal else "miss"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--sweep", action="store_true", help="also time autotune sweep --quick")
    parser.add_argument("--processes", type=int, default=10, help="fresh processes a figure (default 10)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _isolate(Path(folder))
        readings = []
        for reading in _readings(Path(folder), options):
            readings.append(reading)
            if not options.json:
                print(f"  measured {reading.name}", file=sys.stderr, flush=True)
    if options.json:
        rows = [{**asdict(reading), "verdict": reading.verdict} for reading in readings]
        print(json.dumps({"schema": 1, "machine": _machine(), "readings": rows}, indent=2))
    else:
        print(_text(readings))


def _isolate(folder: Path) -> None:
    """Keeps the user's tables and switches out of it, here and in every process that is started from here."""
    os.environ["AUTOTUNE_DATA"] = str(folder / "data")
    for name in ("AUTOTUNE_TABLES", "AUTOTUNE_DISABLE", "AUTOTUNE_DEVICE", "AUTOTUNE_CHIP", "AUTOTUNE_STORAGE"):
        os.environ.pop(name, None)


def _readings(folder: Path, options: argparse.Namespace) -> Iterator[Reading]:
    count = options.processes
    yield Reading.of("import autotune's ops after mlx.core", "ms", _said(IMPORT_ALONE, count), 15)
    yield Reading.of("first call of an op in a process, without a table", "ms", _said(FIRST_CALL, count), None)
    yield Reading.of("autotune --help, whole process", "ms", _walls(["--help"], count), 200)
    yield from _calls(folder / "small")
    large, rows, problem, kind = _large_table(folder / "large", 3)
    name = f"first look-up in a table of {ROUTES:,} routes"
    yield Reading.of(name, "ms", _said(FIRST_LOOK_UP, count, kind, problem, AUTOTUNE_TABLES=str(large)), 50)
    name = f"autotune check, {ROUTES:,} routes and {rows:,} results, whole process"
    yield Reading.of(name, "s", _walls(["check", str(large)], max(3, count // 2)), 1)
    # What a sweep keeps: a result for every legal route, most of them dropped after a round.
    large, rows, *_ = _large_table(folder / "full", None)
    name = f"the same with {rows:,} results, one for each legal route"
    yield Reading.of(name, "s", _walls(["check", str(large)], max(3, count // 4)), None)
    if options.sweep:
        yield Reading.of("autotune sweep --quick, whole process", "s", [_wall(["sweep", "--quick"])], 90)


# Fresh processes


def _said(code: str, count: int, *arguments: str, **variables: str) -> list[float]:
    """The seconds that each of ``count`` fresh interpreters prints."""
    command = [sys.executable, "-c", code, *arguments]
    done = [
        subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=True)
        for _ in range(count + 1)
    ]
    return [float(each.stdout) for each in done[1:]]


def _walls(arguments: list[str], count: int) -> list[float]:
    return [_wall(arguments) for _ in range(count + 1)][1:]


def _wall(arguments: list[str]) -> float:
    """Seconds from start to end of one ``autotune`` process. Fails loudly where the command does."""
    beside = Path(sys.executable).parent / "autotune"
    script = str(beside) if beside.is_file() else shutil.which("autotune")
    command = [script] if script else [sys.executable, "-m", "autotune.cli.app"]
    start = time.perf_counter()
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-5:])
        raise SystemExit(f"autotune {' '.join(arguments)} ended with {done.returncode}:\n{said}")
    return seconds


# Calls


def _calls(folder: Path) -> Iterator[Reading]:
    """Ours against stock on small arrays that no table has a route for; then on a route, against that route alone."""
    import autotune
    from autotune import kernels
    from autotune.machine import default_kind
    from autotune.mlx_ops import ORIGINAL
    from autotune.problem import Problem
    from autotune.routing.router import Router

    problems = [Problem.parse(text) for text in CALLED]
    kind = default_kind()
    for problem in problems:
        assert Router(kind).find(problem).row is None, f"a table has a route for {problem}"
        ours, stock = _loop(problem, getattr(autotune, problem.op)), _loop(problem, ORIGINAL[problem.op])
        yield Reading.of(f"{problem.op} that stays on stock, over stock", "us", _paired(ours, stock), 1)

    path = _save(_results(problems, 2), folder)
    autotune.use_table(path)
    for problem in problems:
        row = Router(kind, (path,)).find(problem).row
        assert row is not None, "the table was not used"
        ours, alone = _loop(problem, getattr(autotune, problem.op)), _loop(problem, kernels.build(row.route, problem))
        yield Reading.of(f"{problem.op} on {row.route}, over that route alone", "us", _paired(ours, alone), None)
    autotune.use_table(None)


def _loop(problem: Problem, op: Op) -> Callable[[], float]:
    """Times ``CALLS`` calls of the op, written as programs write them."""
    import mlx.core as mx

    x, b = mx.zeros((problem.m, problem.k), mx.float16), mx.zeros((problem.n, problem.k), mx.float16)
    w, scales, biases = mx.quantize(b, group_size=64, bits=4)
    names = {"op": op, "x": x, "t": b.T, "c": mx.zeros((problem.n,), mx.float16)}
    names |= {"w": w, "scales": scales, "biases": biases}
    mx.eval([array for name, array in names.items() if name != "op"])
    call = {
        "matmul": "op(x, t)",
        "addmm": "op(c, x, t)",
        "quantized_matmul": "op(x, w, scales=scales, biases=biases, transpose=True, group_size=64, bits=4)",
    }[problem.op]
    return partial(timeit.Timer(call, globals=names).timeit, CALLS)


def _paired(ours: Callable[[], float], theirs: Callable[[], float]) -> list[float]:
    """Seconds that a call of ours takes over one of theirs, a difference for each group of batches."""
    ours(), theirs()
    found = []
    for _ in range(GROUPS):
        pairs = [(ours(), theirs()) for _ in range(BATCHES)]
        found.append((min(a for a, _ in pairs) - min(b for _, b in pairs)) / CALLS)
    return found


# Tables


def _large_table(folder: Path, per_problem: int | None) -> tuple[Path, int, str, str]:
    """A table of ``ROUTES`` routes with its CSV, how many results that has, a problem in it and the device's kind."""
    from autotune.machine import default_kind
    from autotune.problem import Problem

    ms = range(1, 2 * ROUTES // FAMILIES, 2)
    problems = [
        Problem.parse(f"quantized_matmul M={m} N={64 * (1 + number)} K=4096 f16 affine-b4-g64 nt")
        for number in range(FAMILIES)
        for m in ms
    ]
    rows = _results(problems, per_problem)
    return _save(rows, folder), len(rows), str(problems[-2]), default_kind()


def _results(problems: Sequence[Problem], per_problem: int | None) -> list[Result]:
    """Results that nobody measured, ``per_problem`` of each or one for each legal route: one route gains, another one
    from problem to problem, and the rest lose. Every third problem of a large table stays on stock."""
    from autotune import __version__, chips, kernels, machine
    from autotune.kernels import STOCK
    from autotune.search import results, space
    from autotune.search.results import Origin

    kind = machine.default_kind()
    here = machine.local(kind)
    origin = Origin.of(chips.here(kind), here, __version__, "chained")
    found = []
    for number, problem in enumerate(problems):
        legal = space.legal_routes(problem, here.backend)
        stays = number % 3 == 2 and len(problems) > 3
        winner = legal[1 + number % 2]
        rest = [route for route in legal if route not in (STOCK, winner)][: per_problem and per_problem - 2]
        for route in (STOCK, winner, *rest):
            kernel = kernels.kernel(route.kernel)
            gain = 0.0 if route == STOCK else 0.3 if route == winner and not stays else -0.3
            found.append(
                results.timed(
                    problem,
                    route,
                    results.OK,
                    [1e-4] * 8,
                    [1e-4 * (1 - gain)] * 8,
                    [gain + 0.001 * wobble for wobble in (-2, -1, 0, 1, 2, 1, -1, 0)],
                    origin=origin,
                    error=3e-4,
                    stock_error=3e-4,
                    kernel=kernels.fingerprint.of(kernel),
                    space=space.fingerprint(kernel),
                    date="2026-01-31",
                    seed=number,
                )
            )
    return found


def _save(rows: list[Result], folder: Path) -> Path:
    """Writes the table that the rows support and the rows beside it, as ``autotune export`` does."""
    from autotune.routing import table
    from autotune.search import export, results

    path = folder / f"{rows[0].chip}.json"
    table.write_atomically(path.with_suffix(".csv"), results.dumps(rows))
    derived = export.derive(rows)
    table.save(derived, path)
    problems = len({row.problem for row in rows})
    assert derived.count == problems, f"{derived.count} routes for {problems} problems"
    return path


# Output


def _machine() -> dict[str, Any]:
    from autotune import __version__
    from autotune.machine import default_kind, local

    here = local(default_kind())
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "autotune": __version__,
        "device": here.device_name,
        "backend": here.backend,
        "processors": os.cpu_count(),
        "os": here.os,
        "mlx": here.mlx,
        "python": platform.python_version(),
    }


def _text(readings: Sequence[Reading]) -> str:
    machine = _machine()
    head = (
        f"autotune {machine['autotune']}, MLX {machine['mlx']} ({machine['backend']}), Python {machine['python']}, "
        f"{machine['device']}, {machine['processors']} processors, {machine['os']}, {machine['date']}"
    )
    width = max(len(reading.name) for reading in readings)
    lines = [head, "", f"{'':{width}}     median        least to most        goal"]
    for each in readings:
        goal = "" if each.goal is None else f"{each.goal:g} {each.unit}"
        span = f"{each.least:g} to {each.most:g}" if each.samples > 1 else "one run"
        lines.append(
            f"{each.name:{width}}  {each.value:>6g} {each.unit:2}  {span:>19}  {goal:>7}  {each.verdict}".rstrip()
        )
    missed = sum(reading.verdict == "miss" for reading in readings)
    held = sum(reading.goal is not None for reading in readings)
    return "\n".join([*lines, "", f"{held - missed} of {held} goals met"])


if __name__ == "__main__":
    main()
