"""The model's account of a problem as a picture: time against M, with the bounds drawn."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..errors import AutotuneError, UsageError
from ..stock_rules import versions
from .bounds import AtM, Bounds, unit_name

COLOURS = {"memory": "#0072b2", "cache": "#56b4e9", "arithmetic": "#d55e00", "waiting": "#009e73", "launch": "#999999"}
"""Colours that remain apart for colour-blind readers (Okabe and Ito)."""
LINEAR = 64
"""M up to which both axes are linear; beyond they are logarithmic."""


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
    wide = rows[-1].m > LINEAR
    if wide:
        # From one row to thousands times span three orders: what happens at few rows would be a dot on linear axes.
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.yaxis.set_major_formatter("{x:g}")
    ms = [each.m for each in rows]
    highest = max(each.seconds for each in rows) * 1e6
    lowest = min(each.seconds for each in rows) * 1e6
    for name, colour in COLOURS.items():
        values = [getattr(each, name) * 1e6 for each in rows]
        if max(values) > (0.2 * lowest if wide else 0.02 * highest):
            axes.plot(ms, values, "--", color=colour, label=f"bound: {name}")
    axes.plot(ms, [each.seconds * 1e6 for each in rows], "o-", color="black", markersize=4, label="predicted (stock)")
    measured = [(each.m, each.measured * 1e6) for each in rows if each.measured is not None]
    if measured:
        axes.plot(*zip(*measured), "s", color="#cc79a7", label="measured (stock, calls linked)")
    axes.set_ylim(*((0.15 * lowest, 4 * highest) if wide else (0, 1.25 * highest)))
    _hand_overs(axes, rows)
    _crossings(axes, b, rows)
    axes.set_xlabel("M, rows of x")
    axes.set_ylabel("microseconds a call")
    axes.set_title(
        f"{b.problem.family}\n{b.chip.name}, MLX {versions.said(b.version)}: simulated", fontsize=10, wrap=True
    )
    figure.legend(fontsize=8, loc="outside lower center", ncols=4)
    axes.grid(alpha=0.3)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror or error})", "name another file") from None
    except ValueError as error:
        raise UsageError(f"{path} cannot be drawn ({error})", "end its name in .png, .svg or .pdf") from None
    finally:
        pyplot.close(figure)


def _hand_overs(axes: Any, rows: list[AtM]) -> None:
    """A line where another kernel takes over, with the kernels' names along the top."""
    named = axes.get_xaxis_transform()  # M along x, shares of the picture along y
    heights = (0.96, 0.91)  # names of short stretches stand above each other
    axes.text(rows[0].m, heights[0], rows[0].kernel, fontsize=8, transform=named)
    changes = [(before, each) for before, each in pairwise(rows) if before.kernel != each.kernel]
    for number, (before, each) in enumerate(changes, 1):
        at = math.sqrt(before.m * each.m) if rows[-1].m > LINEAR else (before.m + each.m) / 2
        axes.axvline(at, color="black", linewidth=0.8, linestyle=":")
        axes.annotate(
            each.kernel,
            (at, heights[number % 2]),
            xytext=(3, 0),
            xycoords=named,
            textcoords="offset points",
            fontsize=8,
        )


def _crossings(axes: Any, b: Bounds, rows: list[AtM]) -> None:
    """A ring on the curve at the first M that another bound rules, with its name and that M."""
    found = [each for each in b.crossings if each.before != each.after and each.m <= rows[-1].m]
    for number, each in enumerate(found):
        where = (each.m, 1e6 * _seconds(rows, each.m))
        axes.plot(*where, "o", markersize=10, markerfacecolor="none", markeredgecolor="#d55e00", markeredgewidth=1.5)
        said = f"M={each.m}: {unit_name(each.before)} to {unit_name(each.after)}"
        last = rows[-1].m
        left = each.m < (last**0.7 if last > LINEAR else 0.7 * last)
        axes.annotate(
            said, where, xytext=(10 if left else -10, -24 - 14 * (number % 2)), textcoords="offset points",
            ha="left" if left else "right", fontsize=8, color="#d55e00", zorder=5,
            bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.9},
            arrowprops={"arrowstyle": "-", "color": "#d55e00", "linewidth": 0.6},
        )  # fmt: skip


def _seconds(rows: list[AtM], m: int) -> float:
    """The time at M on the straight line between the rows around it."""
    after = next(row for row in rows if row.m >= m)
    before = next((row for row in reversed(rows) if row.m < m), after)
    share = (m - before.m) / (after.m - before.m) if after.m > before.m else 0.0
    return before.seconds + share * (after.seconds - before.seconds)
