"""``quantized_matmul`` on Metal.

``QuantizedMatmul::eval_gpu`` and what it calls in mlx/backend/metal/quantized.cpp; the kernels are in
kernels/quantized.h (affine), fp_quantized.h (the other modes) and their ``_nax`` siblings.
"""

from __future__ import annotations

from ..errors import UsageError
from ..problem import DTYPES, Problem, Quantization
from . import reduction
from .device import StockDevice
from .kernel import LANES, MATRIX_UNIT, NAX_UNIT, StockKernel, ceil_div, ragged
from .limits import metal_limit
from .operands import PACKED_TYPE_NAMES
from .versions import (
    MORE_MODES,
    OLDEST,
    ONE_BIT,
    QMM_NAX_SHORT,
    QMM_SPLITK,
    QMV_FAST_BY_BITS,
    QMV_NARROW,
    QMV_WIDE,
    QVM_BY_GROUP,
    QVM_SPLITK_ROUNDS_UP,
    SPLITK_FLOAT32,
    SPLITK_WHOLE_TILES,
    Version,
    show,
)

WIDE_ROWS = 5
"""Rows of x that qmv_wide holds in registers."""
SPLITK_THREADGROUPS = 512
"""Threadgroups that qmm_t_splitk aims for."""


def kernel(problem: Problem, device: StockDevice, version: Version) -> StockKernel:
    """Row by row below vector_limit, in tiles from there on. Raises :class:`UsageError` where the version has no
    kernels for the quantization."""
    _check(quantization(problem), version)
    tiled = problem.m >= metal_limit(device, problem.n, problem.k, problem.layout == "nt", version)
    if tiled:
        return _matrix(problem, device, version)
    if problem.layout == "nt":
        return _vector(problem, device, version)
    return _qvm(problem, version) if problem.k < 1024 else _qvm_split(problem, version)


def quantization(problem: Problem) -> Quantization:
    if problem.quantization is None:
        raise UsageError(f"{problem.op} has no quantized weights", "matmul and addmm have rules of their own")
    return problem.quantization


def _check(q: Quantization, version: Version) -> None:
    since = OLDEST
    if q.mode in ("mxfp8", "nvfp4"):
        since = MORE_MODES
    elif q.bits == 1:
        since = ONE_BIT
    if version < since:
        raise UsageError(f"MLX {show(version)} has no kernels for {q}", f"they came with {show(since)}")


def symbol(problem: Problem, function: str, rest: str = "") -> str:
    """A kernel's name as ``get_quantized_kernel_wrapped`` is given it."""
    q = quantization(problem)
    return f"{q.mode}_{function}_{PACKED_TYPE_NAMES[problem.dtype]}_gs_{q.group_size}_b_{q.bits}{rest}"


def _batched(problem: Problem) -> str:
    return f"_batch_{int(problem.batch > 1)}"


def _vector(problem: Problem, device: StockDevice, version: Version) -> StockKernel:
    """``dispatch_qmv``."""
    q = quantization(problem)
    if problem.k in (64, 128) and q.bits & (q.bits - 1) == 0:
        return _qmv_quad(problem)
    if problem.m >= 2 and version >= QMV_WIDE and (q.mode != "affine" or device.generation >= 15):
        return _qmv_wide(problem)
    return _qmv(problem, device, version)


def _lanes_kernel(
    problem: Problem,
    name: str,
    symbol: str,
    bn: int,
    bk: int,
    lanes: int,
    rows: int = 1,
    simdgroups: int = 2,
) -> StockKernel:
    """A matrix-vector kernel: ``rows`` rows and ``bn`` columns of C a threadgroup."""
    m, n, k = problem.m, problem.n, problem.k
    grid = (ceil_div(m, rows), ceil_div(n, bn), problem.batch)
    return StockKernel(
        name=name,
        symbol=symbol,
        unit=LANES,
        bm=rows,
        bn=bn,
        bk=bk,
        wm=1,
        wn=simdgroups,
        rows=rows,
        lanes=lanes,
        grid=grid,
        busy=grid[0] * grid[1] * grid[2],
        threads=32 * simdgroups,
        partition=k,
        ragged=ragged(m, n, k, rows, bn, bk),
    )


def _qmv_quad(problem: Problem) -> StockKernel:
    """``qmv_quad``: eight quads of lanes with eight columns each; K is 64 or 128."""
    name = symbol(problem, "qmv_quad", f"_d_{problem.k}{_batched(problem)}")
    return _lanes_kernel(problem, "qmv_quad", name, bn=64, bk=problem.k, lanes=4, simdgroups=1)


def _qmv_wide(problem: Problem) -> StockKernel:
    """``qmv_wide``: M spread evenly over as few tiles of at most five rows as hold it; each tile reads all weights."""
    tiles = ceil_div(problem.m, WIDE_ROWS)
    rows = ceil_div(problem.m, tiles)
    q = quantization(problem)
    lanes = 8 if q.mode == "affine" else 16
    name = symbol(problem, "qmv_wide", f"_nv_{rows}_kl_{lanes}{_batched(problem)}")
    return _lanes_kernel(problem, "qmv_wide", name, bn=2 * 32 // lanes, bk=lanes * q.group_size, lanes=lanes, rows=rows)


def _qmv(problem: Problem, device: StockDevice, version: Version) -> StockKernel:
    """``qmv``: two simdgroups with four columns each; every row of x reads all weights again."""
    q = quantization(problem)
    fast = problem.n % 8 == 0 and problem.k % fast_alignment(q.bits, version) == 0
    narrow = (
        fast
        and version >= QMV_NARROW
        and q.mode == "nvfp4"
        and problem.n >= 4096
        and device.generation == 17
        and device.letter == "s"
    )
    name = "qmv_fast" if fast else "qmv"
    full = symbol(problem, name, ("_r_2" if narrow else "") + _batched(problem))
    return _lanes_kernel(problem, name, full, bn=4 if narrow else 8, bk=values_per_step(q.bits), lanes=32)


def fast_alignment(bits: int, version: Version) -> int:
    """What K must be a multiple of for qmv_fast: ``qmv_fast_k_alignment``, 512 before 0.32.1. For one bit it is the 512
    that a comment in the kernel names."""
    return values_per_step(bits) if version >= QMV_FAST_BY_BITS and bits > 1 else 512


def values_per_step(bits: int) -> int:
    """Weights of one row that a simdgroup of qmv takes in one step: one pack a lane for 1 and 2 bits, else two. A pack
    is 32 bits, but for 3 and 5 bits (8 values) and 6 (4 values)."""
    pack = 8 if bits in (3, 5) else 4 if bits == 6 else 32 // bits
    return pack * (1 if bits <= 2 else 2) * 32


def _qvm(problem: Problem, version: Version) -> StockKernel:
    """``qvm``: each lane holds a row's weights for all columns of its simdgroup, and takes every 32nd row."""
    name = symbol(problem, "qvm", _batched(problem))
    return _lanes_kernel(problem, "qvm", name, bn=_qvm_columns(problem, version), bk=32, lanes=32)


def _qvm_columns(problem: Problem, version: Version) -> int:
    return 64 if version < QVM_BY_GROUP else 2 * min(quantization(problem).group_size, 32)


def _qvm_split(problem: Problem, version: Version) -> StockKernel:
    """``qvm_split_k``: partial sums in the dtype of x, then a reduction.

    Before 0.32.1 the last columns were left out where N is no multiple of a threadgroup's columns.
    """
    m, n, k, batch = problem.m, problem.n, problem.k, problem.batch
    parts = 32 if k > 8192 else 8
    bn = _qvm_columns(problem, version)
    across = ceil_div(n, bn) if version >= QVM_SPLITK_ROUNDS_UP else n // bn
    grid = (m, across, batch * parts)
    return StockKernel(
        name="qvm_split_k",
        symbol=symbol(problem, "qvm_split_k", f"_spk_{parts}"),
        unit=LANES,
        bm=1,
        bn=bn,
        bk=32,
        wm=1,
        wn=2,
        rows=1,
        lanes=32,
        grid=grid,
        busy=grid[0] * grid[1] * grid[2],
        threads=64,
        split_k=parts,
        partition=ceil_div(k, parts),
        launches=1 + reduction.launches(parts, batch * m * n),
        partial_bytes=parts * batch * m * n * DTYPES[problem.dtype],
        ragged=ragged(m, n, k, 1, bn, 32),
    )


def _matrix(problem: Problem, device: StockDevice, version: Version) -> StockKernel:
    """``qmm_splitk``, which hands over to ``qmm`` where no split of K is possible, and ``qmm``."""
    transposed = problem.layout == "nt"
    if transposed and problem.batch == 1 and version >= QMM_SPLITK:
        parts = _partitions(problem, version)
        if parts > 1:
            return _qmm_split(problem, parts, version)
    if transposed and problem.k % 64 == 0 and device.uses_nax(version, problem.dtype):
        return _qmm_nax(problem, version)
    return _qmm(problem)


def _partitions(problem: Problem, version: Version) -> int:
    """As many as reach 512 threadgroups, and fewer until each is a whole number of groups (and steps of 32)."""
    group = quantization(problem).group_size
    unit = max(group, 32) if version >= SPLITK_WHOLE_TILES else group
    parts = max(1, SPLITK_THREADGROUPS // (ceil_div(problem.n, 32) * ceil_div(problem.m, 32)))
    parts = min(parts, problem.k // unit)
    while parts > 1 and problem.k % (parts * unit):
        parts -= 1
    return parts


def _qmm_split(problem: Problem, parts: int, version: Version) -> StockKernel:
    """``qmm_t_splitk``: partial tiles in the dtype of x, in float32 from 0.32.4, then a reduction. It has no NAX
    version."""
    aligned = "true" if problem.n % 32 == 0 else "false"
    name = symbol(problem, "qmm_t_splitk", f"_alN_{aligned}")
    size = 4 if version >= SPLITK_FLOAT32 else DTYPES[problem.dtype]
    return _tiled(problem, "qmm_splitk", name, MATRIX_UNIT, (32, 32, 32), parts, size)


def _qmm(problem: Problem) -> StockKernel:
    """``qmm``: one tile for every shape and device."""
    transposed = problem.layout == "nt"
    aligned = ("_alN_true" if problem.n % 32 == 0 else "_alN_false") if transposed else ""
    name = symbol(problem, "qmm_t" if transposed else "qmm_n", aligned + _batched(problem))
    return _tiled(problem, "qmm", name, MATRIX_UNIT, (32, 32, 32))


def _qmm_nax(problem: Problem, version: Version) -> StockKernel:
    """``qmm_nax``: 32 rows where one tile holds all of M."""
    bm = 32 if problem.m <= 32 and version >= QMM_NAX_SHORT else 64
    aligned = "true" if problem.n % 64 == 0 else "false"
    name = symbol(problem, "qmm_t_nax", f"_bm{bm}_bn64_bk64_wm2_wn2_alN_{aligned}{_batched(problem)}")
    return _tiled(problem, "qmm_nax", name, NAX_UNIT, (bm, 64, 64))


def _tiled(
    problem: Problem,
    name: str,
    symbol: str,
    unit: str,
    tile: tuple[int, int, int],
    parts: int = 1,
    partial_size: int = 0,
) -> StockKernel:
    """A kernel in tiles: 2x2 simdgroups; dequantized weights, and x but on NAX, go through threadgroup memory.
    ``partial_size`` is the bytes of one partial result."""
    m, n, k = problem.m, problem.n, problem.k
    bm, bn, bk = tile
    grid = (ceil_div(n, bn), ceil_div(m, bm), problem.batch * parts)
    return StockKernel(
        name=name,
        symbol=symbol,
        unit=unit,
        bm=bm,
        bn=bn,
        bk=bk,
        wm=2,
        wn=2,
        rows=bm,
        lanes=1,
        grid=grid,
        busy=grid[0] * grid[1] * grid[2],
        threads=128,
        split_k=parts,
        partition=k // parts,
        launches=1 if parts == 1 else 1 + reduction.launches(parts, m * n),
        partial_bytes=parts * m * n * partial_size,
        threadgroup_bytes=_threadgroup_bytes(problem, unit, tile),
        ragged=ragged(m, n, k, bm, bn, bk),
    )


def _threadgroup_bytes(problem: Problem, unit: str, tile: tuple[int, int, int]) -> int:
    """Each row is padded by 16 bytes. The NAX kernels keep weights of the modes other than affine in bfloat16."""
    bm, bn, bk = tile
    size = DTYPES[problem.dtype]
    if unit == NAX_UNIT:
        size = size if quantization(problem).mode == "affine" else 2
        return size * bn * (bk + 16 // size)
    weights = bn * (bk + 16 // size) if problem.layout == "nt" else bk * (bn + 16 // size)
    return size * (bm * (bk + 16 // size) + weights)
