"""What MLX's rules know of a device: very little."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UsageError
from .versions import NAX, NAX_PHONES, Version


@dataclass(frozen=True)
class StockDevice:
    """A device as MLX's rules see it.

    ``backend`` is ``metal`` or ``cuda``. ``architecture`` is the string that MLX reports, such as ``applegpu_g17s`` or
    ``sm_90``. ``gpu_cores`` is kept for those who model the device: no rule of MLX reads it. ``nax`` says whether the
    build and the OS have the neural accelerators' kernels (macOS 26.2 or later, a wheel built for it); whether this
    generation has the accelerators is MLX's own rule, :meth:`has_nax`. ``tf32`` is MLX's switch of that name, on by
    default, which lets float32 products use the accelerators at reduced precision.
    """

    backend: str
    architecture: str
    gpu_cores: int = 0
    nax: bool = False
    tf32: bool = True

    def __post_init__(self) -> None:
        if self.backend not in ("metal", "cuda"):
            raise UsageError(f"no rules are known for the backend {self.backend!r}", "metal and cuda have rules")
        if not self.architecture:
            raise UsageError(
                "MLX's rules need the device's architecture",
                "take it from mx.device_info(), for instance applegpu_g17s",
            )

    @property
    def letter(self) -> str:
        """The class of GPU: ``p`` phone, ``g`` base, ``s`` Pro and Max, ``c`` another large one, ``d`` Ultra."""
        return self.architecture[-1]

    @property
    def generation(self) -> int:
        """17 for ``applegpu_g17s``: the two characters before the last, as mlx/backend/metal/device.cpp reads them; one
        that is no digit counts as 0. 13 is M1, 17 is M5."""
        if len(self.architecture) < 3:
            return 0
        tens, ones = (int(each) if each in "0123456789" else 0 for each in self.architecture[-3:-1])
        return 10 * tens + ones

    @property
    def large(self) -> bool:
        """One of the classes that the NAX kernels take smaller tiles on (mlx/backend/metal/matmul.cpp)."""
        return self.letter in "scd"

    def has_nax(self, version: Version) -> bool:
        """``is_nax_available`` of mlx/backend/metal/device.h, in device.cpp since 0.31.2."""
        if not self.nax or self.backend != "metal" or version < NAX:
            return False
        return self.generation >= (18 if self.letter == "p" and version >= NAX_PHONES else 17)

    def uses_nax(self, version: Version, dtype: str) -> bool:
        """Whether a product of this dtype may take a NAX kernel."""
        return self.has_nax(version) and (self.tf32 or dtype != "f32")
