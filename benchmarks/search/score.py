"""Scores of a search on recorded spaces, with confidence intervals: pure functions of the costs that it found.

``f@n`` is optimum over best found after n unique measurements, where a failed config counts as a measurement; ``hit@n``
is the share of runs whose best is within 5 % of the optimum by then. Both are means over spaces and seeds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

AT = (25, 50, 100, 200)
HIT_AT = (100, 200)
NEAR = 1.05
RESAMPLES = 2000


def curve(costs: Sequence[float], optimum: float, budget: int) -> np.ndarray:
    """f after 1, 2, ... measurements; 0 while all have failed, and level where a strategy stopped early."""
    found = optimum / np.minimum.accumulate(np.asarray(costs, np.float64)[:budget])
    found = np.where(np.isfinite(found), found, 0.0)
    return np.concatenate([found, np.full(budget - len(found), found[-1] if len(found) else 0.0)])


def f_at(curves: np.ndarray, n: int) -> np.ndarray:
    """For curves (..., measurements), f after n of them."""
    return curves[..., n - 1]


def hit_at(curves: np.ndarray, n: int) -> np.ndarray:
    """1 where the best is within 5 % of the optimum after n measurements, else 0."""
    return (curves[..., n - 1] >= 1 / NEAR).astype(np.float64)


def interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % bounds of the mean of ``values`` (spaces, seeds) by the bootstrap: seeds are drawn anew within each space,
    so that the bounds speak of these spaces and other seeds."""
    rng = np.random.default_rng(seed)
    spaces, seeds = values.shape
    means = [
        np.take_along_axis(values, rng.integers(seeds, size=(spaces, seeds)), axis=1).mean() for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
