"""Compares search strategies on recorded tuning spaces.

    pip install -e '.[bench]'
    python benchmarks/search/run.py FOLDER [--seeds 10] [--budget 200] [--strategy NAME ...] [--json F] [--plot F]

FOLDER holds Kernel Tuner cache files or T4 files, gzipped or not; the public ones are in the repository
``AutoTuningAssociation/benchmark_hub``. Files with a single config are passed over: what ``autotune sweep --record``
writes of stock. Prints, per space and overall, f@25, 50, 100 and 200 and hit@100 and 200
(``score.py``) with 95 % intervals, and the milliseconds that a proposal takes. With ``--json`` the curves are kept
there, and runs that the file has already are not repeated.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import score
from strategies import STRATEGIES

from autotune.search import recorded

Runs = dict[str, dict[str, dict[str, Any]]]
"""By strategy and space: ``curves``, one a seed, and ``ms``, milliseconds a proposal, likewise."""


def main() -> None:
    options = _options()
    files = sorted(path for path in options.folder.iterdir() if path.name.endswith((".json", ".json.gz")))
    spaces = [space for space in map(recorded.read, files) if len(space.points) > 1]
    kept: Runs = json.loads(options.json.read_text("utf-8"))["runs"] if options.json and options.json.exists() else {}
    runs: Runs = {}
    for name in options.strategy or STRATEGIES:
        for space in spaces:
            found = kept.get(name, {}).get(space.name, {"curves": [], "ms": []})
            for seed in range(len(found["curves"]), options.seeds):
                run = STRATEGIES[name](space, seed, options.budget)
                curve = score.curve(run.costs, space.optimum, options.budget)
                found["curves"].append([round(float(each), 5) for each in curve])
                found["ms"].append(round(1e3 * run.seconds / max(1, len(run.costs)), 3))
            kept.setdefault(name, {})[space.name] = found
            runs.setdefault(name, {})[space.name] = {key: each[: options.seeds] for key, each in found.items()}
            print(f"{name} on {space.name}: done", file=sys.stderr)
            if options.json:
                options.json.write_text(json.dumps({"machine": _machine(), "runs": kept}), "utf-8")
    print(table(runs, options.budget))
    if options.plot:
        from plot import plot

        plot({name: _curves(by_space) for name, by_space in runs.items()}, options.plot)


def table(runs: Runs, budget: int) -> str:
    """All spaces together first, with intervals, then each space, as Markdown."""
    at, hits = ([n for n in each if n <= budget] for each in (score.AT, score.HIT_AT))
    heads = ["strategy", *(f"f@{n}" for n in at), *(f"hit@{n}" for n in hits), "ms a proposal"]
    lines = [" | ".join(["", *heads, ""]).strip(), "| --- " + "| ---: " * (len(heads) - 1) + "|"]
    for name, by_space in runs.items():
        curves = _curves(by_space)
        cells = [_cell(score.f_at(curves, n), 3) for n in at] + [_cell(score.hit_at(curves, n), 2) for n in hits]
        ms = np.array([each["ms"] for each in by_space.values()])
        lines.append(f"| {name} | {' | '.join(cells)} | {np.median(ms):.2f} |")
    n = max(each for each in at if each <= 100)
    lines += ["", " | ".join(["", f"f@{n} (hit@{n})", *runs, ""]).strip(), "| --- " + "| ---: " * len(runs) + "|"]
    for space in next(iter(runs.values())):
        cells = []
        for by_space in runs.values():
            curves = np.array(by_space[space]["curves"])
            cells.append(f"{score.f_at(curves, n).mean():.3f} ({score.hit_at(curves, n).mean():.2f})")
        lines.append(f"| {space} | {' | '.join(cells)} |")
    seeds = {len(each["curves"]) for by_space in runs.values() for each in by_space.values()}
    lines += ["", f"{len(next(iter(runs.values())))} spaces, {'/'.join(map(str, sorted(seeds)))} seeds. {_machine()}."]
    return "\n".join(lines)


def _curves(by_space: dict[str, dict[str, Any]]) -> np.ndarray:
    return np.array([each["curves"] for each in by_space.values()])


def _cell(values: np.ndarray, digits: int) -> str:
    low, high = score.interval(values)
    return f"{values.mean():.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget", type=int, default=200)
    parser.add_argument("--strategy", action="append", choices=list(STRATEGIES), help="repeat for several; all if none")
    parser.add_argument("--json", type=Path, help="keeps the curves; what it has is not run again")
    parser.add_argument("--plot", type=Path, help="a PNG or SVG file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
