"""NVIDIA's run-time compiler, which needs no GPU: what MLX's CUDA build would compile, compiled here."""

from __future__ import annotations

import ctypes
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import mlx.core as mx

from autotune.kernels import cuda
from autotune.kernels.launch import Launch

ARCHITECTURE = "sm_90"
CUDA_TYPES = {
    mx.float32: "float",
    mx.float16: "__half",
    mx.bfloat16: "__nv_bfloat16",
    mx.int32: "int32_t",
    mx.uint32: "uint32_t",
    mx.uint8: "uint8_t",
}
"""As MLX writes them (``dtype_to_cuda_type``)."""
PRELUDE = """
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda/std/array>
#include <cuda/std/cstdint>
using namespace cuda::std;
namespace mlx::core::cu {
using Shape = cuda::std::array<int32_t, 10>;
using Strides = cuda::std::array<int64_t, 10>;
}
"""
"""What our texts can see of MLX's own header (mlx/backend/cuda/device/utils.cuh)."""


class Refused(AssertionError):
    """The compiler's log."""


def root() -> Path | None:
    """The folder of PyPI's CUDA 13 packages, None where the compiler is not installed."""
    try:
        spec = find_spec("nvidia.cu13")
    except ModuleNotFoundError:
        return None
    places = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]
    return next((place for place in places if list(place.glob("lib/libnvrtc.so*"))), None)


@cache
def _library() -> ctypes.CDLL:
    place = root()
    assert place is not None
    for name in ("libnvrtc-builtins.so*", "libnvrtc.so*"):
        library = ctypes.CDLL(str(next(place.glob("lib/" + name))), mode=ctypes.RTLD_GLOBAL)
    return library


def source(launch: Launch) -> str:
    """What ``mx.fast.cuda_kernel`` makes of a launch (``build_kernel`` in mlx/backend/cuda/custom_kernel.cpp)."""
    program = launch.program
    body = cuda.body(program.body, program.inputs)
    parameters = []
    for name, array in zip(program.inputs, launch.inputs):
        parameters.append(f"const {CUDA_TYPES[array.dtype]}* {name}")
        for kind, suffix in (("Shape", "shape"), ("Strides", "strides")):
            if f"{name}_{suffix}" in body:
                parameters.append(f"const __grid_constant__ {kind} {name}_{suffix}")
        if f"{name}_ndim" in body:
            parameters.append(f"const __grid_constant__ int {name}_ndim")
    parameters += [f"{CUDA_TYPES[dtype]}* {name}" for name, dtype in zip(program.outputs, launch.dtypes)]
    kernel = f"__global__ void kernel({', '.join(parameters)}) {{\n{body}\n}}"
    return f"{PRELUDE}{cuda.header(program.header)}\nnamespace mlx::core::cu {{\n{kernel}\n}}\n"


def compiled(text: str) -> dict[str, int]:
    """Compiles for the GPU: its registers a thread, bytes spilled and bytes of shared memory. Raises Refused."""
    library, place = _library(), root()
    program = ctypes.c_void_p()
    library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernel.cu", 0, None, None)
    options = [
        f"--gpu-architecture={ARCHITECTURE}",
        "--device-as-default-execution-space",
        f"--include-path={place}/include",
        f"--include-path={place}/include/cccl",
        "--ptxas-options=-v",
    ]
    failed = library.nvrtcCompileProgram(
        program, len(options), (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    )
    size = ctypes.c_size_t()
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    said = log.value.decode()
    if failed:
        raise Refused(said)
    return {
        what: int(found[1]) if (found := re.search(pattern, said)) else 0
        for what, pattern in (
            ("registers", r"Used (\d+) registers"),
            ("spilled", r"(\d+) bytes spill stores"),
            ("shared", r"(\d+) bytes smem"),
        )
    }
