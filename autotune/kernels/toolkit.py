"""Where CUDA's libraries and headers are: in PyPI's packages, which MLX's CUDA build brings, or on the system."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def majors() -> tuple[int, ...]:
    """CUDA's major versions to look for, the best first: that which MLX is built for, since the driver may refuse a
    newer one's code."""
    return (12,) if _installed("mlx-cuda-12") else (13, 12)


def library(name: str, major: int) -> Any:
    """``lib<name>.so.<major>``, opened, or None. The packages of CUDA 12 have a folder for each library (``nvrtc`` is
    in ``cuda_nvrtc``), those of 13 share one."""
    file = "lib" + name + ".so." + str(major)
    found = [str(place / "lib" / file) for place in _places(major, name)]
    return _load((*found, *(str(home / "lib64" / file) for home in _homes()), file))


def headers(major: int, wanted: str) -> tuple[str, ...]:
    """Folders to include from, of the first place that has the header ``wanted``; none where there is none."""
    for place in (*_places(major, "runtime"), *_homes()):
        if (place / "include" / wanted).exists():
            return str(place / "include"), str(place / "include" / "cccl")
    return ()


def _places(major: int, name: str) -> Iterator[Path]:
    for package in _packages():
        for folder in ("cu13",) if major == 13 else (name, "cuda_" + name):
            yield package / folder


def _homes() -> list[Path]:
    named = [os.environ[key] for key in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(key)]
    return [*map(Path, named), Path("/usr/local/cuda")]


@cache
def _installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def _packages() -> list[Path]:
    try:
        spec = find_spec("nvidia")
    except (ImportError, ValueError):
        return []
    return [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]


def _load(names: Iterable[str]) -> Any:
    for name in names:
        folder = Path(name).parent
        with contextlib.suppress(OSError):
            # NVRTC finds this one by its name alone.
            for builtins in sorted(folder.glob("libnvrtc-builtins.so*")) if folder.name == "lib" else ():
                ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
            return ctypes.CDLL(name)
    return None
