"""Machine code made smaller, for MLX copies it when a call is built and hashes it when the call is evaluated.

A kernel of ours is 27 to 36 KB of machine code, and a third of that as a compressed "fat binary", which the driver
unpacks when it loads the module, once. On an H100's host that took a call from 9.7 to 8.2 us to build and from 10.0 to
6.1 us to evaluate (``benchmarks/launch.py``); without the library, code goes to MLX as it is.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import Any, Optional

from . import toolkit

OPTIONS = (b"-compress-mode=size",)


@dataclass(frozen=True)
class Packer:
    """NVIDIA's nvFatbin."""

    library: Any

    def packed(self, code: bytes, architecture: str) -> bytes:
        """Machine code for an architecture such as ``sm_90a`` as a fat binary, or ``code`` itself where the library
        refuses it or does not make it smaller."""
        handle = ctypes.c_void_p()
        options = (ctypes.c_char_p * len(OPTIONS))(*OPTIONS)
        if self.library.nvFatbinCreate(ctypes.byref(handle), options, len(OPTIONS)):
            return code
        try:
            number = architecture.removeprefix("sm_").encode()
            size = ctypes.c_size_t()
            if self.library.nvFatbinAddCubin(handle, code, ctypes.c_size_t(len(code)), number, b"kernel"):
                return code
            if self.library.nvFatbinSize(handle, ctypes.byref(size)):
                return code
            buffer = ctypes.create_string_buffer(size.value)
            if self.library.nvFatbinGet(handle, buffer) or size.value >= len(code):
                return code
            return buffer.raw
        finally:
            self.library.nvFatbinDestroy(ctypes.byref(handle))


@cache
def packer() -> Optional[Packer]:
    """The library of CUDA 13; None where there is none, or MLX is built for CUDA 12, whose older drivers do not know
    the compression."""
    library = toolkit.library("nvfatbin", 13) if 13 in toolkit.majors() else None
    return None if library is None else Packer(library)
