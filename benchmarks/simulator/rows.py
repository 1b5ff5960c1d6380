"""The published measurements that the model is held to: ``published.yaml``, read and predicted.

A row is a time and the products that it is the time of, one after the other; ``381 x PROBLEM`` stands for so many of
them. Times are milliseconds as published; what the source leaves open and how it was read is in its note.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from autotune.devices.simulated import chip as chips
from autotune.devices.simulated import stock
from autotune.devices.simulated.chip import Constants, SimulatedChip
from autotune.devices.simulated.model import predict
from autotune.devices.simulated.work import part
from autotune.errors import UsageError, unknown
from autotune.problem import Problem
from autotune.stock_rules import StockDevice, qmm, qmv, versions
from autotune.yamlfile import check_keys, load

PATH = Path(__file__).parent / "published.yaml"
FIT, HELD_OUT, READ = "fit", "held-out", "read"
"""What a source is for: constants are fitted to its rows; its rows judge the model; or one constant was read from it,
so that its rows can do neither."""
TIMINGS = ("chained", "evaluated")
WEIGHTS = ("hot", "cold")
SECTIONS = ("schema", "times", "ratios", "crossovers", "left_out")
KEYS = ("id", "url", "chip", "cores", "mlx", "timing", "weights", "role", "rows")


@dataclass(frozen=True)
class Row:
    """One published time in seconds; ``terms`` are counts and the problems that were computed."""

    source: str
    seconds: float
    terms: tuple[tuple[int, Problem], ...]

    @property
    def text(self) -> str:
        return " + ".join(f"{count} x {problem}" if count > 1 else str(problem) for count, problem in self.terms)


@dataclass(frozen=True)
class Source:
    """One table of a thread. ``timing`` is ``chained`` or ``evaluated``; ``weights`` are ``hot`` where every call uses
    the same ones."""

    id: str
    url: str
    chip: SimulatedChip
    mlx: str
    timing: str
    weights: str
    role: str
    rows: tuple[Row, ...]
    note: str


@dataclass(frozen=True)
class Ratio:
    """A published ratio of two times on one chip: of the first pair of version and products over the second."""

    source: str
    ratio: float
    chip: SimulatedChip
    weights: str
    first: tuple[str, Problem]
    second: tuple[str, Problem]


@dataclass(frozen=True)
class Crossover:
    """The first M, from ``first`` to ``last``, at which MLX's matrix-matrix kernel was found faster than its
    matrix-vector kernel, both forced, for the problem's N and K and cold weights."""

    source: str
    chip: SimulatedChip
    mlx: str
    first: int
    last: int
    problem: Problem


@cache
def sources(path: Path = PATH) -> tuple[Source, ...]:
    """All tables of times in a file of this form. Raises :class:`UsageError`, with the file's name and the table's, for
    what is not understood."""
    content = load(path)
    check_keys(path.name, content, SECTIONS, ("times",))
    if not isinstance(content["times"], list) or not content["times"]:
        raise UsageError(f"{path.name}: times must be a list of tables", f"each with keys {', '.join(KEYS)}")
    found = tuple(_source(raw, path.name) for raw in content["times"])
    ids = [each.id for each in found]
    for id_ in ids:
        if ids.count(id_) > 1:
            raise UsageError(f"{path.name}: {ids.count(id_)} tables have the id {id_}", "give each its own")
    return found


@cache
def ratios() -> tuple[Ratio, ...]:
    """All published ratios."""
    found = []
    for raw in load(PATH)["ratios"]:
        for chip, ratio, *ends in raw["rows"]:
            (first, second) = [_end(raw, end) for end in (ends if len(ends) == 2 else ends * 2)]
            if len(ends) == 1:
                first, second = (raw["versions"][0], first[1]), (raw["versions"][1], second[1])
            found.append(Ratio(raw["id"], float(ratio), chips.get(chip), raw["weights"], first, second))
    return tuple(found)


@cache
def crossovers() -> tuple[Crossover, ...]:
    """All published crossovers."""
    return tuple(
        Crossover(raw["id"], chips.get(raw["chip"]), raw["mlx"], first, last, Problem.parse(text))
        for raw in load(PATH)["crossovers"]
        for first, last, text in raw["rows"]
    )


def left_out() -> list[dict[str, Any]]:
    """Sources that could not be used, each with the reason."""
    return list(load(PATH)["left_out"])


def seconds(source: Source, row: Row, constants: Constants | None = None) -> float:
    """The model's time for a row."""
    chip = source.chip if constants is None else _with(source.chip, constants)
    hot = source.weights == "hot"
    total = 0.0
    for count, problem in row.terms:
        predicted = predict(problem, chip, source.mlx, load="chained", hot=hot)
        total += count * predicted.seconds
    return total + (chip.evaluate if source.timing == "evaluated" else 0.0)


def ratio(each: Ratio, constants: Constants | None = None) -> float:
    """The model's ratio."""
    chip = each.chip if constants is None else _with(each.chip, constants)
    hot = each.weights == "hot"
    first, second = (predict(p, chip, mlx, load="chained", hot=hot).seconds for mlx, p in (each.first, each.second))
    return first / second


def crossover(each: Crossover, most: int = 64) -> int | None:
    """The model's crossover; None where the matrix-vector kernel is faster for every M."""
    for m in range(2, most):
        vector, matrix = both_sides(each.problem.with_m(m), each.chip, each.mlx)
        if matrix < vector:
            return m
    return None


def both_sides(problem: Problem, chip: SimulatedChip, mlx: str) -> tuple[float, float]:
    """The model's seconds of MLX's matrix-vector and matrix-matrix kernel, whatever its own limit says."""
    device = StockDevice("metal", chip.architecture, chip.cores, chip.nax)
    version = versions.parse(mlx)
    gap = chip.constants.launch_us * 1e-6
    vector, matrix = (
        sum(part(launch, chip, False, gap).seconds for launch in stock.of_kernel(kernel, problem, chip))
        for kernel in (qmv.kernel(problem, device, version), qmm.kernel(problem, device, version))
    )
    return vector, matrix


def _with(chip: SimulatedChip, constants: Constants) -> SimulatedChip:
    return replace(chip, constants=constants)


def _source(raw: Any, file: str) -> Source:
    where = f"{file}, {raw.get('id')}" if isinstance(raw, dict) else file
    check_keys(where, raw, (*KEYS, "note"), KEYS)
    for key, known in (("timing", TIMINGS), ("weights", WEIGHTS), ("role", (FIT, HELD_OUT, READ))):
        if raw[key] not in known:
            raise unknown(f"{key} in {where}:", str(raw[key]), known)
    for key in ("id", "url", "chip", "mlx"):
        if not isinstance(raw[key], str):
            raise UsageError(f"{where}: {key} {raw[key]!r} is no text", "put it in quotes")
    if not isinstance(raw["cores"], int) or isinstance(raw["cores"], bool):
        raise UsageError(f"{where}: cores {raw['cores']!r} is no whole number", "give the GPU's cores")
    if not isinstance(raw["rows"], list) or not raw["rows"]:
        raise UsageError(f"{where} has no rows", "give at least one, as [milliseconds, problem]")
    try:
        versions.parse(raw["mlx"])
        chip = chips.get(raw["chip"], raw["cores"])
        rows = tuple(_row(raw["id"], row) for row in raw["rows"])
    except UsageError as error:
        raise UsageError(f"{where}: {error.cause}", error.remedy) from None
    return Source(
        raw["id"], raw["url"], chip, raw["mlx"], raw["timing"], raw["weights"], raw["role"], rows, raw.get("note", "")
    )


def _row(source: str, raw: Any) -> Row:
    ms, *texts = raw if isinstance(raw, list) and raw else [None]
    number = isinstance(ms, (int, float)) and not isinstance(ms, bool) and 0 < ms < math.inf
    if not number or not texts or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"row {raw!r} is not understood", "write milliseconds, then the problems that took them")
    return Row(source, ms / 1e3, tuple(_term(text) for text in texts))


def _term(text: str) -> tuple[int, Problem]:
    count, cross, problem = text.partition(" x ")
    if not cross:
        return 1, Problem.parse(text)
    if not count.strip().isdecimal() or int(count) < 1:
        raise UsageError(f"{text!r} begins with no count", "such as 381 x PROBLEM")
    return int(count), Problem.parse(problem)


def _end(raw: dict[str, Any], text: str) -> tuple[str, Problem]:
    return raw["versions"][0], Problem.parse(text)
