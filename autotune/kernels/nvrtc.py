"""Compiles our CUDA programs, once for all processes.

MLX compiles a ``cuda_kernel`` again in every process, about 1.3 s each on an H100's host, most of it for headers that
our texts do not need. What comes from here goes to ``mx.fast.precompiled_cuda_kernel``: the same text through the same
compiler, with the few lines that it needs of MLX's headers, kept on disk under a name that stands for all of it, and
with the number of threads that it will be launched with, which keeps the compiler from using more registers than so
many threads have.

Where anything is missing (the compiler's library, CUDA's headers) there is no code, and MLX compiles as it always does.
Programs that read strides are always MLX's to compile: it passes them to these alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Optional

import mlx.core as mx

from .. import paths
from . import cuda, toolkit
from .program import Launch, Program

DIGEST = hashlib.sha256().digest_size
"""Bytes at the end of a file of machine code."""


class CompileError(RuntimeError):
    """What the compiler said."""


@dataclass(frozen=True)
class Compiler:
    """NVRTC and the headers that go with it."""

    library: Any
    includes: tuple[str, ...]

    @property
    def version(self) -> tuple[int, int]:
        """NVRTC's major and minor version."""
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        return major.value, minor.value

    def compile(self, source: str, architecture: str, options: Sequence[str] = ()) -> tuple[bytes, str]:
        """Machine code for an architecture such as ``sm_90``, and the log. Raises :class:`CompileError`."""
        program = ctypes.c_void_p()
        self._call("nvrtcCreateProgram", ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None)
        try:
            words = ["--device-as-default-execution-space", "--gpu-architecture=" + architecture, *options]
            words += ["--include-path=" + folder for folder in self.includes]
            array = (ctypes.c_char_p * len(words))(*(word.encode() for word in words))
            failed = self.library.nvrtcCompileProgram(program, len(words), array)
            log = self._bytes("ProgramLog", program).rstrip(b"\0").decode(errors="replace")
            if failed:
                raise CompileError(log.strip() or "NVRTC error " + str(failed))
            return self._bytes("CUBIN", program), log
        finally:
            self.library.nvrtcDestroyProgram(ctypes.byref(program))

    def _bytes(self, what: str, program: ctypes.c_void_p) -> bytes:
        size = ctypes.c_size_t()
        self._call("nvrtcGet" + what + "Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call("nvrtcGet" + what, program, buffer)
        return buffer.raw

    def _call(self, name: str, *arguments: Any) -> None:
        failed = getattr(self.library, name)(*arguments)
        if failed:
            raise CompileError(name + " failed with NVRTC error " + str(failed))


@cache
def compiler() -> Optional[Compiler]:
    """NVRTC with the headers of its CUDA; None where there is none."""
    for major in toolkit.majors():
        library, includes = toolkit.library("nvrtc", major), toolkit.headers(major, "cuda_fp16.h")
        if library is not None and includes:
            return Compiler(library, includes)
    return None


@cache
def architecture() -> str:
    """The GPU's, such as ``sm_90``; Hopper and later have more instructions under an ``a``, which MLX asks for too."""
    name = str(mx.device_info(mx.gpu).get("architecture", ""))
    number = name.removeprefix("sm_")
    return name + "a" if number.isdigit() and int(number) >= 90 else name


@dataclass(frozen=True)
class Code:
    """Machine code, in which the program is called ``name``, and the file that it is kept in; None where it could not
    be kept. The file is named by all that was compiled."""

    name: str
    content: bytes
    file: Optional[Path]


def folder() -> Path:
    """Where compiled programs are kept."""
    return paths.user_cache() / "cuda"


def code(launch: Launch, name: str) -> Optional[Code]:
    """The launch's program in machine code, in which it has that name; None where there is no compiler, and for
    programs that ask for an input's shape or strides.

    A file ends with a digest of itself: what is cut off or changed is compiled again. Raises :class:`CompileError` for
    a program that the compiler refuses.
    """
    tool = compiler()
    if tool is None or _asks_for_axes(launch.program):
        return None
    text = cuda.source(launch, name)
    whole = "\n".join((text, architecture(), str(tool.version)))
    file = folder() / (name + "_" + hashlib.sha256(whole.encode()).hexdigest()[:16] + ".cubin")
    with contextlib.suppress(OSError):
        content = file.read_bytes()
        found, digest = content[:-DIGEST], content[-DIGEST:]
        if found and hashlib.sha256(found).digest() == digest:
            return Code(name, found, file)
    made, _ = tool.compile(text, architecture())
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        paths.put_whole(file, lambda fresh: fresh.write_bytes(made + hashlib.sha256(made).digest()))
    except OSError:
        return Code(name, made, None)
    return Code(name, made, file)


def _asks_for_axes(program: Program) -> bool:
    asked = (input_ + suffix for input_ in program.inputs for suffix in cuda.AXES)
    return any(word in program.body for word in asked)


def compile_all(launches: Sequence[tuple[Launch, str]], workers: int = 0) -> None:
    """:func:`code` for many, on all processors. What the compiler refuses is left to whoever asks for it alone."""

    def one(item: tuple[Launch, str]) -> None:
        with contextlib.suppress(CompileError):
            code(*item)

    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        list(pool.map(one, launches))
