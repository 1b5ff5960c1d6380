"""Completes clang's instrumentation: its pass leaves loads and stores alone whose size is not 1, 2, 4, 8 or 16 bytes.

Such accesses are real: eight floats at once where a kernel uses ``vec<float, 8>``, and what the optimizer joins. They
are found in LLVM's textual form of the instrumented kernel, and get the calls that the pass would have made, one for
each part. What has no known size is refused, so no access to memory stays unseen. Only a thread's own stack does.
"""

from __future__ import annotations

import re

from .errors import HostError

_SEEN = (16, 8, 4, 2, 1)
"""Bytes of the accesses that clang's pass instruments."""

_BITS = {"half": 16, "bfloat": 16, "float": 32, "double": 64, "ptr": 64}
_NAME = r"[%@](?:[\w.$-]+|\"[^\"]*\")"
_TYPE = r"(<\d+ x [\w]+>|\w+|\[.*?\]|\{.*?\}|%[\w.$\"-]+)"
_LOAD = re.compile(rf"^\s+{_NAME} = load (?:volatile )?{_TYPE}, ptr ({_NAME})(.*)$")
_STORE = re.compile(rf"^\s+store (?!atomic )(?:volatile )?{_TYPE} .*, ptr ({_NAME})(?:, align .*)$")
_POINTER = re.compile(rf"^\s+({_NAME}) = (alloca|getelementptr)\b(.*)$")


def complete(listing: str) -> str:
    """``listing`` with a call before every access that the pass left out. Raises :class:`HostError`."""
    out: list[str] = []
    called: set[str] = set()
    stack: set[str] = set()
    for line in listing.split("\n"):
        if line.startswith("define "):
            stack = set()
        elif pointer := _POINTER.match(line):
            name, how, operands = pointer.groups()
            base = re.search(rf"ptr ({_NAME})", operands)
            if how == "alloca" or (base and base[1] in stack):
                stack.add(name)
        elif access := _LOAD.match(line) or _STORE.match(line):
            kind = "write" if line.lstrip().startswith("store") else "read"
            if access[2] not in stack:
                location = re.search(r", !dbg !\d+", line)
                calls = _calls(_bytes(access[1], line), kind, access[2], location[0] if location else "", len(out))
                called.update(re.findall(r"@(__tsan_\w+)", " ".join(calls)))
                out += calls
        out.append(line)
    missing = sorted(name for name in called if not re.search(rf"(?m)^declare .*@{name}\(", listing))
    return "\n".join([*out, *(f"declare void @{name}(ptr)" for name in missing), ""])


def _calls(size: int, kind: str, pointer: str, location: str, number: int) -> list[str]:
    if size in _SEEN:
        return []
    calls, offset = [], 0
    while offset < size:
        part = next(part for part in _SEEN if part <= size - offset)
        name = f"%msl.access.{number}.{offset}"
        calls.append(f"  {name} = getelementptr i8, ptr {pointer}, i64 {offset}")
        calls.append(f"  call void @__tsan_unaligned_{kind}{part}(ptr {name}){location}")
        offset += part
    return calls


def _bytes(kind: str, line: str) -> int:
    """Size in memory of a value of an LLVM type."""
    vector = re.fullmatch(r"<(\d+) x (\w+)>", kind)
    count, element = (int(vector[1]), vector[2]) if vector else (1, kind)
    bits = _BITS.get(element) or (int(element[1:]) if re.fullmatch(r"i\d+", element) else 0)
    if not bits:
        raise HostError("check", f"an access whose size is not known: {line.strip()}")
    return (count * bits + 7) // 8
