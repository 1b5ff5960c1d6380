"""Rules that MLX has compiled in: which of its own kernels a stock call takes, version by version.

:func:`stock_kernel` answers for a whole problem: the kernel, its tile, its grid and the traffic it adds. The limits
alone, the M at which ``quantized_matmul`` changes sides, are in :mod:`.limits`. Everything here is a pure function
that was read from MLX's sources; nothing is measured and nothing is guessed. Standard library only.

Left out: ``gather_mm``, ``gather_qmm``, ``segmented_mm``, ``block_masked_mm`` and ``qqmm``.
"""

from __future__ import annotations

from .device import StockDevice
from .dispatch import stock_kernel
from .kernel import StockKernel
from .limits import (
    MATRIX,
    MLX,
    VECTOR,
    cuda_vector_limit,
    metal_generation,
    metal_vector_limit,
    quantized_side,
    vector_limit,
)
from .versions import standing_in

__all__ = [
    "MATRIX",
    "MLX",
    "VECTOR",
    "StockDevice",
    "StockKernel",
    "cuda_vector_limit",
    "metal_generation",
    "metal_vector_limit",
    "quantized_side",
    "standing_in",
    "stock_kernel",
    "vector_limit",
]
