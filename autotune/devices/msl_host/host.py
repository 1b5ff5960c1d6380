"""Runs a kernel of ``mx.fast.metal_kernel`` on this machine's CPU, from the very source that MLX generates.

    source = record(call, *arrays)[0]
    [y] = MslHost().run(source, [x, w], [((4, 8), "float16")], grid=(256, 1, 1), threadgroup=(64, 1, 1))

It takes what MLX takes (arrays in the order of the source's parameters; shapes, strides and ranks are passed where the
source asks for them) and gives numpy arrays. What is wrong with a kernel is a :class:`HostError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Union

import numpy as np

from . import diagnostics, lint, mlx_headers, native, signature, toolchain
from .errors import HostError
from .translate import translate

TYPES = {
    "float32": "float",
    "float16": "float16_t",
    "bfloat16": "bfloat16_t",
    "int8": "int8_t",
    "uint8": "uint8_t",
    "int16": "int16_t",
    "uint16": "uint16_t",
    "int32": "int32_t",
    "uint32": "uint32_t",
    "int64": "int64_t",
    "uint64": "uint64_t",
    "bool": "bool",
    "complex64": "complex64_t",
}
"""MLX's names of dtypes in Metal (``get_type_string`` in mlx/backend/common/compiled.cpp)."""

Grid = tuple[int, int, int]


@dataclass(frozen=True)
class Bits:
    """An array of a dtype that numpy does not have: ``dtype`` is its name (``bfloat16``), ``array`` its bits."""

    array: np.ndarray
    dtype: str = "bfloat16"


Array = Union[np.ndarray, Bits]
Shape = tuple[int, ...]
Output = tuple[Shape, str]
"""Shape and dtype, by MLX's name."""


@dataclass(frozen=True)
class MslHost:
    """How kernels are compiled and run.

    ``options`` are the runtime's: schedule, check mode, limits. ``complete``: in check mode, an output of which a byte
    is never written is an error. ``lint`` refuses what clang accepts and Metal does not (``lint.py``). ``includes``
    admits MLX's headers, which ``metal_kernel`` would not find on a Mac. ``defines`` are macros set before the source.
    """

    options: native.Options = field(default_factory=native.Options)
    complete: bool = True
    lint: bool = True
    includes: bool = False
    defines: tuple[tuple[str, int], ...] = ()

    def run(
        self,
        source: str,
        inputs: Sequence[Array],
        outputs: Sequence[Output],
        grid: Grid,
        threadgroup: Grid,
        init_value: float | None = None,
    ) -> list[Array]:
        """The outputs of the kernel, numpy arrays or :class:`Bits`.

        ``grid`` and ``threadgroup`` count threads. An input that is a view of something larger is passed as the memory
        that it spans, from its first element on; reading beyond its last is an error even if the larger array goes on.
        Outputs hold ``init_value``, or where it is None NaN or 0xFB bytes, until they are written.

        Raises :class:`HostError`: the source is none of MLX's, does not compile, or did something wrong.
        """
        parsed = signature.parse(source)
        arrays = self._arguments(parsed, inputs, outputs, init_value)
        library = self.compiled(source)
        buffers = [
            native.Buffer(array, buffer.writable, buffer.name, _alignment(array))
            for buffer, array in zip(parsed.buffers, arrays)
        ]
        try:
            report = native.run(library, "__msl_entry", buffers, grid, threadgroup, self.options)
        except native.KernelFault as fault:
            raise _error(source, library, fault.report) from None
        if report.problems:
            raise _error(source, library, report)
        if self.options.check and self.complete and init_value is None:
            _refuse_unwritten(parsed, report)
        results = [array for buffer, array in zip(parsed.buffers, arrays) if buffer.writable]
        return [_shaped(array, shape, dtype) for array, (shape, dtype) in zip(results, outputs)]

    def compiled(self, source: str) -> Path:
        """The kernel's shared object. Raises :class:`HostError` of kind ``compile``, ``lint`` or ``source``."""
        return _compiled(source, self.options.check, self.lint, self.includes, self.defines)

    def _arguments(
        self,
        parsed: signature.Signature,
        inputs: Sequence[Array],
        outputs: Sequence[Output],
        init_value: float | None,
    ) -> list[np.ndarray]:
        """One contiguous array for each buffer of the signature."""
        if len(inputs) != len(parsed.inputs) or len(outputs) != len(parsed.outputs):
            given, wanted = (len(inputs), len(outputs)), (len(parsed.inputs), len(parsed.outputs))
            raise HostError("launch", f"{given} inputs and outputs were given, the source has {wanted}")
        named = {buffer.name: array for buffer, array in zip(parsed.inputs, inputs)}
        wanted_outputs = dict(zip((buffer.name for buffer in parsed.outputs), outputs))
        arrays = []
        for buffer in parsed.buffers:
            if buffer.role == "output":
                shape, dtype = wanted_outputs[buffer.name]
                _agree(buffer, dtype)
                arrays.append(_empty(shape, dtype, init_value))
            elif buffer.role == "input":
                _agree(buffer, _dtype(named[buffer.name]))
                arrays.append(_spanned(buffer.name, _bits(named[buffer.name])))
            else:
                arrays.append(_described(buffer.role, _bits(named[buffer.array])))
        return arrays


@lru_cache(maxsize=1024)
def _compiled(source: str, check: bool, linted: bool, includes: bool, defines: tuple[tuple[str, int], ...]) -> Path:
    if not includes and '#include "' in source:
        raise HostError("source", "the source includes a file, which metal_kernel's compiler would not find")
    made = unit(source, defines)
    try:
        library = toolchain.kernel_library(made, check)
    except HostError as error:
        if error.kind == "compile":
            raise diagnostics.failure(source, error.detail) from None
        raise
    diagnostics.refuse_conversions_to_bfloat(source, toolchain.warnings(library))
    if linted:
        lint.refuse(source, made)
    return library


def unit(source: str, defines: Sequence[tuple[str, int]] = ()) -> toolchain.Unit:
    """What clang compiles: MLX's prelude, the translated source, the entry."""
    parsed = signature.parse(source)
    macros = "".join(f"#define {name} {value}\n" for name, value in defines)
    body = translate(signature.without_instance(source))
    text = f'{macros}#line 1 "{diagnostics.FILE}"\n{body}\n#line 1 "entry"\n{parsed.entry()}'
    return toolchain.Unit(mlx_headers.PRELUDE, text, (mlx_headers.folder(),))


def _agree(buffer: signature.Buffer, dtype: str) -> None:
    kind = TYPES.get(dtype)
    if kind is None or buffer.type not in (kind, f"atomic<{kind}>"):
        raise HostError("launch", f"{buffer.name} is {dtype}, the source was recorded for {buffer.type}")


def _bits(array: Array) -> np.ndarray:
    return array.array if isinstance(array, Bits) else array


def _dtype(array: Array) -> str:
    return array.dtype if isinstance(array, Bits) else array.dtype.name


def _spanned(name: str, array: np.ndarray) -> np.ndarray:
    """The memory from the array's first element to its last, as a flat array without a copy."""
    if any(stride < 0 for stride in array.strides):
        raise HostError("launch", f"{name} has a negative stride, so memory before its first element")
    if array.size == 0:
        return array.reshape(-1)
    last = sum((length - 1) * stride for length, stride in zip(array.shape, array.strides))
    count = last // array.itemsize + 1
    return np.lib.stride_tricks.as_strided(array, shape=(count,), strides=(array.itemsize,), writeable=False)


def _described(role: signature.Role, array: np.ndarray) -> np.ndarray:
    """What ``<input>_shape``, ``_strides`` (in elements) or ``_ndim`` point to."""
    if role == "shape":
        return np.array(array.shape, np.int32)
    if role == "strides":
        return np.array([stride // array.itemsize for stride in array.strides], np.int64)
    return np.array([array.ndim], np.int32)


def _empty(shape: Shape, dtype: str, init_value: float | None) -> np.ndarray:
    stored = np.dtype(np.uint16 if dtype == "bfloat16" else dtype)
    size = int(np.prod(shape, dtype=np.int64))
    if init_value is not None:
        if dtype == "bfloat16":
            return np.full(size, to_bfloat16(np.float32(init_value)), np.uint16)
        return np.full(size, init_value, stored)
    # All bits set is NaN in every floating-point type.
    byte = 0xFF if dtype == "bfloat16" or stored.kind in "fc" else 0xFB
    return np.full(size * stored.itemsize, byte, np.uint8).view(stored)


def to_bfloat16(values: np.ndarray | np.floating) -> np.ndarray:
    """Bits of float32 values rounded to bfloat16, to nearest and ties to even; NaN stays NaN."""
    values = np.asarray(values, np.float32)
    bits = values.view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), ((bits >> 16) | 0x40).astype(np.uint16), rounded)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """The float32 values of bfloat16 bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _alignment(array: np.ndarray) -> int:
    """Of the address that the kernel gets. MLX's allocations are aligned to 16 bytes or more on Metal, to 8 on a CPU;
    an array that begins at another address begins inside another one."""
    address = array.ctypes.data
    return 16 if address % 8 == 0 else address & -address


def _shaped(array: np.ndarray, shape: Shape, dtype: str) -> Array:
    shaped = array.reshape(shape)
    return Bits(shaped, dtype) if dtype == "bfloat16" else shaped


def _refuse_unwritten(parsed: signature.Signature, report: native.Report) -> None:
    for index, missing in report.unwritten.items():
        if missing:
            name = parsed.buffers[index].name
            raise HostError("unwritten", f"{missing} bytes of the output {name} are never written")


def _error(source: str, library: Path, report: native.Report) -> HostError:
    """The last problem is the one that ended a launch; the first is where a checked launch went wrong."""
    problem = report.problems[0]
    more = report.problem_count - 1
    detail = problem.message + (f" (and {more} more)" if more else "")
    if problem.thread is not None:
        detail += f"; thread {problem.thread} of threadgroup {problem.threadgroup}"
    return HostError(problem.kind, detail, _places(source, library, problem.code))


def _places(source: str, library: Path, code: tuple[int, ...]) -> tuple[str, ...]:
    places = native.symbolise(library, code)
    return diagnostics.lines(source, (line for file, line in places if Path(file).name == diagnostics.FILE))
