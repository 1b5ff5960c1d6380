"""``quantized_matmul`` on CUDA: which kernel, and its blocks.

``QuantizedMatmul::eval_gpu`` in mlx/backend/cuda/quantized/quantized.cpp and the files of qmm/ beside it, at commit
846d1762 (0.32.2); older versions are taken to be like it. A threadgroup is a block here, and a simdgroup a warp.
"""

from __future__ import annotations

from math import prod

from ..errors import UsageError
from ..problem import Problem
from .device import StockDevice
from .kernel import LANES, StockKernel, ceil_div, ragged

TENSOR_CORES = "tensor_cores"
"""What multiplies in the kernels in tiles; float32 and the devices before sm_80 excepted."""


def kernel(problem: Problem, device: StockDevice) -> StockKernel:
    """The first kernel in MLX's order that takes the problem: a group of 16 or more always leaves one that does."""
    if problem.quantization is None:
        raise UsageError("dense products on CUDA are cuBLAS's to decide", "only quantized_matmul has rules here")
    major = compute_capability(device.architecture)
    rows = problem.m * problem.batch
    vector = _vector_kernel(problem, major)
    if _takes_sm90(problem, major):
        short = rows == 1 and max(problem.n, problem.k) <= 16384
        return _vector(problem, vector) if vector and short else _sm90(problem)
    name = "qmm_sm80" if _takes_sm80(problem, major) else "qmm_naive" if _takes_naive(problem) else ""
    if vector and (rows < 8 or not name):
        return _vector(problem, vector)
    return _tiled(problem, name, major)


def compute_capability(architecture: str) -> int:
    """9 for ``sm_90``, 12 for ``sm_120``: the major number. 0 where it cannot be read."""
    digits = architecture.removeprefix("sm_").rstrip("abcdefghijklmnopqrstuvwxyz")
    return int(digits[:-1]) if digits[:-1].isdecimal() else 0


def _vector_kernel(problem: Problem, major: int) -> str:
    """fp_qmv for the modes other than affine on sm_100 and later, up to 8 rows; else qmv; empty for weights that are
    not transposed, which neither takes."""
    if problem.layout != "nt":
        return ""
    if major > 9 and problem.quantization and problem.quantization.mode != "affine" and problem.m <= 8:
        return "fp_qmv"
    return "qmv"


def _takes_sm90(problem: Problem, major: int) -> bool:
    q = problem.quantization
    return (
        q is not None
        and major == 9
        and problem.n % 4 == 0
        and problem.k % 64 == 0
        and problem.layout == "nt"
        and q.mode == "affine"
        and q.bits in (4, 8)
        and q.group_size >= problem.k
    )


def _takes_sm80(problem: Problem, major: int) -> bool:
    q = problem.quantization
    return (
        q is not None
        and major >= 8
        and problem.n % 128 == 0
        and problem.k % max(64, q.group_size) == 0
        and problem.dtype != "f32"
        and problem.layout == "nt"
        and q.bits in (4, 8)
    )


def _takes_naive(problem: Problem) -> bool:
    q = problem.quantization
    return q is not None and (problem.layout != "nt" or problem.k % max(64, q.group_size) == 0)


def _vector(problem: Problem, name: str) -> StockKernel:
    """A warp an output, eight to a block; every row of x reads all weights again."""
    m, n, k, batch = problem.m, problem.n, problem.k, problem.batch
    bits = problem.quantization.bits if problem.quantization else 0
    step = 32 * (16 if problem.dtype != "f32" and bits <= 4 else 8)
    grid = (ceil_div(n, 8), m, batch) if name == "qmv" else (m, ceil_div(n, 8), batch)
    return _kernel(problem, name, LANES, (1, 8, step), grid, 256, lanes=32, wn=8, ragged=ragged(m, n, k, 1, 8, step))


def _tiled(problem: Problem, name: str, major: int) -> StockKernel:
    """``make_cta_tiler`` of qmm_sm80.cu and qmm_naive.cu: the rows follow M from 16 to 64, K follows the group."""
    m, n, k, batch = problem.m, problem.n, problem.k, problem.batch
    group = problem.quantization.group_size if problem.quantization else 0
    bm = max(16, min(64, 1 << (m - 1).bit_length()))
    narrow = name == "qmm_naive" and (major < 8 or problem.dtype == "f32" or group > 64)
    bn, bk = (64 if narrow else 128), max(64, group)
    unit = LANES if major < 8 or problem.dtype == "f32" else TENSOR_CORES
    grid = (ceil_div(m, bm), ceil_div(n, bn), batch)
    return _kernel(problem, name, unit, (bm, bn, bk), grid, 0, ragged=ragged(m, n, k, bm, bn, bk))


def _sm90(problem: Problem) -> StockKernel:
    """``dispatch_tile`` of qmm_sm90.cu, which makes C as its transpose: 128 of its columns a block, and rows by a rule
    on N. Scales and biases are copied, transposed, in each call."""
    m, n, k, batch = problem.m, problem.n, problem.k, problem.batch
    bm = next((rows for rows in (16, 32, 64, 128) if n <= rows), 256)
    shape = (bm, 128, 64)
    grid = (ceil_div(n, 128), ceil_div(m, bm), batch)
    return _kernel(problem, "qmm_sm90", TENSOR_CORES, shape, grid, 0, launches=3, ragged=ragged(m, n, k, *shape))


def _kernel(
    problem: Problem,
    name: str,
    unit: str,
    tile: tuple[int, int, int],
    grid: tuple[int, int, int],
    threads: int,
    lanes: int = 1,
    wn: int = 1,
    launches: int = 1,
    ragged: str = "",
) -> StockKernel:
    bm, bn, bk = tile
    return StockKernel(
        name=name,
        symbol="",
        unit=unit,
        bm=bm,
        bn=bn,
        bk=bk,
        wm=1,
        wn=wn,
        rows=bm,
        lanes=lanes,
        grid=grid,
        busy=prod(grid),
        threads=threads,
        partition=problem.k,
        launches=launches,
        ragged=ragged,
    )
