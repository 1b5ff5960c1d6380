"""Whether this MLX build and machine are fit to measure: a crippled build gives tables that lie about the chip."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx

from ..machine import Machine


def objections(machine: Machine) -> list[str]:
    """What makes measurements here worthless, in words; empty where nothing does.

    A build for an older macOS silently lacks the neural accelerators' kernels (one bottle had none of 145), and an
    overridden architecture string makes MLX route as another chip.
    """
    import os

    found = []
    if machine.nax and not has_nax_kernels():
        found.append("this MLX build lacks the NAX kernels that the chip can run: install MLX's own wheel")
    if machine.backend == "metal" and os.environ.get("MLX_METAL_GPU_ARCH"):
        found.append("MLX_METAL_GPU_ARCH makes MLX route as another chip: unset it")
    return found


def has_nax_kernels() -> bool:
    """Whether the Metal library of the installed MLX names kernels for the neural accelerators."""
    library = Path(mx.__file__).parent / "lib" / "mlx.metallib"
    if not library.is_file():
        return False
    overlap = b""
    with library.open("rb") as file:
        while chunk := file.read(1 << 22):
            if b"_nax" in overlap + chunk:
                return True
            overlap = chunk[-8:]
    return False
