"""The comparison as a picture: mean f against the number of measurements, a line for each strategy."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import score

matplotlib.use("Agg")
from matplotlib import pyplot


def plot(curves: dict[str, np.ndarray], path: Path) -> None:
    """``curves`` are (spaces, seeds, measurements) by strategy; shades are 95 % intervals."""
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for name, each in curves.items():
        count = each.shape[-1]
        at = np.unique(np.geomspace(5, count, 24).astype(int))
        bounds = np.array([score.interval(score.f_at(each, n)) for n in at])
        (line,) = axes.plot(at, each.mean(axis=(0, 1))[at - 1], label=name, linewidth=2 if name == "autotune" else 1)
        axes.fill_between(at, bounds[:, 0], bounds[:, 1], alpha=0.15, color=line.get_color())
    axes.set_xlabel("unique measurements")
    axes.set_ylabel("optimum / best found")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
