"""Writes workloads: files of their own, and what is added to a file that people have edited.

What stands in a file stays as it is, comments and all: new groups go below its last one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .. import paths
from ..errors import AutotuneError, UsageError
from ..problem import Family, Problem
from ..yamlfile import load as read
from . import workloads

_SUFFIXES = (".yaml", ".yml")


def demand(path: Path) -> None:
    """Raises :class:`UsageError` where problems cannot be added to ``path``: its name is none of a workload's file, its
    folder cannot be written, or what is there is no workload."""
    if path.suffix not in _SUFFIXES:
        raise UsageError(f"{path} is not named as a workload's file", f"end it in {' or '.join(_SUFFIXES)}")
    folder = path.resolve().parent
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise UsageError(f"{path} cannot be written there", "name a folder that exists and is yours")
    if path.exists():
        try:
            workloads.parse(path, read(path))
        except UsageError as error:
            raise UsageError(
                f"{path} is no workload that could be added to ({error.cause})", "mend it or name a new file"
            ) from None


def add(path: Path, calls: Mapping[Problem, int], description: str) -> int:
    """Adds the problems that the file does not have yet, with their numbers of calls as comments, and returns how many
    those are. Makes the file, with this description, where there is none; writes nothing where nothing is new.

    A dense problem with layout ``nt`` is there if it stands there as ``nn``: what is recorded does not know its layout,
    and whoever edits the file may. Raises :class:`UsageError` where the file is no workload, :class:`AutotuneError`
    where it cannot be written; then the file is as it was.
    """
    path = path.resolve()
    before = workloads.parse(path, content := read(path)) if path.exists() else None
    known = set(before.problems) if before else set()
    fresh = {problem: number for problem, number in calls.items() if not _there(problem, known)}
    if not fresh:
        return 0
    if before is None:
        head = f"name: {json.dumps(path.stem)}\ndescription: {json.dumps(description)}\ngroups:\n"
        text = head + _groups(fresh, "  ")
    else:
        text = _inserted(path.read_text("utf-8"), fresh)
        if not _holds(path, text, {*known, *fresh}, before):
            text = _anew(content, fresh)
    try:
        paths.put_whole(path, lambda at: at.write_text(text, "utf-8"))
    except OSError as error:
        raise AutotuneError(f"cannot write {path} ({error.strerror})", "name another file") from None
    return len(fresh)


def _there(problem: Problem, known: set[Problem]) -> bool:
    dense = problem.quantization is None
    return problem in known or (dense and problem.with_layout("nn") in known)


def _groups(calls: Mapping[Problem, int], indent: str) -> str:
    """Groups of the shapes that have the same M, in order, each line with this indent."""
    ms: dict[Family, list[int]] = {}
    for problem in sorted(calls, key=lambda each: (each.family, each.m)):
        ms.setdefault(problem.family, []).append(problem.m)
    groups: dict[tuple[Any, ...], list[Family]] = {}
    for family, of_m in ms.items():
        like = (family.op, family.dtype, family.quantization, family.layout, family.batch, family.epilogue)
        groups.setdefault((*like, tuple(of_m)), []).append(family)
    lines = []
    for (op, dtype, quantization, layout, batch, epilogue, of_m), families in groups.items():
        keys = {
            "op": op,
            "dtype": dtype,
            "quantization": quantization,
            "layout": layout,
            "batch": batch if batch > 1 else "",
            "epilogue": epilogue,
            "m": list(of_m),
        }
        written = [f"{key}: {value}" for key, value in keys.items() if value]
        lines += [f"{'  ' if number else '- '}{line}" for number, line in enumerate(written)]
        lines.append("  shapes:")
        for family in families:
            counts = ", ".join(f"{calls[family.at(m)]} at M={m}" for m in of_m)
            lines.append(f"    - {{n: {family.n}, k: {family.k}}}  # calls: {counts}")
    return "".join(f"{indent}{line}\n" for line in lines)


def _inserted(text: str, calls: Mapping[Problem, int]) -> str:
    """The file's text with more groups below its last one; the text itself where they are not written as a list."""
    top: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    groups = next(value for key, value in top.value if key.value == "groups")
    if not isinstance(groups, yaml.SequenceNode) or groups.flow_style:
        return text
    lines = text.splitlines(keepends=True)
    at = _end(groups)
    while at < len(lines) and lines[at].startswith(" ") and lines[at].lstrip().startswith("#"):
        at += 1  # a comment that is indented belongs to the group above it
    head = "".join(lines[:at])
    if not head.endswith("\n"):
        head += "\n"
    return head + _groups(calls, " " * groups.start_mark.column) + "".join(lines[at:])


def _end(node: Any) -> int:
    """The number of the first line below the node, which YAML itself lets go on to the next key."""
    while not isinstance(node, yaml.ScalarNode) and not node.flow_style:
        last = node.value[-1]
        node = last[1] if isinstance(node, yaml.MappingNode) else last
    mark = node.end_mark
    return int(mark.line + (1 if mark.column else 0))


def _anew(content: dict[str, Any], calls: Mapping[Problem, int]) -> str:
    """The file's content and more groups, written anew: its comments are lost, and nothing else."""
    more = yaml.safe_load(_groups(calls, ""))
    whole = {**content, "groups": [*(content["groups"] or []), *more]}
    return str(yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=120))


def _holds(path: Path, text: str, wanted: set[Problem], before: workloads.Workload) -> bool:
    """Whether the text is a workload of these problems, and what was there is there."""
    try:
        now = workloads.parse(path, yaml.safe_load(text))
    except (UsageError, yaml.YAMLError):
        return False
    return set(now.problems) == wanted and (now.name, now.chains) == (before.name, before.chains)
