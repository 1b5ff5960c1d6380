"""This machine's device, as it shows itself: what a routing table's header is compared with.

MLX tells the device's name and architecture and nothing of its core count, which is what separates a 32-core from a
40-core M5 Max; that comes from the system (the I/O registry on a Mac, the CUDA driver elsewhere).
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from functools import cache

import mlx.core as mx

NAX_FROM_OS = (26, 2)
"""macOS from which MLX's NAX kernels run (``is_nax_available`` in MLX's Metal device.cpp)."""


@dataclass(frozen=True)
class Machine:
    """One device of one machine.

    ``kind`` is MLX's (``gpu`` or ``cpu``); ``backend`` is ``metal``, ``cuda`` or ``cpu``; ``cores`` are GPU cores on
    Metal, multiprocessors on CUDA, logical processors on a CPU, 0 where the system does not say; ``nax`` is whether
    MLX uses the neural accelerators of this GPU under this system.
    """

    kind: str
    backend: str
    device_name: str
    architecture: str
    cores: int
    nax: bool
    os: str
    mlx: str

    @property
    def identity(self) -> tuple[str, str, str, int, bool]:
        """What must agree for a table to be this machine's."""
        return (self.backend, self.device_name, self.architecture, self.cores, self.nax)


def mlx_version() -> str:
    """The installed MLX version."""
    version: str = mx.__version__  # type: ignore[attr-defined]
    return version


def backend(kind: str) -> str:
    """``metal``, ``cuda`` or ``cpu`` for MLX's device kind on this machine."""
    if kind == "cpu":
        return "cpu"
    return "metal" if mx.metal.is_available() else "cuda"


def has(kind: str) -> bool:
    """Whether this MLX build can compute on ``gpu`` or ``cpu`` here."""
    return mx.is_available(mx.Device(getattr(mx, kind)))


@cache
def local(kind: str) -> Machine:
    """This machine's ``gpu`` or ``cpu``. Reads the core count from the system once (about 20 ms on a Mac)."""
    info = mx.device_info(mx.Device(getattr(mx, kind)))
    name, architecture = str(info.get("device_name", "")), str(info.get("architecture", ""))
    backend_ = backend(kind)
    cores = {"metal": _metal_cores, "cuda": _cuda_cores, "cpu": lambda: os.cpu_count() or 0}[backend_]()
    return Machine(
        kind,
        backend_,
        name,
        architecture,
        cores,
        backend_ == "metal" and nax(architecture),
        os_version(),
        mlx_version(),
    )


def default_kind() -> str:
    """The kind of MLX's default device."""
    return "gpu" if mx.default_device() == mx.Device(mx.gpu) else "cpu"


def os_version() -> str:
    """System and version, such as ``macOS 26.3`` or ``Linux 6.8.0-45-generic``."""
    if platform.system() == "Darwin":
        return f"macOS {platform.mac_ver()[0]}"
    return f"{platform.system()} {platform.release()}"


def generation(architecture: str) -> int:
    """The number in a Metal architecture string: 17 for ``applegpu_g17s``; 0 where there is none."""
    match = re.search(r"g(\d+)[a-z]$", architecture)
    return int(match[1]) if match else 0


def nax(architecture: str, version: str | None = None) -> bool:
    """Whether MLX uses the neural accelerators: macOS 26.2 or later, generation 17 (18 for phones) or later."""
    text = platform.mac_ver()[0] if version is None else version
    numbers = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    least = 18 if architecture.endswith("p") else 17
    return numbers >= NAX_FROM_OS and generation(architecture) >= least


def parse_gpu_cores(registry: str) -> int:
    """GPU cores from the text of ``ioreg -rc AGXAccelerator``; 0 where it has none."""
    match = re.search(r'"gpu-core-count"\s*=\s*(\d+)', registry)
    return int(match[1]) if match else 0


def _metal_cores() -> int:
    try:
        done = subprocess.run(
            ["/usr/sbin/ioreg", "-rd1", "-c", "AGXAccelerator"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    return parse_gpu_cores(done.stdout)


def _cuda_cores() -> int:
    """Multiprocessors of device 0 from the driver: attribute 16 of ``cuDeviceGetAttribute``."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        count, device = ctypes.c_int(), ctypes.c_int()
        if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
            return 0
        return 0 if driver.cuDeviceGetAttribute(ctypes.byref(count), 16, device) else count.value
    except OSError:
        return 0
