"""The model's account of a problem as a picture: time against M, with the bounds drawn."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from ..errors import AutotuneError, UsageError
from ..stock_rules import versions
from .bounds import AtM, Bounds

COLOURS = {"memory": "#0072b2", "cache": "#56b4e9", "arithmetic": "#d55e00", "waiting": "#009e73", "launch": "#999999"}
"""Colours that remain apart for colour-blind readers (Okabe and Ito)."""


def plot(b: Bounds, path: Path) -> None:
    """Writes the picture; its format follows the file's name.

    Raises :class:`AutotuneError` without matplotlib and :class:`UsageError` for a path that cannot be written: a format
    that matplotlib does not have, or a folder that is not there.
    """
    try:
        from matplotlib import pyplot
    except ImportError:
        raise AutotuneError("there is no matplotlib to plot with", "pip install '.[plot]'") from None
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    rows = [each for each in b.by_m if each.m <= max(16, 2 * b.problem.m)]
    ms = [each.m for each in rows]
    highest = max(each.seconds for each in rows) * 1e6
    for name, colour in COLOURS.items():
        values = [getattr(each, name) * 1e6 for each in rows]
        if max(values) > 0.02 * highest:
            axes.plot(ms, values, "--", color=colour, label=f"bound: {name}")
    axes.plot(ms, [each.seconds * 1e6 for each in rows], "o-", color="black", label="predicted (stock)")
    measured = [(each.m, each.measured * 1e6) for each in rows if each.measured is not None]
    if measured:
        axes.plot(*zip(*measured), "s", color="#cc79a7", label="measured (stock)")
    _hand_overs(axes, rows, highest)
    axes.set_xlabel("M, rows of x")
    axes.set_ylabel("microseconds a call")
    axes.set_ylim(0, 1.15 * highest)
    axes.set_title(f"{b.problem.family}\n{b.chip.name}, MLX {versions.said(b.version)}: simulated", fontsize=10)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror or error})", "name another file") from None
    except ValueError as error:
        raise UsageError(f"{path} cannot be drawn ({error})", "end its name in .png, .svg or .pdf") from None
    finally:
        pyplot.close(figure)


def _hand_overs(axes: Any, rows: list[AtM], highest: float) -> None:
    """A line where another kernel takes over, with the kernels' names."""
    heights = (1.08 * highest, 1.02 * highest)  # names of short stretches stand above each other
    axes.text(rows[0].m, heights[0], rows[0].kernel, fontsize=8)
    changes = [(before, each) for before, each in pairwise(rows) if before.kernel != each.kernel]
    for number, (before, each) in enumerate(changes, 1):
        at = (before.m + each.m) / 2
        axes.axvline(at, color="black", linewidth=0.8, linestyle=":")
        axes.text(at + 0.1, heights[number % 2], each.kernel, fontsize=8)
