"""Fits the model's constants to published times: least squares of log ratios, damped, with a prior.

Every constant has a value that is plausible from what it means, and the fit may leave it only as far as the rows
demand. These priors are not blind: they were tuned by hand to the threads mlx-3422, mlx-3553 (op) and mlx-3356 before
there was a fit, and five were changed later (``unpack_2``, ``evaluate_us``, ``step_direct_us``, ``sharp``, ``drift``).
Sources count alike, however many rows they have, and large errors count less than their square, since some published
times are wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from rows import Row, Source, seconds

from autotune.devices.simulated import chip as chips
from autotune.devices.simulated.chip import Constants

PRIOR: dict[str, tuple[float, float]] = {
    "matrix": (0.96, 0.05),
    "nax_share": (0.97, 0.05),
    "nax_base": (1.0, 0.1),
    "nax_float32": (0.7, 0.3),
    "nax_unpack": (2.0, 0.5),
    "unpack_2": (2.0, 0.3),
    "unpack_4": (2.3, 0.3),
    "multiply": (1.7, 0.3),
    "load_x": (0.9, 0.3),
    "fragment": (0.4, 0.3),
    "stage": (1.0, 0.3),
    "dram": (0.88, 0.05),
    "core_bytes": (40.0, 0.3),
    "write": (1.5, 0.3),
    "launch_us": (2.2, 0.3),
    "evaluate_us": (110.0, 0.3),
    "evaluate_nax_us": (180.0, 0.3),
    "step_us": (0.35, 0.3),
    "step_direct_us": (0.3, 0.3),
    "far_us": (0.3, 0.5),
    "tail": (0.8, 0.3),
    "drift": (1.0, 0.5),
    "sharp": (10.0, 0.2),
    "blunt": (2.5, 0.3),
}
"""Fitted constants: the plausible value, and the log ratio to it that is as surprising as an error of NOISE."""
NOISE = 0.1
"""Log error of a row that is unremarkable."""
TURN = 0.3
"""Log error beyond which the cost of an error grows linearly."""
CAPS = {"matrix": 1.0, "nax_share": 1.0, "nax_base": 1.0, "dram": 1.0}
"""Shares that cannot exceed one."""
ROUNDS = 12


def fit(sources: Iterable[Source]) -> Constants:
    """The constants that suit the sources' rows; those that are not in PRIOR stay."""
    used, weights = _weighted(sources)
    names = list(PRIOR)
    start = np.log([PRIOR[name][0] for name in names])
    width = np.array([PRIOR[name][1] for name in names])
    at, damping = start.copy(), 1e-2
    residuals, lowest = _residuals(at, names, used, weights, start, width)
    for _ in range(ROUNDS):
        jacobian = _jacobian(at, names, used, weights, start, width, residuals)
        turned = _turned(residuals)
        step = np.linalg.solve(
            jacobian.T @ (turned[:, None] * jacobian) + damping * np.eye(len(names)),
            -jacobian.T @ (turned * residuals),
        )
        tried = _capped(at + np.clip(step, -0.3, 0.3), names)
        new, new_cost = _residuals(tried, names, used, weights, start, width)
        if new_cost < lowest:
            gained = lowest - new_cost
            at, residuals, lowest, damping = tried, new, new_cost, damping / 3
            if gained < 1e-4 * lowest:
                break
        else:
            damping *= 10
    return _constants(at, names)


@dataclass(frozen=True)
class Sensitivity:
    """What decides a constant at the fit, linearised there.

    ``prior`` is how far the constant follows its prior: the relative change of the one that a small relative change of
    the other brings, 0 where rows alone decide and 1 where they say nothing. ``shares`` are the sources' shares in what
    the rows say of the constant with all others held (sums of squares of weighted derivatives), largest first.
    """

    name: str
    prior: float
    shares: tuple[tuple[str, float], ...]


def sensitivities(sources: Iterable[Source]) -> list[Sensitivity]:
    """The sensitivity of each fitted constant, at the constants that :func:`fit` gives for the sources."""
    found = tuple(sources)
    used, weights = _weighted(found)
    names = list(PRIOR)
    start = np.log([PRIOR[name][0] for name in names])
    width = np.array([PRIOR[name][1] for name in names])
    constants = fit(found)
    at = np.log([getattr(constants, name) for name in names])
    residuals, _ = _residuals(at, names, used, weights, start, width)
    # Errors on the linear part of the cost push as hard wherever a constant lies: they do not say how far it moves.
    near = np.abs(residuals) < TURN / NOISE
    weighted = near[:, None] * _jacobian(at, names, used, weights, start, width, residuals)
    from_rows, from_prior = weighted[: len(used)] ** 2, np.diag(weighted[len(used) :]) ** 2
    spread = np.linalg.inv(weighted.T @ weighted)
    told = []
    for number, name in enumerate(names):
        sums: dict[str, float] = {}
        for (source, _), information in zip(used, from_rows[:, number].tolist()):
            sums[source.id] = sums.get(source.id, 0.0) + information
        total = math.fsum(sums.values())
        shares = sorted(((id_, each / total) for id_, each in sums.items()), key=lambda each: -each[1])
        told.append(Sensitivity(name, float(spread[number, number] * from_prior[number]), tuple(shares)))
    return told


def cost(error: float) -> float:
    """What an error of so many times NOISE costs: its square, and a line from TURN on."""
    limit, size = TURN / NOISE, abs(error)
    return size**2 if size < limit else limit * (2 * size - limit)


def _weighted(sources: Iterable[Source]) -> tuple[list[tuple[Source, Row]], np.ndarray]:
    """All rows with their weights: those of a source share what one of the mean size would have."""
    used = [(source, row) for source in sources for row in source.rows]
    counts: dict[str, int] = {}
    for source, _ in used:
        counts[source.id] = counts.get(source.id, 0) + 1
    weights = np.array([1 / math.sqrt(counts[source.id]) for source, _ in used])
    return used, weights * math.sqrt(len(used) / float((weights**2).sum()))


def _constants(at: np.ndarray, names: list[str]) -> Constants:
    values = {name: float(f"{math.exp(value):.3g}") for name, value in zip(names, at)}
    return replace(chips.constants(), **values)


def _capped(at: np.ndarray, names: list[str]) -> np.ndarray:
    highest = np.array([math.log(CAPS[name]) if name in CAPS else math.inf for name in names])
    return np.minimum(at, highest)


def _residuals(
    at: np.ndarray,
    names: list[str],
    used: list[tuple[Source, Row]],
    weights: np.ndarray,
    start: np.ndarray,
    width: np.ndarray,
) -> tuple[np.ndarray, float]:
    constants = replace(chips.constants(), **{name: math.exp(value) for name, value in zip(names, at)})
    errors = np.array([math.log(seconds(source, row, constants) / row.seconds) for source, row in used])
    residuals = np.concatenate([weights * errors / NOISE, (at - start) / width])
    return residuals, math.fsum(cost(each) for each in residuals.tolist())


def _turned(residuals: np.ndarray) -> np.ndarray:
    """Weights of the iterated least squares that stand for the linear part of the cost."""
    return np.minimum(1.0, TURN / NOISE / np.maximum(np.abs(residuals), 1e-12))


def _jacobian(
    at: np.ndarray,
    names: list[str],
    used: list[tuple[Source, Row]],
    weights: np.ndarray,
    start: np.ndarray,
    width: np.ndarray,
    residuals: np.ndarray,
) -> np.ndarray:
    columns = []
    for number in range(len(names)):
        moved = at.copy()
        moved[number] += 0.01
        columns.append((_residuals(moved, names, used, weights, start, width)[0] - residuals) / 0.01)
    return np.stack(columns, axis=1)
