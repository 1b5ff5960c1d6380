"""``quantized_matmul`` on Metal: ``QuantizedMatmul::eval_gpu`` in mlx/backend/metal/quantized.cpp."""

from __future__ import annotations

from ..problem import Problem
from . import packed, qmm, qmv, qvm
from .device import StockDevice
from .kernel import StockKernel
from .limits import metal_limit
from .versions import Version


def kernel(problem: Problem, device: StockDevice, version: Version) -> StockKernel:
    """Row by row below vector_limit, in tiles from there on. Raises :class:`UsageError` where the version has no
    kernels for the quantization."""
    packed.check(packed.quantization(problem), version)
    transposed = problem.layout == "nt"
    if problem.m >= metal_limit(device, problem.n, problem.k, transposed, version):
        return qmm.kernel(problem, device, version)
    if transposed:
        return qmv.kernel(problem, device, version)
    return qvm.kernel(problem, version)
