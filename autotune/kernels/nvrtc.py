"""Compiles our CUDA programs once for all processes, and hands them to MLX through its own cache on disk.

MLX compiles a ``cuda_kernel`` again in every process, about 1.2 s each on an H100's host: it looks for it in its cache
(``MLX_PTX_CACHE_DIR``, else a folder of the system's temporary files) but never writes it there. We do: the same text
through the same compiler, with the two numbers and types that it needs of MLX's headers instead of all of them, and
with the number of threads that it will be launched with, which keeps the compiler from using more registers than so
many threads have. A name stands for one source, so a file can be neither stale nor another program's.

Where anything is missing (the compiler's library, CUDA's headers, a folder to write to) nothing happens, and MLX
compiles as it always does.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import mlx.core as mx

from . import cuda

if TYPE_CHECKING:
    from .launch import Launch, Program

PREFIX = "custom_kernel_"
"""What MLX puts before a kernel's name (``cuda_kernel`` in mlx/backend/cuda/custom_kernel.cpp)."""
TYPES = {
    mx.float32: "float",
    mx.float16: "__half",
    mx.bfloat16: "__nv_bfloat16",
    mx.int32: "int",
    mx.uint32: "unsigned int",
    mx.uint8: "unsigned char",
}
"""CUDA's names of the dtypes that our programs take."""
PRELUDE = """#include <cuda_bf16.h>
#include <cuda_fp16.h>
typedef signed int int32_t;
typedef signed long int64_t;
template <typename E>
struct Axes {
  E values[10];
  __device__ const E* data() const { return values; }
};
typedef Axes<int32_t> Shape;
typedef Axes<int64_t> Strides;
"""
"""What our texts need of MLX's header (mlx/backend/cuda/device/utils.cuh): shapes and strides are passed by value, as
arrays of ten (``MAX_NDIM``)."""


class CompileError(RuntimeError):
    """What the compiler said."""


@dataclass(frozen=True)
class Compiler:
    """NVRTC and the headers that go with it."""

    library: Any
    includes: tuple[str, ...]

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
    """The NVRTC of PyPI's packages, which MLX's CUDA build brings, or of the system; None where there is none."""
    for major, folders in ((13, ("cu13",)), (12, ("cuda_nvrtc", "cuda_runtime"))):
        name = "libnvrtc.so." + str(major)
        places = [place / folder for place in _packages() for folder in folders]
        library = _load((*(str(place / "lib" / name) for place in places), name))
        homes = [Path(os.environ[key]) for key in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(key)]
        for place in (*places, *homes, Path("/usr/local/cuda")):
            if library is not None and (place / "include" / "cuda_fp16.h").exists():
                return Compiler(library, (str(place / "include"), str(place / "include" / "cccl")))
    return None


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
            # The library finds this one by its name alone.
            for builtins in sorted(folder.glob("libnvrtc-builtins.so*")) if folder.name == "lib" else ():
                ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
            return ctypes.CDLL(name)
    return None


@cache
def architecture() -> str:
    """The GPU's, such as ``sm_90``; Hopper and later have more instructions under an ``a``, which MLX asks for too."""
    name = str(mx.device_info(mx.gpu).get("architecture", ""))
    number = name.removeprefix("sm_")
    return name + "a" if number.isdigit() and int(number) >= 90 else name


def source(program: Program, launch: Launch, name: str) -> str:
    """What MLX would make of the launch, with ``name`` as it stands in the machine code."""
    body = cuda.body(program.body, program.inputs)
    parameters = []
    for input_, array in zip(program.inputs, launch.inputs):
        parameters.append("const " + TYPES[array.dtype] + "* " + input_)
        for suffix, type_ in (("_shape", "Shape"), ("_strides", "Strides"), ("_ndim", "int")):
            if input_ + suffix in body and array.ndim:
                parameters.append("const __grid_constant__ " + type_ + " " + input_ + suffix)
    parameters += [TYPES[dtype] + "* " + output for output, dtype in zip(program.outputs, launch.dtypes)]
    bounds = "__launch_bounds__(" + str(math.prod(launch.threadgroup)) + ")"
    first = 'extern "C" __global__ void ' + bounds + " " + name + "(" + ", ".join(parameters) + ") {"
    return "\n".join((PRELUDE, cuda.header(program.header), first, body, "}", ""))


def folder() -> Path:
    """MLX's cache."""
    given = os.environ.get("MLX_PTX_CACHE_DIR")
    return Path(given) if given else Path(tempfile.gettempdir()) / "mlx" / _version() / "ptx"


def _version() -> str:
    version: str = mx.__version__  # type: ignore[attr-defined]
    return version


def provide(launch: Launch, name: str) -> bool:
    """Sees to it that MLX finds the launch's program compiled, under the name that it was made with; whether it will.

    Raises :class:`CompileError` for a program that the compiler refuses.
    """
    place, full = folder(), PREFIX + name
    if (place / (full + ".txt")).exists():
        return True
    tool = compiler()
    if tool is None:
        return False
    code, _ = tool.compile(source(launch.program, launch, full), architecture())
    try:
        place.mkdir(parents=True, exist_ok=True)
        # MLX looks for the code; the file beside it says what the kernel is called in it, so it has to be there before.
        _write(place / (full + ".txt"), ("mlx::core::cu::" + full + "\t" + full + "\n").encode())
        _write(place / (full + ".ptx"), code)
    except OSError:
        return False
    return True


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, whoever else writes the same."""
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    os.replace(temporary, path)


def provide_all(launches: Sequence[tuple[Launch, str]], workers: int = 0) -> Iterator[Optional[CompileError]]:
    """:func:`provide` for many, on all processors: for each in turn, what the compiler had against it."""

    def one(item: tuple[Launch, str]) -> Optional[CompileError]:
        try:
            provide(*item)
        except CompileError as error:
            return error
        return None

    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        yield from pool.map(one, launches)
