"""The runtime's door: runs compiled kernels through the C++ library whose sources lie in ``runtime/``.

A kernel is a shared object with an entry point for one thread (``runtime/abi.h``). It runs on this machine's CPU, every
thread of a threadgroup a fiber, in memory that is a copy of the caller's arrays between guard pages. What would crash a
process (a fault, a stack that overflows, a division by zero) ends the launch and is reported; this process lives.

Without ``Options.check`` a launch is fast, uses all cores and finds what the schedule and the guard pages bring to
light. With it the kernel must have been compiled with clang's ThreadSanitizer pass, and bounds, races and
uninitialised reads are found exactly, whatever the schedule.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from . import toolchain
from .symbols import frames, symbolise

__all__ = ["KINDS", "Buffer", "KernelFault", "Options", "Problem", "Report", "Schedule", "frames", "run", "symbolise"]

KINDS = (
    "race",
    "uninitialised",
    "out-of-bounds",
    "read-only",
    "misaligned",
    "divergence",
    "early-return",
    "deadlock",
    "threadgroup-memory",
    "threads",
    "stack-overflow",
    "fault",
    "failure",
)
"""What can be wrong with a kernel, in the order of the runtime's numbers, which begin at 1.

``race``: two accesses of one byte, one of them a write, that no barrier orders. ``uninitialised``: threadgroup memory
read before anyone wrote it. ``out-of-bounds``, ``read-only``, ``misaligned``: accesses outside the memory given, to an
input, or at an address that the type forbids. ``divergence``: lanes of a simdgroup (or threads of a threadgroup) that
wait for each other at different places. ``early-return``: a barrier passed after some thread has returned.
``threadgroup-memory`` and ``threads``: more than the limits allow. ``stack-overflow`` and ``fault``: what else the CPU
refused. ``failure``: the headers or the runtime gave up.
"""

_ORDERS = ("in-order", "reverse", "random")
_MAX_PROBLEMS = 32


@dataclass(frozen=True)
class Schedule:
    """In which order lanes, simdgroups and threadgroups run between the places where they wait for each other.

    ``random`` draws from ``seed``. No schedule finds everything: in order, a missing barrier is nearly always
    invisible; the reverse order shows most, and check mode needs no luck.
    """

    order: Literal["in-order", "reverse", "random"] = "in-order"
    seed: int = 0


@dataclass(frozen=True)
class Options:
    """How to run a launch.

    ``check``: the kernel is instrumented. One OS thread then runs all, whatever ``threads`` says: the checker's memory
    is not locked, and it tells other threadgroups by their having run before.
    ``strict``: a barrier that some threads of the threadgroup never reach because they have returned, or that they
    reach at different places, is an error. MSL's specification says that a barrier "must be encountered by all threads
    in a threadgroup (or SIMD-group) executing the kernel"; hardware has been seen to let it pass when threads have
    returned. ``strict=False`` does what that hardware does.
    ``poison``: fill threadgroup memory with 0xFB before each threadgroup: huge finite numbers, which tests notice.
    ``threads``: OS threads, 0 for as many as there are usable cores.
    ``threadgroup_memory``: limit in bytes; 32 KiB on all Apple GPUs so far.
    ``guard``: whether buffers end at a guard page or begin at one. The former leaves up to 15 bytes unguarded where a
    size is no multiple of the buffer's alignment.
    """

    schedule: Schedule = Schedule()
    check: bool = False
    strict: bool = True
    poison: bool = True
    threads: int = 0
    threadgroup_memory: int = 32768
    guard: Literal["end", "start"] = "end"


@dataclass(frozen=True)
class Buffer:
    """An argument: a C-contiguous array of any dtype, copied in, and copied out after the launch if ``writable``.

    ``alignment``: of the address that the kernel sees, in bytes. 16 serves every MSL type and is what MLX's own
    allocations have; a smaller one stands for an array that begins inside another.
    """

    array: np.ndarray
    writable: bool = False
    name: str = ""
    alignment: int = 16


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. ``code``: offsets in the kernel's shared object (``symbolise``), the offending access or
    wait first, the other party's second where there is one. ``thread`` is an index in ``threadgroup``, or None."""

    kind: str
    message: str
    code: tuple[int, ...] = ()
    thread: int | None = None
    threadgroup: tuple[int, int, int] = (0, 0, 0)

    def __str__(self) -> str:
        where = "" if self.thread is None else f" (thread {self.thread} of threadgroup {self.threadgroup})"
        return f"{self.kind}: {self.message}{where}"


@dataclass(frozen=True)
class Report:
    """What a launch did. ``switches``: context switches. ``threadgroup_bytes``: of all threadgroup variables met.
    ``problems``: at most 32, one a kind and place; ``problem_count`` is 33 where there were more. ``unwritten``: in
    check mode, for each writable buffer by its position, the bytes that no thread wrote."""

    switches: int = 0
    threadgroup_bytes: int = 0
    problems: tuple[Problem, ...] = ()
    problem_count: int = 0
    unwritten: dict[int, int] = field(default_factory=dict)


class KernelFault(RuntimeError):
    """A launch that could not be finished. ``report.problems`` ends with the reason; the outputs are worthless."""

    def __init__(self, report: Report) -> None:
        super().__init__("\n".join(str(problem) for problem in report.problems))
        self.report = report


# ---- The runtime's structures (runtime/core.h).


class _Problem(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_uint32),
        ("fatal", ctypes.c_uint32),
        ("thread", ctypes.c_uint32),
        ("threadgroup", ctypes.c_uint32 * 3),
        ("code", ctypes.c_uint64 * 2),
        ("message", ctypes.c_char * 240),
    ]


class _Argument(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("bytes", ctypes.c_uint64),
        ("writable", ctypes.c_uint32),
        ("align", ctypes.c_uint32),
        ("unwritten", ctypes.c_uint64),
    ]


class _Launch(ctypes.Structure):
    _fields_ = [
        ("entry", ctypes.c_void_p),
        ("arguments", ctypes.POINTER(_Argument)),
        ("argument_count", ctypes.c_uint32),
        ("grid", ctypes.c_uint32 * 3),
        ("threadgroup", ctypes.c_uint32 * 3),
        ("order", ctypes.c_uint32),
        ("seed", ctypes.c_uint64),
        ("check", ctypes.c_uint32),
        ("strict", ctypes.c_uint32),
        ("poison", ctypes.c_uint32),
        ("threads", ctypes.c_uint32),
        ("threadgroup_memory", ctypes.c_uint32),
        ("guard_start", ctypes.c_uint32),
        ("switches", ctypes.c_uint64),
        ("threadgroup_bytes", ctypes.c_uint32),
        ("problem_count", ctypes.c_uint32),
        ("problems", _Problem * _MAX_PROBLEMS),
    ]


# ---- Loading.


@functools.cache
def _runtime() -> ctypes.CDLL:
    # Global, since kernels find the runtime's functions in it.
    loaded = ctypes.CDLL(str(toolchain.runtime_library()), mode=ctypes.RTLD_GLOBAL)
    loaded.msl_launch.argtypes = [ctypes.POINTER(_Launch)]
    loaded.msl_launch.restype = None
    return loaded


@functools.lru_cache(maxsize=256)
def _entry(kernel: str, entry: str) -> int:
    _runtime()
    address = ctypes.cast(getattr(ctypes.CDLL(kernel), entry), ctypes.c_void_p).value
    assert address is not None
    return address


def usable_cores() -> int:
    return len(os.sched_getaffinity(0))


# ---- Launching.


def run(
    kernel: Path,
    entry: str,
    buffers: Sequence[Buffer],
    grid: tuple[int, int, int],
    threadgroup: tuple[int, int, int],
    options: Options = Options(),
) -> Report:
    """Runs ``entry`` of the shared object ``kernel`` for every thread of ``grid``, as Metal's dispatchThreads does:
    ``grid`` counts threads, and the last threadgroup along an axis has what is left.

    Writable arrays are written in place. Raises KernelFault if the launch could not be finished, OSError if the kernel
    cannot be loaded, ValueError if an array is not C-contiguous or a writable one is read-only.
    """
    for buffer in buffers:
        if not buffer.array.flags.c_contiguous:
            raise ValueError(f"buffer {buffer.name!r} is not contiguous")
        if buffer.writable and not buffer.array.flags.writeable:
            raise ValueError(f"buffer {buffer.name!r} is an output and its array is read-only")
    arguments = (_Argument * max(len(buffers), 1))(
        *(_Argument(b.array.ctypes.data, b.array.nbytes, b.writable, b.alignment) for b in buffers)
    )
    launch = _Launch(
        entry=_entry(str(kernel), entry),
        arguments=arguments,
        argument_count=len(buffers),
        grid=tuple(grid),
        threadgroup=tuple(threadgroup),
        order=_ORDERS.index(options.schedule.order),
        seed=options.schedule.seed,
        check=options.check,
        strict=options.strict,
        poison=options.poison,
        threads=options.threads or usable_cores(),
        threadgroup_memory=options.threadgroup_memory,
        guard_start=options.guard == "start",
    )
    _runtime().msl_launch(ctypes.byref(launch))
    found = launch.problems[: min(launch.problem_count, _MAX_PROBLEMS)]
    report = Report(
        switches=launch.switches,
        threadgroup_bytes=launch.threadgroup_bytes,
        problems=tuple(_problem(problem, buffers) for problem in found),
        problem_count=launch.problem_count,
        unwritten={i: int(arguments[i].unwritten) for i, b in enumerate(buffers) if b.writable and options.check},
    )
    if any(problem.fatal for problem in found):
        raise KernelFault(report)
    return report


def _problem(raw: _Problem, buffers: Sequence[Buffer]) -> Problem:
    message = raw.message.decode(errors="replace")
    for i, buffer in enumerate(buffers):
        if buffer.name:
            message = message.replace(f"buffer {i},", f"buffer {i} ({buffer.name}),")
            message = message.replace(f"buffer {i}:", f"buffer {i} ({buffer.name}):")
    return Problem(
        kind=KINDS[raw.kind - 1],
        message=message,
        code=tuple(int(offset) for offset in raw.code if offset),
        thread=None if raw.thread == 0xFFFFFFFF else raw.thread,
        threadgroup=(raw.threadgroup[0], raw.threadgroup[1], raw.threadgroup[2]),
    )
