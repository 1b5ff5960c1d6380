"""From code addresses of a kernel to lines of its source, by the debug information that clang leaves in the object.

``-gline-tables-only`` is enough: it has the line of every instruction and the chain of calls that were inlined there.
Both are DWARF, which pyelftools reads.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Place = tuple[str, int]
"""File and line. The file is as the compiler was told it, ``#line`` included; ``("", 0)`` is an unknown place."""

_UNKNOWN: Place = ("", 0)
_HEADERS = str(Path(__file__).parent / "include")


def symbolise(library: Path, offsets: Sequence[int]) -> list[Place]:
    """For each offset in the shared object the innermost place that is not in the host's own headers: where an author
    wrote ``simd_sum``, not where the host spells it out. Unknown places where pyelftools is not installed."""
    return [next((p for p in frames(library, o) if not p[0].startswith(_HEADERS)), _UNKNOWN) for o in offsets]


def frames(library: Path, offset: int) -> list[Place]:
    """The place of the instruction at ``offset``, then the call that it was inlined by, and so on outwards."""
    table = _table(str(library))
    if table is None:
        return []
    calls = sorted((c for c in table.calls if c.low <= offset < c.high), key=lambda call: -call.depth)
    row = bisect.bisect_right(table.addresses, offset) - 1
    places = [table.places[row] if row >= 0 else _UNKNOWN]
    # A call may have several ranges around one address; one place for each depth.
    by_depth = {call.depth: call.place for call in calls}
    return [place for place in [*places, *by_depth.values()] if place != _UNKNOWN]


@dataclass(frozen=True)
class _Call:
    """An inlined call: its instructions, how deep it is nested, and where it was made."""

    low: int
    high: int
    depth: int
    place: Place


@dataclass(frozen=True)
class _Table:
    addresses: tuple[int, ...]
    """Where rows of the line table begin, ascending."""
    places: tuple[Place, ...]
    calls: tuple[_Call, ...]


@functools.lru_cache(maxsize=64)
def _table(library: str) -> _Table | None:
    try:
        from elftools.elf.elffile import ELFFile
    except ImportError:
        return None
    with open(library, "rb") as file:
        elf = ELFFile(file)
        if not elf.has_dwarf_info():
            return None
        dwarf = elf.get_dwarf_info()
        rows: dict[int, Place] = {}
        calls: list[_Call] = []
        for unit in dwarf.iter_CUs():
            program = dwarf.line_program_for_CU(unit)
            if program is None:
                continue
            files = _Files(program, unit["version"])
            rows.update(_rows(program, files))
            calls.extend(_calls(dwarf, unit, files))
    addresses = tuple(sorted(rows))
    return _Table(addresses, tuple(rows[address] for address in addresses), tuple(calls))


class _Files:
    """File names of a unit by number, which counts from 1 before DWARF 5."""

    def __init__(self, program: Any, version: int) -> None:
        self._first = 0 if version >= 5 else 1
        folders = [_text(folder) for folder in program["include_directory"]]
        if version < 5:
            folders.insert(0, "")  # the compilation's own, which is not listed
        self._names = [_joined(folders, entry) for entry in program["file_entry"]]

    def __getitem__(self, number: int) -> str:
        at = number - self._first
        return self._names[at] if 0 <= at < len(self._names) else ""


def _joined(folders: list[str], entry: Any) -> str:
    name, folder = _text(entry.name), folders[entry.dir_index] if entry.dir_index < len(folders) else ""
    # Names that `#line` gave lie nowhere; clang puts them into the folder of the compilation, number 0.
    return f"{folder}/{name}" if folder and entry.dir_index and not name.startswith("/") else name


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _rows(program: Any, files: _Files) -> Iterator[tuple[int, Place]]:
    known = _UNKNOWN
    for entry in program.get_entries():
        state = entry.state
        if state is None:
            continue
        # Line 0 is code that no line asked for; it goes with what stands before it.
        known = (files[state.file], state.line) if state.line and not state.end_sequence else known
        yield state.address, known if not state.end_sequence else _UNKNOWN


def _calls(dwarf: Any, unit: Any, files: _Files) -> Iterator[_Call]:
    def walk(die: Any, depth: int) -> Iterator[_Call]:
        inlined = die.tag == "DW_TAG_inlined_subroutine"
        if inlined and "DW_AT_call_line" in die.attributes:
            place = (files[die.attributes["DW_AT_call_file"].value], die.attributes["DW_AT_call_line"].value)
            for low, high in _ranges(dwarf, unit, die):
                yield _Call(low, high, depth, place)
        for child in die.iter_children():
            yield from walk(child, depth + inlined)

    yield from walk(unit.get_top_DIE(), 0)


def _ranges(dwarf: Any, unit: Any, die: Any) -> Iterator[tuple[int, int]]:
    attributes = die.attributes
    if "DW_AT_low_pc" in attributes:
        low, high = attributes["DW_AT_low_pc"].value, attributes["DW_AT_high_pc"]
        yield low, high.value if high.form == "DW_FORM_addr" else low + high.value
    elif "DW_AT_ranges" in attributes:
        top = unit.get_top_DIE().attributes
        base = top["DW_AT_low_pc"].value if "DW_AT_low_pc" in top else 0
        for entry in dwarf.range_lists().get_range_list_at_offset(attributes["DW_AT_ranges"].value, cu=unit):
            if hasattr(entry, "base_address"):
                base = entry.base_address
            else:
                offset = 0 if entry.is_absolute else base
                yield offset + entry.begin_offset, offset + entry.end_offset
