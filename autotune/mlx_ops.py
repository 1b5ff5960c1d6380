"""MLX's own ops, kept from before anything may have replaced them in ``mlx.core`` (``autotune.enable`` does)."""

from __future__ import annotations

import mlx.core as mx

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

ORIGINAL: dict[str, Callable[..., Any]] = {
    "matmul": mx.matmul,
    "addmm": mx.addmm,
    "quantized_matmul": mx.quantized_matmul,
}
