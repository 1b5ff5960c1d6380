"""The hand-over from the matrix-vector kernel to the matrix-matrix kernel of ``quantized_matmul``.

``get_qmv_batch_limit`` and its callers in mlx/backend/metal/quantized.cpp, and their counterparts on CUDA.
"""

from __future__ import annotations

from .device import StockDevice
from .versions import LIMITS_BY_GENERATION, NEWEST, Version, parse

MLX = "0.32"
"""The version whose limits these are where no other is named: 0.32.1, and main at 846d1762."""
VECTOR, MATRIX = "vector", "matrix"
"""The sides of the hand-over: kernels that work row by row of x, and kernels that work on tiles of rows."""


def vector_limit(
    backend: str, architecture: str, n: int, k: int, transposed: bool = True, version: str = ""
) -> int | None:
    """The M from which MLX takes a matrix-matrix kernel for a product of (M, K) with quantized weights.

    ``backend`` is ``metal``, ``cuda`` or ``cpu``; ``architecture`` is the device's as MLX gives it, such as
    ``applegpu_g17s``; ``transposed`` is the op's ``transpose``, with weights stored as (N, K); ``version`` is MLX's,
    the newest known where it is empty. None where no M changes kernels (the CPU has one kernel for every M;
    :func:`cuda_vector_limit` has a case of its own), and on Metal where the architecture is not known. Neither bits,
    group size, mode nor dtype count, but for what :func:`cuda_vector_limit` leaves out. Raises :class:`UsageError` for
    a version older than the oldest known one.
    """
    if backend == "metal":
        return metal_vector_limit(architecture, n, k, transposed, version)
    if backend == "cuda":
        return cuda_vector_limit(k, transposed)
    return None


def metal_vector_limit(architecture: str, n: int, k: int, transposed: bool = True, version: str = "") -> int | None:
    """:func:`metal_limit` by the architecture's name; None where that is empty."""
    if not architecture:
        return None
    parsed = parse(version) if version else NEWEST
    return metal_limit(StockDevice("metal", architecture), n, k, transposed, parsed)


def metal_limit(device: StockDevice, n: int, k: int, transposed: bool, version: Version) -> int:
    """``get_qmv_batch_limit``, and 4 for weights that are not transposed.

    M counts all rows of x where the weights are one matrix and x is contiguous, else those of one product. What is told
    apart: generation, the class of GPU (the architecture's last letter; ``d`` is an Ultra, and keeps one line through
    all generations), and three sizes of weights. Before 0.32.1 everything but generations 13 and 14 had the line that
    only the oldest have now. ``gather_qmm`` has the same limit behind another rule of its own, which is not modelled.
    """
    if not transposed:
        return 4
    size = 0 if max(n, k) <= 2048 else 1 if max(n, k) <= 4096 else 2
    if device.letter == "d":
        return (32, 18, 12)[size]
    if version < LIMITS_BY_GENERATION:
        return (14, 10, 6)[size] if device.generation in (13, 14) else (18, 12, 10)[size]
    if device.generation >= 17:
        return (33, 25, 13)[size]
    if device.generation >= 15:
        return (13, 15, 13)[size]
    if device.generation >= 13:
        return (14, 10, 6)[size]
    return (18, 12, 10)[size]


def metal_generation(architecture: str) -> int:
    """17 for ``applegpu_g17s``; 0 where the name is too short to say."""
    return StockDevice("metal", architecture).generation if architecture else 0


def cuda_vector_limit(k: int, transposed: bool = True) -> int | None:
    """``QuantizedMatmul::eval_gpu`` in mlx/backend/cuda/quantized/quantized.cpp and the conditions in qmm/qmm.cu.

    M counts the rows of all products of a batch. Transposed weights: 8, whichever matrix-matrix kernel serves the call
    (``qmm_sm80`` or ``qmm_naive``); none where K is no multiple of 64, which neither of the two takes. Weights that are
    not transposed: 1, since the matrix-vector kernel does not take them.

    Not modelled: ``qmm_sm90`` and its limit of 2 (1 where N exceeds 16384, or where there is a batch). It asks for
    compute capability 9, affine weights of 4 or 8 bits, N a multiple of 4, and a group that is not smaller than K: K is
    then one group, 64 or 128. ``gather_qmm`` is not modelled either.
    """
    if not transposed:
        return 1
    return None if k % 64 else 8


def quantized_side(
    backend: str, architecture: str, rows: int, n: int, k: int, transposed: bool = True, version: str = ""
) -> str:
    """:data:`VECTOR` or :data:`MATRIX`: the side that a stock ``quantized_matmul`` of so many rows takes. Empty where
    that is not known, and on the CPU, which has no sides. ``rows`` is M as the backend counts it, the rest as for
    :func:`vector_limit`."""
    limit = vector_limit(backend, architecture, n, k, transposed, version)
    if limit is None:
        return VECTOR if backend == "cuda" else ""
    return MATRIX if rows >= limit else VECTOR
