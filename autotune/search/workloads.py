"""Workloads: named lists of problems, in ``configs/workloads/*.yaml`` or in files of the user's.

A workload has groups (the same op, dtype and layout over shapes and M) and chains (products that feed one another,
which ``autotune bench`` times as one).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from .. import paths
from ..errors import UsageError, unknown
from ..problem import Problem, Quantization
from ..yamlfile import check_keys
from ..yamlfile import load as read

_TOP = ("name", "description", "sources", "groups", "chains")
_GROUP = ("op", "dtype", "layout", "quantization", "m", "shapes", "batch", "epilogue")
_SHAPE = ("label", "n", "k")
_CHAIN = ("label", "products")


@dataclass(frozen=True)
class Chain:
    """Products computed one after another, each result the next one's A."""

    label: str
    products: tuple[Problem, ...]


@dataclass(frozen=True)
class Workload:
    """``problems`` without repeats, those of the chains last; ``labels`` by problem's (N, K)."""

    name: str
    description: str
    problems: tuple[Problem, ...]
    chains: tuple[Chain, ...]
    labels: dict[tuple[int, int], str]


def names() -> list[str]:
    """The workloads that come with the project."""
    return sorted(path.stem for path in (paths.configs() / "workloads").glob("*.yaml"))


def load(name: str) -> Workload:
    """The workload of that name, or of that file where ``name`` ends in .yaml or .yml.

    Raises :class:`UsageError` for an unknown name, a missing file, or a key or value that is not understood.
    """
    if name.endswith((".yaml", ".yml")):
        return parse(Path(name).expanduser(), read(Path(name).expanduser()))
    if name not in names():
        raise unknown("workload", name, names())
    path = paths.configs() / "workloads" / f"{name}.yaml"
    return parse(path, read(path))


def parse(path: Path, content: dict[str, Any]) -> Workload:
    """A workload from its YAML content; ``path`` is for messages. Raises :class:`UsageError`."""
    where = path.name
    check_keys(where, content, _TOP, ("name", "groups"))
    problems: list[Problem] = []
    labels: dict[tuple[int, int], str] = {}
    for number, group in enumerate(_list(f"{where}: groups", content["groups"]), 1):
        at = f"{where}, group {number}"
        check_keys(at, group, _GROUP, ("op", "dtype", "m", "shapes"))
        for shape in _list(f"{at}: shapes", group["shapes"]):
            check_keys(f"{at}, shape", shape, _SHAPE, ("n", "k"))
            problems += [_problem(at, group, m, shape) for m in _ms(at, group["m"])]
            labels[shape["n"], shape["k"]] = str(shape.get("label", ""))
    chains = []
    for number, chain in enumerate(_list(f"{where}: chains", content.get("chains")), 1):
        at = f"{where}, chain {number}"
        check_keys(at, chain, _CHAIN, _CHAIN)
        chains.append(_chain(at, chain))
        problems += chains[-1].products
    if not problems:
        raise UsageError(f"{where} has no problems", "give it groups or chains")
    unique = tuple(dict.fromkeys(problems))
    return Workload(str(content["name"]), str(content.get("description", "")), unique, tuple(chains), labels)


def _list(at: str, value: Any) -> list[Any]:
    """A list, or nothing; raises :class:`UsageError` for anything else."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise UsageError(f"{at} must be a list", f"it is {value!r}")
    return value


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _ms(at: str, m: Any) -> list[int]:
    if not isinstance(m, list) or not all(_whole(each) and each > 0 for each in m):
        raise UsageError(f"{at}: m must be a list of numbers from 1 up", f"it is {m!r}")
    return m


def _problem(at: str, group: dict[str, Any], m: int, shape: dict[str, Any]) -> Problem:
    quantization, batch = group.get("quantization"), group.get("batch", 1)
    if not all(_whole(size) for size in (shape["n"], shape["k"], batch)):
        raise UsageError(f"{at}: sizes must be whole numbers", f"n={shape['n']!r}, k={shape['k']!r}, batch={batch!r}")
    try:
        return Problem(
            str(group["op"]),
            m,
            shape["n"],
            shape["k"],
            str(group["dtype"]),
            str(group.get("layout", "nt")),
            Quantization.parse(str(quantization)) if quantization else None,
            batch,
            str(group.get("epilogue", "row" if group["op"] == "addmm" else "")),
        )
    except UsageError as error:
        raise UsageError(f"{at}: {error.cause}", error.remedy) from None


def _chain(at: str, chain: dict[str, Any]) -> Chain:
    try:
        products = tuple(Problem.parse(str(text)) for text in _list(f"{at}: products", chain["products"]))
    except UsageError as error:
        raise UsageError(error.cause if error.cause.startswith(at) else f"{at}: {error.cause}", error.remedy) from None
    if not products:
        raise UsageError(f"{at} has no products", "name at least one")
    for before, after in pairwise(products):
        if (before.m, before.n, before.batch) != (after.m, after.k, after.batch):
            raise UsageError(f"{at}: {before} does not feed {after}", "M and N of one must be M and K of the next")
    return Chain(str(chain["label"]), products)
