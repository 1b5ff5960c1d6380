"""An indexed set of configs: what a declared space and its constraints leave, enumerated once.

A config is a row of ``codes``: for each parameter the place of its value in the list of candidate values. Everything
that decides what to measure next works on row numbers, so that it can neither leave the set nor name a config twice.

Enumeration grows the Cartesian product one parameter at a time and drops what a constraint rejects as soon as all of
its parameters are there, on whole columns: a million raw points with simple constraints take a tenth of a second. (The
idea is that of ATF's chain of trees, Rasch et al., TACO 18(1), 2021, with numpy's columns in place of the trees.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

Mask = Any
"""What a constraint returns: an array of booleans, one a point, or a single boolean."""
Constraint = tuple[tuple[str, ...], Callable[..., Mask]]
"""Names of parameters and a predicate, called with one array of values for each of them."""


@dataclass(frozen=True, eq=False)
class Points:
    """Configs by number. ``values`` has each parameter's candidate values in order, ``codes`` is (points, parameters),
    int64, and says for each config which of them it has. Rows are distinct."""

    names: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]
    codes: np.ndarray

    @classmethod
    def of(cls, configs: Sequence[Mapping[str, Any]]) -> Points:
        """The set of these configs in this order, with the values that occur in them as candidates. Raises ValueError
        where they differ in their parameters, and where two are the same."""
        names = tuple(configs[0]) if configs else ()
        if any(set(config) != set(names) for config in configs):
            raise ValueError("the configs differ in their parameters")
        values = tuple(tuple(sorted({config[name] for config in configs}, key=_order)) for name in names)
        places = [{value: place for place, value in enumerate(each)} for each in values]
        codes = [[place[config[name]] for name, place in zip(names, places)] for config in configs]
        if len({tuple(each) for each in codes}) != len(codes):
            raise ValueError("a config stands there twice")
        return cls(names, values, np.array(codes, np.int64).reshape(len(codes), len(names)))

    def __len__(self) -> int:
        return len(self.codes)

    def config(self, index: int) -> dict[str, Any]:
        return {name: values[code] for name, values, code in zip(self.names, self.values, self.codes[index])}

    def find(self, config: Mapping[str, Any]) -> int | None:
        """The number of a config, whatever the order of its names; None where the set does not have it."""
        codes = self.encode(config)
        if codes is None:
            return None
        found = self._at(np.array([np.array(codes, np.int64) @ self._strides], np.int64))
        return int(found[0]) if len(found) else None

    def keep(self, rows: Sequence[int]) -> Points:
        """The set of these rows alone, in this order."""
        return Points(self.names, self.values, self.codes[np.asarray(rows, np.int64)])

    def neighbours(self, index: int) -> np.ndarray:
        """Numbers of the configs that differ in one parameter (Hamming distance 1), int64."""
        key, codes = self._keys[index], self.codes[index]
        moves = [
            key + (np.arange(len(values)) - code) * stride
            for values, code, stride in zip(self.values, codes, self._strides)
            if len(values) > 1
        ]
        found = self._at(np.concatenate(moves)) if moves else np.empty(0, np.int64)
        return found[found != index]

    def encode(self, config: Mapping[str, Any]) -> list[int] | None:
        """A config's codes, whether the set has it or not; None where a name or a value is not the space's."""
        if set(config) != set(self.names):
            return None
        if any(config[name] not in values for name, values in zip(self.names, self.values)):
            return None
        return [values.index(config[name]) for name, values in zip(self.names, self.values)]

    def smooth(self, codes: np.ndarray) -> np.ndarray:
        """Coordinates of configs that put near values near each other, (configs, columns), in 0..1, for codes (configs,
        parameters): a number's logarithm, since most parameters act as factors, and a column for each word.
        Parameters with one value have none."""
        return self._look_up(self._smooth, codes)

    def marks(self, codes: np.ndarray) -> np.ndarray:
        """Coordinates that put all values of a number equally far apart, (configs, columns); numbers with two values
        and words have none, being so already."""
        return self._look_up(self._marks, codes)

    @property
    def smooth_groups(self) -> list[int]:
        """For each of the smooth columns the parameter that it belongs to."""
        return [place for place, table in enumerate(self._smooth) for _ in range(table.shape[1])]

    @property
    def mark_groups(self) -> list[int]:
        """The same of the marks."""
        return [place for place, table in enumerate(self._marks) for _ in range(table.shape[1])]

    @cached_property
    def _smooth(self) -> list[np.ndarray]:
        return [_coordinates(values) for values in self.values]

    @cached_property
    def _marks(self) -> list[np.ndarray]:
        """One column for each value, scaled so that any two are at distance 1."""
        return [
            np.eye(len(values)) / math.sqrt(2)
            if len(values) > 2 and table.shape[1] == 1
            else np.zeros((len(values), 0))
            for values, table in zip(self.values, self._smooth)
        ]

    @staticmethod
    def _look_up(tables: list[np.ndarray], codes: np.ndarray) -> np.ndarray:
        columns = [table[column] for table, column in zip(tables, codes.T)]
        return np.concatenate([np.zeros((len(codes), 0)), *columns], axis=1)

    @cached_property
    def _strides(self) -> np.ndarray:
        """What one place of each parameter adds to a key; the last parameter varies fastest."""
        sizes = [len(values) for values in self.values]
        return np.array([math.prod(sizes[place + 1 :]) for place in range(len(sizes))], np.int64)

    @cached_property
    def _keys(self) -> np.ndarray:
        return self.codes @ self._strides if self.names else np.zeros(len(self), np.int64)

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(self._keys, kind="stable")
        return self._keys[order], order

    def _at(self, keys: np.ndarray) -> np.ndarray:
        """Numbers of the configs with these keys; keys that the set lacks are left out."""
        ordered, order = self._sorted
        if not len(ordered):
            return order
        places = np.searchsorted(ordered, keys)
        places[places == len(ordered)] = 0
        return order[places[ordered[places] == keys]]


def enumerate_points(
    values: Mapping[str, Sequence[Any]], constraints: Iterable[Constraint] = (), most: int = 1 << 26
) -> Points:
    """All points of the product of ``values`` that no constraint rejects, the last parameter varying fastest.

    Raises ValueError where a constraint names an unknown parameter, and where more than ``most`` points would have to
    be held at once.
    """
    names = tuple(values)
    candidates = {name: tuple(choices) for name, choices in values.items()}
    if math.prod(len(choices) for choices in candidates.values()) >= 1 << 63:
        raise ValueError("the declared space has more than 2^63 points")
    waiting = list(constraints)
    for needed, _ in waiting:
        if not set(needed) <= set(names):
            raise ValueError(f"a constraint names {sorted(set(needed) - set(names))}, which no parameter is called")
    arrays = {name: _array(choices) for name, choices in candidates.items()}
    columns: dict[str, np.ndarray] = {}
    rows = 1
    for name in names:
        size = len(candidates[name])
        if rows * size > most:
            raise ValueError(f"more than {most} points at parameter {name}: declare fewer values or a constraint")
        columns = {known: np.repeat(column, size) for known, column in columns.items()}
        columns[name] = np.tile(np.arange(size, dtype=np.int32), rows)
        rows *= size
        ready = [each for each in waiting if set(each[0]) <= set(columns)]
        waiting = [each for each in waiting if each not in ready]
        for needed, predicate in ready:
            mask = np.broadcast_to(
                np.asarray(predicate(*(arrays[each][columns[each]] for each in needed)), bool), (rows,)
            )
            if not mask.all():
                columns = {known: column[mask] for known, column in columns.items()}
                rows = int(mask.sum())
    codes = np.stack([columns[name] for name in names], axis=1) if names else np.zeros((1, 0))
    return Points(names, tuple(candidates.values()), codes.astype(np.int64))


def _coordinates(values: tuple[Any, ...]) -> np.ndarray:
    """Numbers on a logarithmic scale from 0 to 1 (with a zero among them, each one more; negative ones, linearly);
    words by a column each, so that any two are as far apart as 0 and 1."""
    if len(values) < 2:
        return np.zeros((len(values), 0))
    if any(isinstance(value, str) for value in values):
        return np.eye(len(values)) / math.sqrt(2)
    numbers = np.array(values, np.float64)
    if numbers.min() >= 0:
        numbers = np.log(numbers + (numbers.min() == 0))
    return ((numbers - numbers.min()) / (numbers.max() - numbers.min()))[:, None]


def _order(value: Any) -> tuple[bool, Any]:
    """Numbers before words."""
    return isinstance(value, str), value


def _array(choices: tuple[Any, ...]) -> np.ndarray:
    """Values as an array that keeps their types: mixed ones stay Python objects."""
    kinds = {type(choice) for choice in choices}
    return np.array(choices) if len(kinds) == 1 else np.array(choices, dtype=object)
