"""What a command's options select: a device, problems, a length of time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import UnfitError, UsageError, unknown

if TYPE_CHECKING:
    from ..problem import Problem


def device_kind(device: str, chip: str = "") -> str:
    """``gpu`` or ``cpu``: as asked, as the chip implies, or MLX's default. Raises :class:`UnfitError` if not there."""
    from .. import machine

    if device and device not in ("gpu", "cpu"):
        raise unknown("device", device, ("gpu", "cpu"))
    if device == "gpu" and chip == "cpu":
        raise UsageError("--chip cpu is no gpu", "leave --device out")
    kind = device or ("cpu" if chip == "cpu" else machine.default_kind())
    if not machine.has(kind):
        raise UnfitError(f"this MLX build has no {kind}", "use --device cpu, or install mlx with cuda12 or cuda13")
    return kind


def chosen_problems(
    workloads_: list[str],
    problems: list[str],
    ops: list[str],
    kind: str,
    quick: bool,
    ms: Sequence[int] = (),
) -> tuple[Problem, ...]:
    """The problems that the options name, without repeats, those of one family together and by M."""
    from ..problem import OPS, Problem
    from ..search import workloads

    for op in ops:
        if op not in OPS:
            raise unknown("op", op, OPS)
    if not workloads_ and not problems:
        workloads_ = ["quick" if quick or kind == "cpu" else "small-batch"]
    found = [each for name in workloads_ for each in workloads.load(name).problems]
    found += [Problem.parse(text) for text in problems]
    kept = [each for each in dict.fromkeys(found) if (not ops or each.op in ops) and (not ms or each.m in ms)]
    if not kept:
        asked = " ".join([*(f"--op {op}" for op in ops), *(f"--m {m}" for m in ms)])
        raise UsageError(f"no problem is left with {asked}", "choose another op, M or workload")
    order = {family: number for number, family in enumerate(dict.fromkeys(each.family for each in kept))}
    return tuple(sorted(kept, key=lambda each: (order[each.family], each.m)))


def seconds(text: str) -> float:
    """``90s``, ``20m``, ``2h`` or a number of seconds; 0 for an empty text. Raises :class:`UsageError`."""
    if not text:
        return 0.0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h|)", text.strip().lower())
    if not match:
        raise UsageError(f"budget {text!r} is no length of time", "such as 90s, 20m or 2h")
    found = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]
    if not found:
        raise UsageError(f"budget {text!r} leaves no time", "such as 90s, 20m or 2h, or leave it out")
    return found
