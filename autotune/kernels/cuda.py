"""Metal's texts as CUDA: what a header can say is in ``msl/cuda.h``, and these few rules rewrite the rest.

A text that keeps to Metal's words in that header, declares threadgroup arrays in the kernel's body alone, and names
them in the declaration (``threadgroup float tile[8];``) needs nothing else.

Before 0.32.1 MLX finds compiled CUDA kernels by their name (``jit_module.cpp``), whatever their source: so a name has
the hash of its sources in it.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import mlx.core as mx

from .program import MSL, Launch, short

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


AXES = {"_shape": "Shape", "_strides": "Strides", "_ndim": "int"}
"""What a text may ask of an input beside its elements, by the end of the name, with its type in ``PRELUDE``."""
INCLUDES: Mapping[str, str] = {"metal_simdgroup_matrix": "cuda_simdgroup_matrix.h"}
"""Metal's headers that have a counterpart here. The others are part of ``cuda.h``."""
BASE = "cuda.h"
MOST_NAME = 160
"""Characters of a program's own name that are kept."""

_INCLUDE = re.compile(r"^#include <(\w+)>$", re.MULTILINE)
_SHARED = re.compile(r"\bthreadgroup (?=[\w ]+ \w+\[)")
_OTHER = re.compile(r"\bthreadgroup ")


def headers() -> tuple[Path, ...]:
    """Our headers for CUDA."""
    return tuple(MSL / file for file in (BASE, *INCLUDES.values()))


def header(source: str) -> str:
    """A program's header: Metal's includes give way to ours, and ``threadgroup`` of pointers to nothing."""
    names = dict.fromkeys(INCLUDES[name] for name in _INCLUDE.findall(source) if name in INCLUDES)
    return "\n".join((*map(_words, (BASE, *names)), _OTHER.sub("", _INCLUDE.sub("", source))))


def body(source: str, inputs: Iterable[str]) -> str:
    """A kernel's body: threadgroup arrays become ``__shared__``; shapes and strides, which MLX passes as arrays in
    CUDA, become the pointers that they are in Metal."""
    source = _OTHER.sub("", _SHARED.sub("__shared__ ", source))
    return re.sub(r"\b((?:" + "|".join(map(re.escape, inputs)) + r")_(?:shape|strides))\b", r"\1.data()", source)


def name(base: str, *sources: str) -> str:
    """The program's name with the hash of all that decides what is compiled in it, short enough for a file's name."""
    digest = hashlib.sha256("\n".join(sources).encode()).hexdigest()
    return base[:MOST_NAME] + "_" + digest[:16]


@cache
def _words(file: str) -> str:
    """A header of ours without comments."""
    return short((MSL / file).read_text("utf-8"))


SIZES = "sizes"
"""The input of integers that every text of ours has. By value it costs no array to keep track of and, at the start of
the kernel, no load from memory."""


def source(launch: Launch, name: str) -> str:
    """What MLX would make of the launch, with ``name`` as it stands in the machine code; but the sizes come by value,
    as the last parameters."""
    program = launch.program
    text = body(program.body, program.inputs)
    parameters, sizes = [], []
    for input_, array in zip(program.inputs, launch.inputs):
        if input_ == SIZES:
            sizes = ["size" + str(at) for at in range(array.size)]
            continue
        parameters.append("const " + TYPES[array.dtype] + "* " + input_)
        for suffix, type_ in AXES.items():
            if input_ + suffix in text and array.ndim:
                parameters.append("const __grid_constant__ " + type_ + " " + input_ + suffix)
    parameters += [TYPES[dtype] + "* " + output for output, dtype in zip(program.outputs, launch.dtypes)]
    if sizes:
        parameters += ["int " + size for size in sizes]
        text = "const int " + SIZES + "[] = {" + ", ".join(sizes) + "};\n" + text
    bounds = "__launch_bounds__(" + str(math.prod(launch.threadgroup)) + ")"
    first = 'extern "C" __global__ void ' + bounds + " " + name + "(" + ", ".join(parameters) + ") {"
    return "\n".join((PRELUDE, header(program.header), first, text, "}", ""))
