"""Accesses that clang's pass leaves out get their calls; those that it does not, and the stack, get none."""

from __future__ import annotations

import re

import pytest

from autotune.devices.msl_host import instrument
from autotune.devices.msl_host.errors import HostError


def calls(*instructions: str) -> list[tuple[str, int]]:
    """The calls added to a function of these instructions, with their offsets."""
    body = "\n".join("  " + instruction for instruction in instructions)
    listing = instrument.complete(f"define void @f(ptr %p, ptr %q) {{\n{body}\n  ret void\n}}\n")
    offsets = re.findall(r"getelementptr i8, ptr %\w+, i64 (\d+)", listing)
    return list(zip(re.findall(r"call void @__tsan_unaligned_(\w+)\(", listing), map(int, offsets)))


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("%v = load <8 x float>, ptr %p, align 32, !dbg !7", [("read16", 0), ("read16", 16)]),
        ("store <3 x half> %v, ptr %p, align 8", [("write4", 0), ("write2", 4)]),
        ("%v = load volatile i24, ptr %p, align 1", [("read2", 0), ("read1", 2)]),
        ("%v = load <4 x float>, ptr %p, align 16", []),
        ("store i64 %v, ptr %p, align 8", []),
        ("store ptr %q, ptr %p, align 8", []),
        ("store atomic i32 %v, ptr %p seq_cst, align 4", []),
        ("%v = load atomic i32, ptr %p seq_cst, align 4", []),
    ],
)
def test_sizes(instruction: str, expected: list[tuple[str, int]]) -> None:
    assert calls(instruction) == expected


def test_the_stack_is_left_alone_and_what_it_points_to_is_not() -> None:
    on_stack = ["%a = alloca [64 x i8], align 32", "%b = getelementptr inbounds i8, ptr %a, i64 32"]
    assert calls(*on_stack, "%v = load <8 x float>, ptr %b, align 32") == []
    assert calls(*on_stack, "%q1 = load ptr, ptr %b, align 8", "%v = load <8 x float>, ptr %q1, align 32") != []


def test_a_call_has_the_line_of_its_access() -> None:
    listing = instrument.complete("define void @f(ptr %p) {\n  %v = load i96, ptr %p, align 4, !dbg !12\n}\n")
    assert re.search(r"call void @__tsan_unaligned_read8\(ptr %\S+\), !dbg !12", listing)
    assert "declare void @__tsan_unaligned_read8(ptr)" in listing


def test_what_has_no_known_size_is_refused() -> None:
    with pytest.raises(HostError, match="size is not known"):
        calls("%v = load { i64, <8 x float> }, ptr %p, align 32")
