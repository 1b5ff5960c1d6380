"""A learned ranking: a Gaussian process over configs, small enough to fit between two measurements.

It predicts a score of a config (lower is better) and how sure that is. The kernel is Matern's with smoothness 5/2 and a
length scale for each coordinate, so that parameters that do not matter drop out; length scales, amplitude and noise
maximize the posterior density by a few steps along its gradient (Rasmussen and Williams, "Gaussian Processes for
Machine Learning", 2006, sections 2.2, 4.2 and 5.4). What to try is ranked by expected improvement (Jones, Schonlau and
Welch, J. Global Optimization 13, 1998).

Why this and no tree ensemble: forests on the logarithm of time, tried on 16 public spaces, came to f@100 = 0.88 and on
one space did worse than chance (they locked on to a basin); this comes to 0.97 (docs/search.md, mostly other spaces),
needs numpy alone, and one fit takes milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STEPS = 20
"""Steps of the fit, each by about a tenth of a log unit."""
RATE = 0.1
LENGTH = 0.6
"""Middle of the prior of a length scale, in coordinates that lie in 0..1; its spread is a factor of e."""
CHUNK = 512
"""Rows that are predicted at a time: with 200 observations 400 kB, which a core's second cache holds."""
NOISE = 0.02
"""Middle of the prior of the noise's variance, of scores whose variance is 1; its spread is a factor of e^2."""


def scores(costs: np.ndarray) -> np.ndarray:
    """Costs as scores with mean 0 and variance 1; ``inf`` is a failure, and as bad as the worst that did not fail.

    In logs, with the distance between the best and the median as the unit, and logs again beyond the median: how bad a
    bad config is would else take all the model's attention (of one public space half is over 30 times slower than the
    best).
    """
    fine = np.isfinite(costs)
    if not fine.any():
        return np.zeros(len(costs))
    logs = np.log(np.maximum(costs[fine], 1e-300))
    best = logs.min()
    distance = (logs - best) / max(float(np.median(logs)) - best, 1e-3)
    found = np.empty(len(costs))
    found[fine] = np.where(distance > 1, 1 + np.log(np.maximum(distance, 1)), distance)
    found[~fine] = found[fine].max()
    return (found - found.mean()) / max(float(found.std()), 1e-9)


@dataclass(frozen=True)
class Scales:
    """What the fit settles, all in logs: the inverse length scale of each column, amplitude and noise as variances."""

    inverse: np.ndarray
    amplitude: float
    noise: float


def fit(x: np.ndarray, y: np.ndarray, groups: Sequence[int], lengths: Sequence[float]) -> Scales:
    """Scales for observations ``x`` (observations, columns) with scores ``y``.

    ``groups`` says for each column which length scale it has, ``lengths`` where each of these starts, which is the
    middle of its prior. The fit always starts there, so that it depends on the observations alone.
    """
    count, scales = len(x), len(lengths)
    group = np.asarray(groups, np.int64)
    place = np.concatenate([-np.log(np.asarray(lengths, np.float64)), [0.0, math.log(NOISE)]])
    middle, variance = place.copy(), np.concatenate([np.ones(scales + 1), [4.0]])
    flat = (
        np.stack([_squares(x[:, group == each]).ravel() for each in range(scales)])
        if scales
        else np.zeros((0, count**2))
    )
    mean, power = np.zeros_like(place), np.zeros_like(place)
    for step in range(1, STEPS + 1):
        weights, amplitude, noise = np.exp(2 * place[:-2]), math.exp(place[-2]), math.exp(place[-1])
        root = np.sqrt(5 * (weights @ flat).reshape(count, count))
        decay = np.exp(-root)
        correlation = (1 + root + root * root / 3) * decay
        inverse = np.linalg.inv(amplitude * correlation + (noise + 1e-8) * np.eye(count))
        fitted = inverse @ y
        surplus = np.outer(fitted, fitted) - inverse
        slope = np.empty_like(place)
        slope[:-2] = flat @ (surplus * (-5 / 6 * amplitude) * (1 + root) * decay).ravel() * weights
        slope[-2] = 0.5 * float((surplus * correlation).sum()) * amplitude
        slope[-1] = 0.5 * float(np.trace(surplus)) * noise
        slope -= (place - middle) / variance
        # Adam's step: it needs no line search, and its length does not depend on the number of observations.
        mean, power = 0.8 * mean + 0.2 * slope, 0.9 * power + 0.1 * slope * slope
        place += RATE * mean / (1 - 0.8**step) / (np.sqrt(power / (1 - 0.9**step)) + 1e-8)
        place[:-2] = np.clip(place[:-2], -4, 3)
        place[-2:] = np.clip(place[-2:], [-2, math.log(1e-4)], [3, math.log(0.5)])
    return Scales(place[:-2][group], float(place[-2]), float(place[-1]))


def _squares(x: np.ndarray) -> np.ndarray:
    """Squared distances between rows, without the rounding of the expanded form."""
    found = np.zeros((len(x), len(x)))
    for column in x.T:
        found += (column[:, None] - column) ** 2
    return found


class Ranking:
    """The process given observations ``x`` (observations, columns) with scores ``y`` and its scales."""

    def __init__(self, x: np.ndarray, y: np.ndarray, scales: Scales) -> None:
        self._weights = np.exp(scales.inverse)
        self._x = (x * self._weights).astype(np.float32)
        self._amplitude = math.exp(scales.amplitude)
        covariance = self._amplitude * _correlation(self._x, self._x).astype(np.float64)
        self._noise = math.exp(scales.noise) + 1e-6
        covariance[np.diag_indices(len(y))] += self._noise
        root = np.linalg.inv(np.linalg.cholesky(covariance))
        self._root = root.T.astype(np.float32)
        self._fitted = (root.T @ (root @ y)).astype(np.float32)

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the scores at ``x`` (points, columns)."""
        covariance = self._covariance(x)
        return covariance @ self._fitted, self._deviation(covariance)

    def best(self, x: np.ndarray, score: float) -> int:
        """The row of ``x`` that is expected to improve most on ``score``.

        The deviations are what costs, with the square of the number of observations. One observation alone already
        bounds a row's deviation from above, and with it the improvement: rows are taken in the order of that bound, and
        as soon as it falls below what was found, the others need not be looked at.
        """
        covariance = self._covariance(x)
        mean = covariance @ self._fitted
        bound = self._amplitude - covariance.max(axis=1) ** 2 / (self._amplitude + self._noise)
        most = expected_improvement(mean, np.sqrt(np.maximum(bound, 1e-6)), score)
        order = np.argsort(-most, kind="stable")
        found, worth = 0, -math.inf
        for start in range(0, len(order), CHUNK):
            rows = order[start : start + CHUNK]
            if most[rows[0]] < worth:
                break
            each = expected_improvement(mean[rows], self._deviation(covariance[rows]), score)
            place = int(np.argmax(each))
            if each[place] > worth:
                found, worth = int(rows[place]), float(each[place])
        return found

    def _covariance(self, x: np.ndarray) -> np.ndarray:
        """Of each row with each observation; a part of the rows at a time, which then stays in the cache."""
        scaled = (x * self._weights).astype(np.float32)
        found = np.empty((len(x), len(self._x)), np.float32)
        for start in range(0, len(x), CHUNK):
            found[start : start + CHUNK] = _correlation(scaled[start : start + CHUNK], self._x)
        found *= np.float32(self._amplitude)
        return found

    def _deviation(self, covariance: np.ndarray) -> np.ndarray:
        known = covariance @ self._root
        variance = self._amplitude - np.einsum("ij,ij->i", known, known)
        return np.sqrt(np.maximum(variance, 1e-6))


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    root = a @ b.T
    root *= -2
    root += (a * a).sum(axis=1)[:, None]
    root += (b * b).sum(axis=1)
    np.maximum(root, 0, out=root)
    root *= 5
    third = root / 3
    np.sqrt(root, out=root)
    third += root
    third += 1
    np.negative(root, out=root)
    third *= np.exp(root, out=root)
    return third


def expected_improvement(mean: np.ndarray, deviation: np.ndarray, best: float) -> np.ndarray:
    """By how much a point is expected to be below ``best``, counting those outcomes alone that are."""
    z = (best - mean) / deviation
    return deviation * (z * _normal(z) + np.exp(-z * z / 2) / math.sqrt(2 * math.pi))


def _normal(z: np.ndarray) -> np.ndarray:
    """The normal distribution function to 1e-7 (Abramowitz and Stegun, 26.2.17)."""
    t = 1 / (1 + 0.2316419 * np.abs(z))
    series = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    tail = np.exp(-z * z / 2) / math.sqrt(2 * math.pi) * series
    return np.where(z > 0, 1 - tail, tail)
