"""Writes workloads: files of their own, and what is added to a file that people have edited.

What stands in a file stays as it is, comments, line endings and mode: new groups go below its last one. Processes that
add to one file do so one after the other.

A recording calls this when its program ends, by a signal too. So it imports nothing late, and takes no lock that the
program may hold (``tempfile`` has one).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

import yaml

from .. import paths
from ..errors import AutotuneError, UsageError
from ..problem import Family, Problem
from ..yamlfile import load as read
from . import workloads

_SUFFIXES = (".yaml", ".yml")
_PATIENCE = 10.0
"""Seconds to wait for another process that adds to the same file, which takes milliseconds unless it is stopped."""


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
    A dense problem with layout ``nt`` is there if it stands there as ``nn``: what is recorded does not know its layout,
    and whoever edits the file may. Raises :class:`UsageError` where the file is no workload, :class:`AutotuneError`
    where it cannot be written or another process keeps it locked for ten seconds; then the file is as it was.
    """
    path = path.resolve()
    try:
        with _locked(path):
            return _add(path, calls, description)
    except OSError as error:
        raise AutotuneError(f"cannot write {path} ({error.strerror})", "name another file") from None


def _add(path: Path, calls: Mapping[Problem, int], description: str) -> int:
    before = workloads.parse(path, content := read(path)) if path.exists() else None
    known = set(before.problems) if before else set()
    fresh = {problem: number for problem, number in calls.items() if not _there(problem, known)}
    if not fresh:
        return 0
    if before is None:
        head = f"name: {_quoted(path.stem)}\ndescription: {_quoted(description)}\ngroups:\n"
        text = head + _groups(fresh, "  ")
    else:
        old = path.read_bytes().decode("utf-8")  # read_text would make every line ending a \n
        ending = "\r\n" if "\r\n" in old else "\n"
        text = _inserted(old, fresh, ending)
        if not _holds(path, text, {*known, *fresh}, before):
            text = _anew(content, fresh, ending)
    _put(path, text)
    return len(fresh)


def _put(path: Path, text: str) -> None:
    """Puts the text in place of the file, with the file's mode. Raises :class:`OSError`."""

    def make(fresh: Path) -> None:
        fresh.write_bytes(text.encode("utf-8"))
        with contextlib.suppress(FileNotFoundError):
            fresh.chmod(stat.S_IMODE(path.stat().st_mode))

    paths.put_whole(path, make)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Nobody else adds to the file meanwhile. The lock is a file beside it, which goes again with its last holder: the
    file itself will not do, since it is replaced. Raises :class:`OSError`, :class:`AutotuneError` where the wait is
    long."""
    lock = path.with_name(f".{path.name}.lock")
    until = time.monotonic() + _PATIENCE
    while (held := _held(lock)) is None:
        if time.monotonic() > until:
            raise AutotuneError(f"another process keeps {path} locked", "name another file")
        time.sleep(0.01)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)  # while it is held: who has opened it sees that it is gone, and opens a new one
        os.close(held)


def _held(lock: Path) -> Optional[int]:
    """The descriptor of the lock file, locked; None where another process has it."""
    opened = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(opened), os.stat(lock)):
            return opened
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        return opened  # this file system has no locks: without one is as good as it gets
    os.close(opened)
    return None


def _quoted(text: str) -> str:
    """The text as YAML's double-quoted, which has JSON's escapes but takes each ``\\u`` for a character of its own: no
    pairs of surrogates. What cannot be printed YAML refuses unescaped, and UTF-8 has no lone surrogates."""
    return "".join(
        each if each.isprintable() else f"\\U{ord(each):08x}" if ord(each) > 0xFFFF else f"\\u{ord(each):04x}"
        for each in json.dumps(text, ensure_ascii=False)
    )


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


def _inserted(text: str, calls: Mapping[Problem, int], ending: str) -> str:
    """The file's text with more groups below its last one; the text itself where they are not written as a list."""
    top: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    groups = next(value for key, value in top.value if key.value == "groups")
    if not isinstance(groups, yaml.SequenceNode) or groups.flow_style:
        return text
    lines = text.splitlines(keepends=True)
    at = _end(text, groups.end_mark.index)
    while at < len(lines) and lines[at].startswith(" ") and lines[at].lstrip().startswith("#"):
        at += 1  # a comment that is indented belongs to the group above it
    head = "".join(lines[:at])
    if not head.endswith("\n"):
        head += ending
    more = _groups(calls, " " * groups.start_mark.column).replace("\n", ending)
    return head + more + "".join(lines[at:])


def _end(text: str, until: int) -> int:
    """The number of the first line below what is written before this index. YAML's own ends of lists and mappings are
    where the next key begins; nodes will not do either, since an alias is the node that it names, far above."""
    flows: list[Any] = []
    line = 0
    event: Any
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if event.start_mark.index >= until:
            break
        if isinstance(event, yaml.CollectionStartEvent):
            flows.append(event.flow_style)
        closes_flow = isinstance(event, yaml.CollectionEndEvent) and flows.pop()
        if closes_flow or isinstance(event, (yaml.ScalarEvent, yaml.AliasEvent)):
            line = event.end_mark.line + (1 if event.end_mark.column else 0)
    return line


def _anew(content: dict[str, Any], calls: Mapping[Problem, int], ending: str) -> str:
    """The file's content and more groups, written anew: its comments are lost, and nothing else."""
    more = yaml.safe_load(_groups(calls, ""))
    whole = {**content, "groups": [*(content["groups"] or []), *more]}
    return str(yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=120, line_break=ending))


def _holds(path: Path, text: str, wanted: set[Problem], before: workloads.Workload) -> bool:
    """Whether the text is a workload of these problems, and what was there is there."""
    try:
        now = workloads.parse(path, yaml.safe_load(text))
    except (UsageError, yaml.YAMLError):
        return False
    return set(now.problems) == wanted and (now.name, now.chains) == (before.name, before.chains)
