"""Sends the launches of our own kernels to the host: ``with launch.through(Runner()): ...``.

What runs is the source that MLX generates for the call, recorded once for each program, dtypes and way of passing the
inputs; sizes are read at run time, so one compile serves all shapes, as on a Mac.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from ...kernels.launch import metal_kernel as kernel_of
from ...kernels.program import Launch, Program
from .host import Array, Bits, MslHost
from .record import record

_CONSTANT = 8
"""Inputs with fewer elements go to constant memory (``max_constant_array_size`` in MLX's metal_kernel.cpp)."""

Key = tuple[Program, tuple[tuple[mx.Dtype, bool, bool], ...], tuple[mx.Dtype, ...]]


class Runner:
    """A runner for ``launch.through`` that computes at once, on the CPU. ``launches`` counts them.

    Raises :class:`~.errors.HostError` where the kernel does something wrong.
    """

    def __init__(self, host: MslHost | None = None) -> None:
        self.host = host or MslHost()
        self.launches = 0

    def __call__(self, launch: Launch) -> Sequence[mx.array]:
        self.launches += 1
        inputs = launch.inputs
        if launch.program.contiguous:
            # MLX copies those that are not row-contiguous, and passes others as they are.
            inputs = tuple(mx.contiguous(array) for array in inputs)
        outputs = [(shape, _name(dtype)) for shape, dtype in zip(launch.shapes, launch.dtypes)]
        results = self.host.run(
            source(launch), [to_numpy(array) for array in inputs], outputs, launch.grid, launch.threadgroup
        )
        return [from_numpy(result) for result in results]


def source(launch: Launch) -> str:
    """What MLX would hand to Apple's compiler for this launch."""
    ways = tuple((array.dtype, array.ndim == 0, array.size < _CONSTANT) for array in launch.inputs)
    key = (launch.program, ways, launch.dtypes)
    if key not in _sources:
        _sources[key] = _recorded(launch)
    return _sources[key]


_sources: dict[Key, str] = {}


def _recorded(launch: Launch) -> str:
    kernel = kernel_of(launch.program)

    def call(*arrays: mx.array) -> list[mx.array]:
        return kernel(
            inputs=list(arrays),
            grid=launch.grid,
            threadgroup=launch.threadgroup,
            output_shapes=list(launch.shapes),
            output_dtypes=list(launch.dtypes),
            verbose=True,
        )

    return record(call, *launch.inputs)[0]


def to_numpy(array: mx.array) -> Array:
    """The array's memory with its strides, not copied."""
    mx.eval(array)
    # MLX's arrays have the buffer protocol, with strides, at run time only.
    memory: Any = array.view(mx.uint16) if array.dtype == mx.bfloat16 else array
    values = np.asarray(memoryview(memory))
    return Bits(values) if array.dtype == mx.bfloat16 else values


def from_numpy(array: Array) -> mx.array:
    if isinstance(array, Bits):
        return mx.array(array.array).view(mx.bfloat16)
    return mx.array(array)


def _name(dtype: mx.Dtype) -> str:
    return str(dtype).rpartition(".")[2]
