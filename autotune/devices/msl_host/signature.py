"""What MLX's generated source says about its kernel: name, parameters, template arguments; and the entry made from it.

MLX writes the signature (``write_signature`` in mlx/backend/common/metal_kernel.cpp); here it is read, never written
again, so that what runs on the host is called as MLX would call it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from .errors import HostError

Role = Literal["input", "shape", "strides", "ndim", "output"]

_KERNEL = re.compile(r"\[\[kernel\]\] void (custom_kernel_\w+)\(\n(.*?)\) \{\n", re.S)
_INSTANCE = re.compile(r"(?m)^template \[\[host_name\(\"\w+\"\)\]\] \[\[kernel\]\] decltype\(\w+(<.*>)\) .*;$")
_BUFFER = re.compile(r"(const )?(device|constant) (.+?)([*&]) (\w+) \[\[buffer\((\d+)\)\]\]")
_ATTRIBUTE = re.compile(r"(uint|uint3) (\w+) \[\[(\w+)\]\]")
_SAME_ATTRIBUTE = {"grid_size": "threads_per_grid", "thread_execution_width": "threads_per_simdgroup"}
"""Attributes that Metal has two names for; the runtime's contract has one."""


@dataclass(frozen=True)
class Buffer:
    """A parameter that is memory. ``type`` is the element's, as Metal spells it (``float16_t``, ``atomic<float>``);
    ``array`` is the input or output that it belongs to; a ``reference`` is one element, passed as ``T&``."""

    name: str
    role: Role
    array: str
    type: str
    space: Literal["device", "constant"]
    reference: bool

    @property
    def writable(self) -> bool:
        return self.role == "output"


@dataclass(frozen=True)
class Attribute:
    """A parameter that says where a thread is, such as ``uint3 thread_position_in_grid``."""

    name: str
    type: Literal["uint", "uint3"]


@dataclass(frozen=True)
class Signature:
    """A kernel's name, the template arguments of its instance (``<float16_t, 4>`` or nothing), and its parameters."""

    kernel: str
    arguments: str
    buffers: tuple[Buffer, ...]
    attributes: tuple[Attribute, ...]

    @property
    def inputs(self) -> tuple[Buffer, ...]:
        return tuple(buffer for buffer in self.buffers if buffer.role == "input")

    @property
    def outputs(self) -> tuple[Buffer, ...]:
        return tuple(buffer for buffer in self.buffers if buffer.role == "output")

    def entry(self) -> str:
        """The function that the runtime calls once for each thread of the grid, with the buffers' addresses.

        It is not instrumented: the addresses that it reads are the host's own.
        """
        values = [_argument(buffer, index) for index, buffer in enumerate(self.buffers)]
        values += [_value(attribute) for attribute in self.attributes]
        return (
            'extern "C" __attribute__((no_sanitize("thread"))) void __msl_entry(__global ulong* msl_buffers) {\n'
            f"  {self.kernel}{self.arguments}({', '.join(values)});\n"
            "}\n"
        )


def parse(source: str) -> Signature:
    """Reads a source that MLX generated. Raises :class:`HostError` where it is none."""
    found = list(_KERNEL.finditer(source))
    if not found:
        raise HostError("source", "no kernel of mx.fast.metal_kernel in the source")
    kernel, parameters = found[-1].groups()
    instance = _INSTANCE.search(source)
    buffers: list[Buffer] = []
    attributes: list[Attribute] = []
    for line in parameters.split(",\n"):
        text = line.strip()
        if match := _BUFFER.fullmatch(text):
            buffers.append(_buffer(match, buffers))
        elif match := _ATTRIBUTE.fullmatch(text):
            attributes.append(Attribute(match[2], match[1]))  # type: ignore[arg-type]
        else:
            raise HostError("source", f"parameter {text!r} is none that mx.fast.metal_kernel writes")
    return Signature(kernel, instance[1] if instance else "", tuple(buffers), tuple(attributes))


def without_instance(source: str) -> str:
    """The source without its line of explicit instantiation, whose attributes only Metal's compiler takes."""
    return _INSTANCE.sub("", source)


def body_line(source: str) -> int:
    """Number of the first line of the kernel's body, from 1."""
    return source[: list(_KERNEL.finditer(source))[-1].end()].count("\n") + 1


def _buffer(match: re.Match[str], before: list[Buffer]) -> Buffer:
    const, space, kind, declarator, name, index = match.groups()
    if int(index) != len(before):
        raise HostError("source", f"buffer {name} has the index {index} where {len(before)} is next")
    role: Role = "input" if const else "output"
    array = name
    # MLX spells the type of shapes `int`, and that of an input of integers `int32_t`.
    derived = re.fullmatch(r"(\w+)_(shape|strides|ndim)", name)
    if derived and before and before[-1].array == derived[1] and kind in ("int", "int64_t") and space == "constant":
        array, role = derived[1], derived[2]  # type: ignore[assignment]
    return Buffer(name, role, array, kind, space, declarator == "&")  # type: ignore[arg-type]


def _argument(buffer: Buffer, index: int) -> str:
    const = "" if buffer.writable else "const "
    pointer = f"reinterpret_cast<{const}{buffer.space} {buffer.type}*>(msl_buffers[{index}])"
    return "*" + pointer if buffer.reference else pointer


def _value(attribute: Attribute) -> str:
    number = "MSL_" + _SAME_ATTRIBUTE.get(attribute.name, attribute.name).upper()
    if attribute.type == "uint":
        return f"__msl_attr({number})"
    return f"uint3(__msl_attr({number}), __msl_attr({number} + 1), __msl_attr({number} + 2))"
