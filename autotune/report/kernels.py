"""What each kernel gave in a set of results: which of them earn their place on a chip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..search.results import OK, PRUNED, Result
from .tables import count

HEAD = (
    "each kernel against stock by itself (geometric mean of its best, at least 1, over the problems it was timed for):"
)


@dataclass(frozen=True)
class Gain:
    """A kernel over the problems that it was measured for.

    ``problems`` it was timed for, ``fastest`` on how many of them it had the fastest row of all, ``refused`` rows
    (inaccurate or failed), and ``gain``, the geometric mean over the problems of its best speedup, stock (1) where that
    is below 1: what a table of this kernel alone would bring.
    """

    kernel: str
    problems: int
    fastest: int
    refused: int
    gain: float

    def __str__(self) -> str:
        refused = f", {self.refused} rows refused" if self.refused else ""
        return (
            f"{self.kernel:12} {self.gain:5.2f}x over {count(self.problems, 'problem')}, "
            f"fastest on {self.fastest}{refused}"
        )


def gains(rows: Sequence[Result]) -> list[Gain]:
    """One :class:`Gain` for each kernel but stock, the largest first."""
    import numpy as np
    import pandas as pd

    frame = pd.DataFrame([(r.problem, r.route.split(" ")[0], r.status, r.speedup) for r in rows])
    frame.columns = ["problem", "kernel", "status", "speedup"]
    frame = frame[frame.kernel != "stock"]
    timed = frame[frame.status.isin([OK, PRUNED])]
    best = timed.groupby(["kernel", "problem"]).speedup.max()
    winners = timed.loc[timed.groupby("problem").speedup.idxmax()]
    refused = frame[~frame.status.isin([OK, PRUNED])].groupby("kernel").size()
    found = []
    for kernel, speedups in best.groupby(level="kernel"):
        fastest = int(((winners.kernel == kernel) & (winners.speedup > 1)).sum())
        gain = float(np.exp(np.log(speedups.clip(lower=1)).mean()))
        found.append(Gain(str(kernel), len(speedups), fastest, int(refused.get(kernel, 0)), round(gain, 3)))
    return sorted(found, key=lambda each: (-each.gain, each.kernel))
