"""Our own Metal kernels as launches: their configs in the words of ``vector`` and ``tiled``.

Nothing here was fitted to these kernels, which were never timed on Metal: they are taken to spend on each operation
what MLX's kernels spend on it.
"""

from __future__ import annotations

from collections.abc import Callable

from ...errors import UsageError
from ...kernels import KERNELS, Route, qmv_mma
from ...kernels import qmv as qmv_
from ...kernels.family import LANES as SIMD_WIDTH
from ...kernels.family import tiles as steps_of
from ...problem import DTYPES, Problem
from . import tiled, vector
from .chip import SimulatedChip
from .work import MATRIX, NAX, Launch


def launches(problem: Problem, chip: SimulatedChip, route: Route) -> list[Launch]:
    """What a call launches: the kernel, and a reduction where threadgroups share K.

    Raises :class:`UsageError` for a kernel that needs neural accelerators on a chip without.
    """
    if KERNELS[route.kernel].nax and not chip.nax:
        raise UsageError(
            f"{chip.name} has no neural accelerators that {route.kernel} could run on", "take another kernel"
        )
    return BY_NAME[route.kernel](problem, chip, route)


def _qmv(problem: Problem, chip: SimulatedChip, route: Route) -> list[Launch]:
    v, rows, simdgroups, split, values, stage = _numbers(route, "v", "rows", "simdgroups", "split", "values", "stage")
    assert problem.quantization is not None
    staged = 4 * v * split * values * SIMD_WIDTH if stage else 0
    shape = vector.Vector(
        "qmv",
        v,
        rows,
        rows * (simdgroups // split),
        SIMD_WIDTH * values,
        simdgroups,
        split,
        staged=bool(stage),
        registers=vector.SPARE_REGISTERS + qmv_.registers(route.config, problem.quantization.bits),
        threadgroup_bytes=staged + (4 * simdgroups * v * rows if split > 1 else 0),
    )
    return [vector.launch(problem, shape, chip.constants)]


def _qmv_mma(problem: Problem, chip: SimulatedChip, route: Route) -> list[Launch]:
    v, rows, simdgroups, split, flight = _numbers(route, "v", "rows", "simdgroups", "split", "flight")
    q = problem.quantization
    assert q is not None
    shape = vector.Vector(
        "qmv_mma",
        v,
        rows,
        rows * (simdgroups // split),
        flight * q.group_size,
        simdgroups,
        split,
        unit=MATRIX,
        registers=vector.SPARE_REGISTERS + qmv_mma.registers(route.config, q.group_size, q.bits),
        threadgroup_bytes=4 * simdgroups * v * rows if split > 1 else 0,
    )
    return [vector.launch(problem, shape, chip.constants)]


def _gemv(problem: Problem, chip: SimulatedChip, route: Route) -> list[Launch]:
    v, outputs, simdgroups, split, values, lanes = _numbers(
        route, "v", "outputs", "simdgroups", "split", "values", "lanes"
    )
    along_k = problem.layout[1] == "t"
    shape = vector.Vector(
        "gemv",
        v,
        outputs,
        outputs * (1 if along_k else lanes) * (simdgroups // split),
        values * (SIMD_WIDTH if along_k else SIMD_WIDTH // lanes),
        simdgroups,
        split,
        registers=vector.SPARE_REGISTERS + v * (values + outputs) + values,
        threadgroup_bytes=4 * simdgroups * v * outputs * lanes if split > 1 else 0,
    )
    return [vector.launch(problem, shape, chip.constants)]


def _gemm(problem: Problem, chip: SimulatedChip, route: Route) -> list[Launch]:
    config = route.config
    memory = KERNELS["gemm"].threadgroup_bytes(config, DTYPES[problem.dtype])  # type: ignore[attr-defined]
    return _tiles(problem, chip, route, threadgroup_bytes=memory, stages=int(config["stages"]))


def _qmm(problem: Problem, chip: SimulatedChip, route: Route) -> list[Launch]:
    config, item = route.config, DTYPES[problem.dtype]
    memory = KERNELS["qmm"].threadgroup_bytes(config, item, problem.layout)  # type: ignore[attr-defined]
    return _tiles(problem, chip, route, threadgroup_bytes=memory, stages=int(config["stages"]))


def _gemm_nax(problem: Problem, chip: SimulatedChip, route: Route) -> list[Launch]:
    return _tiles(problem, chip, route, unit=NAX, staged_x=False, staged_w=False)


def _qmm_nax(problem: Problem, chip: SimulatedChip, route: Route) -> list[Launch]:
    config = route.config
    memory = KERNELS["qmm_nax"].threadgroup_bytes(config)  # type: ignore[attr-defined]
    return _tiles(
        problem, chip, route, unit=NAX, staged_x=False, threadgroup_bytes=memory, stages=int(config["stages"])
    )


def _tiles(problem: Problem, chip: SimulatedChip, route: Route, **rest: object) -> list[Launch]:
    bm, bn, bk, wm, wn, split = _numbers(route, "bm", "bn", "bk", "wm", "wn", "split_k")
    wk = int(route.config.get("wk", 1))
    partition = steps_of(problem.k, split * bk) * bk
    edges = "".join(
        axis for axis, size, tile in zip("MNK", (problem.m, problem.n, problem.k), (bm, bn, bk)) if size % tile
    )
    tile = tiled.Tile(
        route.kernel,
        bm,
        bn,
        bk,
        wm,
        wn,
        wk,
        split=split,
        partition=partition,
        ragged=edges,
        **rest,  # type: ignore[arg-type]
    )
    found = [tiled.launch(problem, tile, chip)]
    if split > 1:
        found.append(tiled.reduction(problem, 4.0 * split * problem.m * problem.n * problem.batch))
    return found


def _numbers(route: Route, *names: str) -> list[int]:
    config = route.config
    return [int(config[name]) for name in names]


BY_NAME: dict[str, Callable[[Problem, SimulatedChip, Route], list[Launch]]] = {
    "qmv": _qmv,
    "qmv_mma": _qmv_mma,
    "gemv": _gemv,
    "gemm": _gemm,
    "qmm": _qmm,
    "gemm_nax": _gemm_nax,
    "qmm_nax": _qmm_nax,
}
