"""MLX's own Metal headers, translated: ``utils.h`` stands before every kernel that MLX compiles."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

from ...errors import AutotuneError
from . import toolchain
from .translate import translate

PRELUDE = '#include "mlx/backend/metal/kernels/utils.h"\n'
"""What MLX prepends to the source of a ``metal_kernel`` (``metal::utils()``), which it does not print."""

_KERNELS = Path("mlx/backend/metal/kernels")


@cache
def folder() -> Path:
    """A folder to include from that holds the kernels' headers of the installed MLX, translated."""
    root = _include()
    paths = sorted(path for path in (root / _KERNELS).rglob("*.h"))
    return toolchain.tree("mlx", {str(path.relative_to(root)): translate(path.read_text("utf-8")) for path in paths})


def _include() -> Path:
    spec = importlib.util.find_spec("mlx")
    for base in (spec.submodule_search_locations or []) if spec else []:
        root = Path(base) / "include"
        if (root / _KERNELS).is_dir():
            return root
    raise AutotuneError("this MLX comes without its Metal headers", "install MLX from a wheel of PyPI")
