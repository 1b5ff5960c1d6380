"""Compares search strategies on recorded tuning spaces.

    pip install -e '.[bench]'
    python benchmarks/search/run.py FOLDER [--seeds 10] [--budget 200] [--strategy NAME ...] [--json F] [--plot F]

FOLDER holds Kernel Tuner cache files or T4 files, gzipped or not; the public ones are in the repository
``AutoTuningAssociation/benchmark_hub``. Files with a single config are passed over: what ``autotune sweep --record``
writes of stock. A space of our own kernels has to be whole. Prints, per space and overall, f@25, 50, 100 and 200 and
hit@100 and 200 (``score.py``) with 95 % intervals, and the milliseconds that a proposal takes. With ``--json`` the
curves are kept there, and runs that the file has already are not repeated: runs of the same costs (not: of a file of
the same name), with the same number of measurements, by the same strategy's code.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import score
import spaces
from strategies import STRATEGIES

from autotune.errors import UsageError
from autotune.search import portfolio
from autotune.search.recorded import Recorded

Runs = dict[str, dict[str, dict[str, Any]]]
"""By strategy and space: ``curves``, one a seed, and ``ms``, milliseconds a proposal, likewise."""

SEARCH = ("portfolio", "points", "ranking", "threads")
"""Modules of ``autotune/search`` that make up our strategy: another text is another strategy."""


def main() -> None:
    options = _options()
    try:
        found = [spaces.read(path) for path in spaces.paths(options.folder)]
        kept = _kept(options.json) if options.json else {}
    except UsageError as error:
        raise SystemExit(f"run.py: {error}") from None
    found = [space for space in found if len(space.points) > 1]
    if not found:
        raise SystemExit(f"run.py: {options.folder} has no recorded spaces: name a folder of .json or .json.gz files")
    runs: Runs = {}
    for name in options.strategy or STRATEGIES:
        for space in found:
            own = kept.setdefault(key(name, space, options.budget), {"curves": [], "ms": []})
            for seed in range(len(own["curves"]), options.seeds):
                run = STRATEGIES[name](space, seed, options.budget)
                curve = score.curve(run.costs, space.optimum, options.budget)
                own["curves"].append([round(float(each), 5) for each in curve])
                own["ms"].append(round(1e3 * run.seconds / max(1, len(run.costs)), 3))
            runs.setdefault(name, {})[space.name] = {what: each[: options.seeds] for what, each in own.items()}
            print(f"{name} on {space.name}: done", file=sys.stderr)
            if options.json:
                options.json.write_text(json.dumps({"schema": SCHEMA, "machine": _machine(), "runs": kept}), "utf-8")
    print(table(runs, options.budget))
    if options.plot:
        from plot import plot

        plot({name: _curves(by_space) for name, by_space in runs.items()}, options.plot)


SCHEMA = 2


def key(strategy: str, space: Recorded, budget: int) -> str:
    """What a kept run is found by: the strategy and the version of its code, the space's configs and costs, and the
    number of measurements."""
    content = hashlib.sha256(repr((space.points.names, space.points.values)).encode())
    content.update(space.points.codes.tobytes())
    content.update(space.costs.tobytes())
    return f"{strategy} {_version(strategy)} {space.name} {content.hexdigest()[:16]} {budget}"


def _version(strategy: str) -> str:
    """Of our own strategy a hash of its code, of others the version of the package that they come from."""
    if strategy == "autotune":
        texts = [Path(str(portfolio.__file__)).with_name(f"{name}.py").read_bytes() for name in SEARCH]
        return hashlib.sha256(b"".join(texts)).hexdigest()[:12]
    if strategy == "random":
        return np.__version__
    return version("optuna" if strategy == "optuna_tpe" else "kernel_tuner")


def _kept(path: Path) -> dict[str, dict[str, Any]]:
    """The runs of an earlier call. Raises :class:`UsageError` for a file that has none, which is then left alone."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["schema"] != SCHEMA:
            raise ValueError(f"its schema is {content['schema']}, not {SCHEMA}")
        if not all(len(each["curves"]) == len(each["ms"]) for each in content["runs"].values()):
            raise ValueError("it was cut off")
        return dict(content["runs"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UsageError(f"{path} has no runs of this benchmark ({reason})", "name another file with --json") from None


def table(runs: Runs, budget: int) -> str:
    """All spaces together first, with intervals, then each space, as Markdown."""
    at, hits = ([n for n in each if n <= budget] for each in (score.AT, score.HIT_AT))
    at = at or [budget]
    heads = ["strategy", *(f"f@{n}" for n in at), *(f"hit@{n}" for n in hits), "ms a proposal"]
    lines = [" | ".join(["", *heads, ""]).strip(), "| --- " + "| ---: " * (len(heads) - 1) + "|"]
    for name, by_space in runs.items():
        curves = _curves(by_space)
        cells = [_cell(score.f_at(curves, n), 3) for n in at] + [_cell(score.hit_at(curves, n), 2) for n in hits]
        ms = np.array([each["ms"] for each in by_space.values()])
        lines.append(f"| {name} | {' | '.join(cells)} | {np.median(ms):.2f} |")
    n = max((each for each in at if each <= 100), default=budget)
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


def _positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=_positive, default=10)
    parser.add_argument("--budget", type=_positive, default=200)
    parser.add_argument("--strategy", action="append", choices=list(STRATEGIES), help="repeat for several; all if none")
    parser.add_argument("--json", type=Path, help="keeps the curves; what it has is not run again")
    parser.add_argument("--plot", type=Path, help="a PNG or SVG file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
