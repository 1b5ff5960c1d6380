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
    """A workload from its YAML content; ``path`` is for messages."""
    where = path.name
    check_keys(where, content, _TOP, ("name", "groups"))
    problems: list[Problem] = []
    labels: dict[tuple[int, int], str] = {}
    for number, group in enumerate(content["groups"] or (), 1):
        at = f"{where}, group {number}"
        check_keys(at, group, _GROUP, ("op", "dtype", "m", "shapes"))
        for shape in group["shapes"]:
            check_keys(f"{at}, shape", shape, _SHAPE, ("n", "k"))
            labels[shape["n"], shape["k"]] = str(shape.get("label", ""))
            problems += [_problem(at, group, m, shape) for m in _list(at, group["m"])]
    chains = []
    for number, chain in enumerate(content.get("chains") or (), 1):
        at = f"{where}, chain {number}"
        check_keys(at, chain, _CHAIN, _CHAIN)
        chains.append(_chain(at, chain))
        problems += chains[-1].products
    if not problems:
        raise UsageError(f"{where} has no problems", "give it groups or chains")
    unique = tuple(dict.fromkeys(problems))
    return Workload(str(content["name"]), str(content.get("description", "")), unique, tuple(chains), labels)


def _list(at: str, m: Any) -> list[int]:
    if not isinstance(m, list) or not all(isinstance(each, int) and each > 0 for each in m):
        raise UsageError(f"{at}: m must be a list of numbers from 1 up", f"it is {m!r}")
    return m


def _problem(at: str, group: dict[str, Any], m: int, shape: dict[str, Any]) -> Problem:
    quantization = group.get("quantization")
    try:
        return Problem(
            group["op"],
            m,
            shape["n"],
            shape["k"],
            group["dtype"],
            group.get("layout", "nt"),
            Quantization.parse(quantization) if quantization else None,
            group.get("batch", 1),
            group.get("epilogue", "row" if group["op"] == "addmm" else ""),
        )
    except UsageError as error:
        raise UsageError(f"{at}: {error.cause}", error.remedy) from None
    except TypeError:
        raise UsageError(f"{at}: sizes must be numbers", f"shape {shape}") from None


def _chain(at: str, chain: dict[str, Any]) -> Chain:
    products = tuple(Problem.parse(text) for text in chain["products"])
    for before, after in pairwise(products):
        if (before.m, before.n, before.batch) != (after.m, after.k, after.batch):
            raise UsageError(f"{at}: {before} does not feed {after}", "M and N of one must be M and K of the next")
    return Chain(str(chain["label"]), products)
