"""The reduction that adds up partial results of the quantized kernels.

``strided_reduce_general_dispatch`` in mlx/backend/metal/reduce.cpp, for one reduced axis with a whole result as its
stride.
"""

from __future__ import annotations


def launches(partitions: int, outputs: int) -> int:
    """Kernels launched: one, but two for more than 256 partitions of a small result."""
    return 2 if partitions > 256 and outputs // 32 < 1024 else 1
