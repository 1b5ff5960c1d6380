"""Tiled kernels as launches: MLX's steel GEMM, qmm and their NAX forms, and our ``gemm``, ``qmm``, ``gemm_nax`` and
``qmm_nax``.

A threadgroup computes a tile of C over a slice of K. Operands go through threadgroup memory, where a barrier separates
loading from multiplying, or straight to registers on the neural accelerators. Tiles are computed whole, beyond the
matrix's edge too.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...problem import DTYPES, Problem
from .chip import SimulatedChip
from .work import LANES, MATRIX, NAX, Launch, Task, resident

DIRECT_LOAD = 4
"""Elements that a lane loads at once where operands go straight to registers: assumed."""
DIRECT_STEP = 32
"""Elements of K that the NAX kernels load at once."""
LOOSE = 256
"""``bk`` from which simdgroups of a NAX kernel meet too seldom to stay in step."""
BASE_REGISTERS = 48
"""Registers for addresses and what is loaded ahead beside sums and operands: assumed."""


@dataclass(frozen=True)
class Tile:
    """A tiled kernel's choices: the tile, its simdgroups along M, N and K, slices of K, and how operands come in."""

    name: str
    bm: int
    bn: int
    bk: int
    wm: int
    wn: int
    wk: int = 1
    split: int = 1
    partition: int = 0
    unit: str = MATRIX
    staged_x: bool = True
    staged_w: bool = True
    stages: int = 1
    threadgroup_bytes: int = 0
    ragged: str = ""
    partial_item: int = 4

    @property
    def simdgroups(self) -> int:
        return self.wm * self.wn * self.wk


def launch(problem: Problem, t: Tile, chip: SimulatedChip) -> Launch:
    """The launch of a tiled kernel, without the reduction of its partial sums (:func:`reduction`)."""
    p, q, c = problem, problem.quantization, chip.constants
    item = DTYPES[p.dtype]
    tiles_m, tiles_n = -(-p.m // t.bm), -(-p.n // t.bn)
    groups = tiles_m * tiles_n * p.batch * t.split
    depth = min(t.partition or p.k, p.k)
    down, across = t.bm // t.wm, t.bn // t.wn
    staged = t.bm * t.staged_x + t.bn * t.staged_w
    direct = not staged
    # Without barriers, a simdgroup that lies wholly beyond M or N does nothing.
    rows, columns = (_whole(p.m, t.bm, down), _whole(p.n, t.bn, across)) if direct else (tiles_m * t.bm, tiles_n * t.bn)
    products = float(rows) * columns * p.k * p.batch
    share = rows * columns / (tiles_m * t.bm * tiles_n * t.bn)
    tiles = float(groups) * depth * share
    slowdown = _slowdown(p, t, chip, depth)
    load = c.fragment / (DIRECT_LOAD if direct else 1)
    tasks = [
        Task("multiplying", t.unit, products * slowdown),
        Task("loading", LANES, tiles * t.wm * t.wn * (down + across) * load),
    ]
    if staged:
        tasks.append(Task("staging", LANES, groups * float(depth) * staged * c.stage))
    if q:
        unpacking = c.unpack(q.mode, q.bits) * (c.nax_unpack if t.unit == NAX else 1.0)
        tasks.append(Task("unpacking", LANES, groups * float(depth) * t.bn * unpacking))
    out = p.m * p.n * p.batch * (item if t.split == 1 else t.partial_item * t.split)
    weight_item = p.weight_bytes / (p.n * p.k * p.batch)
    sums = down * across / 32 + (down + across) * item / 4
    return Launch(
        t.name,
        groups,
        t.simdgroups,
        resident(t.simdgroups, BASE_REGISTERS + sums, t.threadgroup_bytes),
        tuple(tasks),
        weights=p.weight_bytes,
        other=p.m * p.k * p.batch * item + out + _addend(p),
        written=out,
        requested=tiles * (t.bm * item + t.bn * weight_item),
        steps=-(-depth // (DIRECT_STEP if direct else t.bk)) / t.stages,
        direct=direct,
        sharp=direct,
    )


def reduction(problem: Problem, partial_bytes: float) -> Launch:
    """The kernel that adds up partial sums: it reads them and writes the result."""
    p = problem
    elements = p.m * p.n * p.batch
    item = DTYPES[p.dtype]
    return elementwise("reduction", elements, partial_bytes + elements * item + _addend(p))


def elementwise(name: str, elements: int, bytes_: float, operations: float = 4.0) -> Launch:
    """A kernel that does a few operations for each element: a cast, a copy, a sum of few."""
    groups = max(1, -(-elements // 1024))
    return Launch(
        name,
        groups,
        8,
        3,
        (Task("copying", LANES, elements * operations),),
        other=bytes_,
        written=bytes_ / 2,
        requested=bytes_,
    )


def _whole(size: int, tile: int, unit: int) -> int:
    """Rows or columns that are computed of ``size``: whole tiles, and of the last one whole units."""
    full, rest = divmod(size, tile)
    return full * tile + -(-rest // unit) * unit


def _addend(problem: Problem) -> float:
    rows = {"": 0, "row": 1, "full": problem.m}[problem.epilogue]
    return float(rows * problem.n * DTYPES[problem.dtype])


def _slowdown(p: Problem, t: Tile, chip: SimulatedChip, depth: int) -> float:
    """What slows the multiplying unit: edges, float32 on the accelerators, bfloat16 on chips that emulate it, and
    simdgroups that fall out of step along a deep K."""
    c = chip.constants
    edges = sum(1 for axis in t.ragged if {"M": p.m > t.bm, "N": p.n > t.bn, "K": True}[axis])
    factor = 1 + c.ragged * edges
    if t.unit == NAX:
        factor /= c.nax_float32 if p.dtype == "f32" else 1.0
        if t.bk >= LOOSE and not t.staged_w:
            factor *= 1 + c.drift * max(0.0, 1 - c.drift_k / depth)
    elif p.dtype == "bf16" and chip.generation < 15:
        factor *= c.emulated
    return factor
