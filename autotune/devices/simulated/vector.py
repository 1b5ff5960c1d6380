"""Matrix-vector kernels as launches: MLX's gemv, qmv and their wide forms, and our ``gemv`` and ``qmv``.

They read the weights once for each pass of a few rows. The arithmetic of a pass is unpacking each weight once and
multiplying it with every row of the pass; where a pass has one row, each row unpacks again.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...problem import DTYPES, Problem
from .chip import Constants
from .work import LANES, Launch, Task, resident

SPARE_REGISTERS = 40
"""Registers for addresses, scales and unpacking beside the values of x and the sums: assumed."""
VECTOR_LOAD = 4
"""Elements of dense weights that a lane loads at once: assumed."""


@dataclass(frozen=True)
class Vector:
    """How a matrix-vector kernel divides a product.

    ``rows`` of x share a pass over the weights; a lane has ``columns`` of C, which share its loads of x; ``lanes``
    threads share a sum over ``depth`` elements of K a step; ``groups`` threadgroups of ``simdgroups`` have ``width``
    columns each, and ``split`` simdgroups of them share K. ``unit`` multiplies: the lanes, or the matrix unit, to
    which a simdgroup then brings ``columns`` of C at once.
    """

    name: str
    rows: int
    columns: int
    width: int
    depth: int
    simdgroups: int
    split: int = 1
    partitions: int = 1
    staged: bool = False
    unit: str = LANES
    registers: float = SPARE_REGISTERS
    threadgroup_bytes: int = 0


def launch(problem: Problem, v: Vector, c: Constants) -> Launch:
    """The launch of a matrix-vector kernel; ``partitions`` of K in threadgroups of their own write float32 sums."""
    p, q = problem, problem.quantization
    item = DTYPES[p.dtype]
    passes, across = -(-p.m // v.rows), -(-p.n // v.width)
    share = -(-p.k // (v.partitions * v.split))
    steps = max(1, -(-share // v.depth))
    depth = steps * v.depth * v.split * v.partitions
    weights = float(across * v.width * min(depth, _padded(p.k, 32)) * p.batch)
    rows = passes * v.rows
    groups = passes * across * p.batch * v.partitions
    loading = (c.load_x if v.unit == LANES else c.fragment) / v.columns
    loading += 0.0 if q else c.load_x / VECTOR_LOAD / v.rows
    multiplying = rows * weights * (c.multiply if v.unit == LANES else 1.0)
    tasks = [Task("multiplying", v.unit, multiplying), Task("loading", LANES, rows * weights * loading)]
    if q:
        tasks.insert(0, Task("unpacking", LANES, passes * weights * c.unpack(q.mode, q.bits)))
    out = p.m * p.n * p.batch * (item if v.partitions == 1 else 4 * v.partitions)
    return Launch(
        v.name,
        groups,
        v.simdgroups,
        resident(v.simdgroups, v.registers, v.threadgroup_bytes),
        tuple(tasks),
        weights=p.weight_bytes,
        other=p.m * p.k * p.batch * item + out,
        written=out,
        requested=float(passes) * p.weight_bytes + float(groups) * v.rows * share * v.split * item,
        steps=steps,
        direct=not v.staged,
    )


def _padded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
