"""Deliberate errors, each of which the runtime of the MSL host must find: by its kind, at its line, in every schedule
where it does not depend on the schedule; and correct kernels that look like them, which it must let pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from autotune.devices.msl_host import native

from .runtime_kernels import CHECK, FENCE, IN_ORDER, REVERSE, compiled, launch, lines, problems

CHECKED = [CHECK, replace(CHECK, schedule=native.Schedule("reverse"))]
CHECKED += [replace(CHECK, schedule=native.Schedule("random", seed)) for seed in (1, 2)]
UNCHECKED = [IN_ORDER, REVERSE, native.Options(threads=4)]
TILE = "threadgroup float tile[64];\n"
BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);\n"
DEVICE_BARRIER = "threadgroup_barrier(mem_flags::mem_device);"


@dataclass(frozen=True)
class Case:
    """A body and what is expected of check mode: a kind, or nothing. ``line`` of the body must be named."""

    name: str
    body: str
    kind: str | None = None
    line: int | None = None
    grid: int = 64
    threadgroup: int = 64

    def __str__(self) -> str:
        return self.name


RACES = [
    Case("no barrier", TILE + "tile[i] = x[i];\ny[i] = tile[63 - i];", "race", 3),
    Case("a barrier", TILE + "tile[i] = x[i];\n" + BARRIER + "y[i] = tile[63 - i];"),
    Case(
        "barrier that orders nothing",
        TILE + "tile[i] = x[i];\nthreadgroup_barrier(mem_flags::mem_none);\ny[i] = tile[63 - i];",
        "race",
        4,
    ),
    Case(
        "barrier for device memory",
        TILE + "tile[i] = x[i];\nthreadgroup_barrier(mem_flags::mem_device);\ny[i] = tile[63 - i];",
        "race",
        4,
    ),
    Case("device memory, barrier for threadgroup memory", "y[i] = x[i];\n" + BARRIER + "y[i] += y[63 - i];", "race", 3),
    Case(
        "device memory, its barrier",
        "y[i] = x[i];\nthreadgroup_barrier(mem_flags::mem_device);\nfloat a = y[63 - i];\n"
        "threadgroup_barrier(mem_flags::mem_device);\ny[i] = a;",
    ),
    Case(
        "simdgroup barrier across simdgroups",
        TILE + "tile[i] = x[i];\nsimdgroup_barrier(mem_flags::mem_threadgroup);\ny[i] = tile[63 - i];",
        "race",
        4,
    ),
    Case(
        "simdgroup barrier within a simdgroup",
        TILE + "tile[i] = x[i];\nsimdgroup_barrier(mem_flags::mem_threadgroup);\ny[i] = tile[i ^ 1];",
    ),
    Case(
        "simdgroup barrier that orders nothing",
        TILE + "tile[i] = x[i];\nsimdgroup_barrier(mem_flags::mem_none);\ny[i] = tile[i ^ 1];",
        "race",
        4,
    ),
    Case(
        "an exchange is no barrier",
        TILE + "tile[i] = x[i];\nfloat a = simd_sum(1.0f);\ny[i] = a + tile[i ^ 1];",
        "race",
        4,
    ),
    Case(
        "no second barrier in a loop",
        TILE
        + "float a = 0;\nfor (int k = 0; k < 4; k++) {\ntile[i] = x[i];\n"
        + BARRIER
        + "a += tile[(i + 33) % 64];\n}\ny[i] = a;",
        "race",
        4,
    ),
    Case(
        "both barriers in a loop",
        TILE
        + "float a = 0;\nfor (int k = 0; k < 4; k++) {\ntile[i] = x[i];\n"
        + BARRIER
        + "a += tile[(i + 33) % 64];\n"
        + BARRIER
        + "}\ny[i] = a;",
    ),
    # Whoever reads last may be the one that writes: the readers before it count.
    Case(
        "write after an older reader of another simdgroup",
        TILE + "tile[i] = 1;\n" + BARRIER + "float a = tile[0];\nif (i == 32) tile[0] = a + 1;\ny[i] = a;",
        "race",
        5,
        33,
        33,
    ),
    Case(
        "write after an older reader of the same simdgroup",
        TILE + "tile[i] = 1;\n" + BARRIER + "float a = tile[0];\nif (i == 31) tile[0] = a + 1;\ny[i] = a;",
        "race",
        5,
        32,
        32,
    ),
    Case(
        "write after readers, a simdgroup barrier between",
        TILE
        + "tile[i] = 1;\n"
        + BARRIER
        + "float a = tile[0];\nsimdgroup_barrier(mem_flags::mem_threadgroup);\n"
        + "if (i == 31) tile[0] = a + 1;\ny[i] = a;",
        None,
        None,
        32,
        32,
    ),
    Case("two threads write one element", "y[0] = x[i];\ny[i + 0] = 1;", "race", 1),
    Case("two threadgroups write one element", "y[i] = x[i];", "race", 1, 128),
    Case("a threadgroup reads what another wrote", "if (group) y[32] = y[i];\nelse y[i] = x[i];", "race", None, 64, 32),
    Case(
        "a threadgroup writes what another read",
        "float a = y[i];\nif (group) y[i] = 1;\nelse y[i + 32] = a;",
        "race",
        2,
        64,
        32,
    ),
    Case("neighbours in one word", "((device uchar*)y)[i] = uchar(x[i]);"),
    Case("overlapping words", "*(device packed_float2*)(y + i % 63) = packed_float2(float2(1.0f, 2.0f));", "race", 1),
]


@pytest.mark.parametrize("case", RACES, ids=str)
def test_races(case: Case) -> None:
    for options in CHECKED:
        found = problems(case.body, options, grid=case.grid, threadgroup=case.threadgroup)
        # In an order in which the reader comes first, a race with the first write is a read of nothing.
        kinds = {problem.kind for problem in found} - {"uninitialised"}
        assert kinds == ({case.kind} if case.kind else set()), found
        if case.line:
            named = {line for problem in found for line in lines(case.body, problem)}
            assert case.line in named


def atomic(statement: str) -> str:
    return f"device atomic_uint* count = (device atomic_uint*)y;\n{statement}"


ADD = "atomic_fetch_add_explicit(count, 1u, memory_order_relaxed);\n"
SHARED = "threadgroup atomic_uint count;\n"
SHARED_ADD = "atomic_fetch_add_explicit(&count, 1u, memory_order_relaxed);\n"

ATOMICS = [
    Case("atomics alone", atomic(ADD + ADD), None, None, 128),
    Case("an atomic and a write", atomic(ADD + "if (i == 5) y[0] = 0;"), "race", 3),
    Case("an atomic and a read", atomic(ADD + "y[i + 1] = y[0];"), "race", 3, 32, 32),
    Case(
        "a plain read and an atomic load",
        atomic("y[i + 1] = y[0] + atomic_load_explicit(count, memory_order_relaxed);"),
        None,
        None,
        32,
        32,
    ),
    Case(
        "a write and an atomic load",
        atomic("if (i == 3) y[0] = 1;\ny[i + 1] = atomic_load_explicit(count, memory_order_relaxed);"),
        "race",
        None,
        32,
        32,
    ),
    Case(
        "threadgroup counter, set by one thread",
        SHARED + "if (i == 0) atomic_store_explicit(&count, 0u, memory_order_relaxed);\n" + BARRIER + SHARED_ADD,
    ),
    Case(
        "threadgroup counter, set by nobody",
        SHARED + "__msl_atomic_access((ulong)&count, 4, MSL_ATOMIC_UPDATE);",
        "uninitialised",
        2,
    ),
    Case(
        "barriers merged by the compiler",
        TILE
        + "tile[i] = x[i];\nthreadgroup_barrier(i < 32 ? mem_flags::mem_device : mem_flags::mem_threadgroup);\n"
        + "y[i] = tile[63 - i];",
        "race",
    ),
    Case(
        "atomic read of another threadgroup's write",
        atomic("if (group) y[i + 2] = atomic_load_explicit(count, memory_order_relaxed);\nelse if (i == 0) y[0] = 1;"),
        "race",
        None,
        64,
        32,
    ),
]


@pytest.mark.parametrize("case", ATOMICS, ids=str)
def test_atomics(case: Case) -> None:
    for options in CHECKED:
        found = problems(case.body, options, grid=case.grid, threadgroup=case.threadgroup)
        assert {problem.kind for problem in found} == ({case.kind} if case.kind else set()), found


def share(before: str, release: str, acquire: str, after: str) -> str:
    return f"""threadgroup uint last;
device float* part = y + 64;
part[group * 64 + i] = x[i];
{before}
if (i == 0) {{
  {release}
  last = atomic_fetch_add_explicit((device atomic_uint*)(y + 320), 1u, memory_order_relaxed);
  {acquire}
}}
threadgroup_barrier({after});
if (last == 3) {{ float sum = 0; for (uint k = 0; k < 4; k++) sum += part[k * 64 + i]; y[i] = sum; }}"""


BOTH = "mem_flags::mem_device | mem_flags::mem_threadgroup"


@pytest.mark.parametrize(
    "body",
    [
        share("", FENCE, FENCE, BOTH),
        share(DEVICE_BARRIER, "", FENCE, BOTH),
        share(DEVICE_BARRIER, FENCE, "", BOTH),
        share(DEVICE_BARRIER, FENCE, FENCE, "mem_flags::mem_threadgroup"),
        share(DEVICE_BARRIER, FENCE.replace("mem_device", "mem_threadgroup"), FENCE, BOTH),
        share(DEVICE_BARRIER, FENCE, FENCE, BOTH).replace("atomic_fetch_add_explicit(", "group; (void)("),
    ],
    ids=["no barrier before", "no release", "no acquire", "barrier after", "fence of the wrong kind", "no atomic"],
)
def test_sharing_work_needs_every_step(body: str) -> None:
    for options in CHECKED:
        y = np.zeros(321, np.float32)
        assert "race" in {problem.kind for problem in problems(body, options, grid=256, y=y)}


def test_uninitialised_threadgroup_memory() -> None:
    body = TILE + "if (i < 60) tile[i] = x[i];\n" + BARRIER + "y[i] = tile[63 - i];"
    for options in CHECKED:
        (problem,) = problems(body, options)
        assert problem.kind == "uninitialised"
        assert lines(body, problem) == [4]
    assert problems("y[i] = x[i];\n" + TILE + "y[i] += tile[i];")[0].kind == "uninitialised"
    # What one threadgroup left there is nothing to the next.
    body = TILE + "if (group == 0) tile[i] = 1;\n" + BARRIER + "y[group * 64 + i] = tile[i];"
    assert [problem.kind for problem in problems(body, grid=128, y=128)] == ["uninitialised"]


OUTSIDE = [
    ("y[i] = x[i + 1];", "buffer 0 (x): at byte 256 of its 256"),
    ("y[i] = x[i + 100000];", "buffer 0 (x)"),
    ("y[i] = x[int(i) - 1000000];", "buffer 0 (x): at byte -"),
    ("y[i + 1] = x[i];", "buffer 1 (y): at byte 256 of its 256"),
    ("threadgroup float tile[32];\ntile[i] = x[i];", "at byte 128 of its 128"),
    ("threadgroup float tile[64];\ntile[int(i) - 1000] = x[i];", "threadgroup variable"),
]


@pytest.mark.parametrize(("body", "told"), OUTSIDE)
def test_out_of_bounds(body: str, told: str) -> None:
    """Where a guard page is hit, without check mode too. Nothing but the launch ends."""
    for options in [*CHECKED, *UNCHECKED]:
        with pytest.raises(native.KernelFault) as fault:
            launch(body, options)
        problem = fault.value.report.problems[-1]
        assert problem.kind == "out-of-bounds"
        if options.schedule.order == "in-order" and options.threads < 2:
            assert told in problem.message
        assert lines(body, problem, check=options.check) == [body.count("\n") + 1]


def test_exact_bounds_where_a_page_does_not_tell() -> None:
    """A buffer's end that is no multiple of its alignment, its beginning, and the end of a threadgroup array."""
    x = np.zeros(61, np.float32)
    for body in ("y[i] = x[i + 1];", "y[i] = x[int(i) - 1];", "threadgroup float t[61]; t[i + 1] = 1;"):
        (problem,) = problems(body, CHECK, x=x, grid=61, threadgroup=61)
        assert problem.kind == "out-of-bounds"
    assert problems("y[i] = x[int(i) - 1];", replace(IN_ORDER, guard="start"))[0].kind == "out-of-bounds"


def test_another_thread_s_private_memory() -> None:
    body = "float own = x[i];\ny[i] = *(const device float*)((ulong)&own + 320 * 1024);"  # the distance of two stacks
    (problem,) = problems(body)
    assert problem.kind == "out-of-bounds"


def test_nothing_runs_after_a_fatal_problem() -> None:
    y = np.full(128, -1, np.float32)
    assert problems("if (group == 0) __msl_fail(1);\ny[group * 64 + i] = 1;", IN_ORDER, grid=128, y=y)
    np.testing.assert_array_equal(y, np.full(128, -1))


def test_a_cell_split_by_smaller_accesses_keeps_its_history() -> None:
    body = "if (i == 0) *(device float4*)y = 1.0f;\nif (i == 1) ((device uchar*)y)[15] = 1;"
    for options in CHECKED:
        assert [problem.kind for problem in problems(body, options)] == ["race"]


def test_writes_to_inputs() -> None:
    body = "((device float*)(ulong)x)[i] = 1;"
    for options in [*CHECKED, *UNCHECKED]:
        assert [problem.kind for problem in problems(body, options)] == ["read-only"]


LIMITS = [
    ("threadgroup float tile[8193]; tile[i] = 1; y[i] = tile[i];", {}, "threadgroup-memory"),
    ("y[i] = x[i];", {"grid": 2048, "threadgroup": 1025}, "threads"),
    ("y[i] = x[i];", {"grid": (64, 64, 64), "threadgroup": (16, 16, 8)}, "threads"),
    ("y[i] = x[i];", {"grid": 0}, "threads"),
]


@pytest.mark.parametrize(("body", "how", "kind"), LIMITS)
def test_limits(body: str, how: dict[str, object], kind: str) -> None:
    for options in (IN_ORDER, CHECK):
        assert [problem.kind for problem in problems(body, options, **how)] == [kind]


def test_the_threadgroup_limit_is_an_option() -> None:
    body = "threadgroup float tile[8193]; tile[i] = 1; y[i] = tile[i];"
    _, report = launch(body, replace(IN_ORDER, threadgroup_memory=65536))
    assert report.threadgroup_bytes == 8193 * 4 + 12  # rounded up to 16


DIVERGENT = [
    ("float a;\nif (i & 1) a = simd_sum(1.0f);\nelse a = simd_max(x[i]);\ny[i] = a;", {2, 3}),
    ("float a = 0;\nif (i < 16) a = simd_sum(1.0f);\n" + BARRIER + "y[i] = a;", {2, 3}),
    ("if (i < 16) " + BARRIER + "else simdgroup_barrier(mem_flags::mem_threadgroup);\ny[i] = 1;", {1, 2}),
    (
        "if (i < 32) {\n" + BARRIER + "y[i] = 1;\n} else {\nfloat a = x[i];\n" + BARRIER + "y[i] = 1.0f + a * 0.0f;\n}",
        {2, 6},
    ),
]


@pytest.mark.parametrize(("body", "named"), DIVERGENT)
def test_divergence_names_both_places(body: str, named: set[int]) -> None:
    for options in [*CHECKED, *UNCHECKED]:
        with pytest.raises(native.KernelFault) as fault:
            launch(body, options)
        problem = fault.value.report.problems[-1]
        assert problem.kind == "divergence"
        assert set(lines(body, problem, check=options.check)) == named


def test_barriers_in_both_branches_pass_where_they_are_only_counted() -> None:
    y, report = launch(DIVERGENT[3][0], replace(IN_ORDER, strict=False))
    assert report.problems == ()
    np.testing.assert_array_equal(y, np.ones(64))


def test_a_return_before_a_barrier() -> None:
    """Strictly an error in every schedule, whoever comes first; else the others pass."""
    body = "if (i % 32 >= 30) return;\n" + BARRIER + "y[i] = x[i];"
    for options in [*CHECKED, *UNCHECKED]:
        (problem,) = problems(body, options)
        assert problem.kind == "early-return"
        assert lines(body, problem, check=options.check) == [2]
        assert problems(body, replace(options, strict=False)) == ()
    body = body.replace("threadgroup_barrier", "simdgroup_barrier")
    assert [problem.kind for problem in problems(body, IN_ORDER)] == ["early-return"]


FAULTS = [
    ("volatile int zero = 0; y[i] = int(x[i]) / int(zero);", "fault"),
    ("if (x[i] > 5) __builtin_trap();", "fault"),
    ("y[i] = *(const device float*)(ulong)(i + 64);", "fault"),
    ("y[i] = float(*(const device uint*)((ulong)x + 2));", "misaligned"),
]


@pytest.mark.parametrize(("body", "kind"), FAULTS)
def test_faults(body: str, kind: str) -> None:
    for options in UNCHECKED if kind == "fault" else CHECKED:
        assert problems(body, options)[0].kind == kind


def test_a_stack_that_overflows() -> None:
    header = (
        "float deep(float a) { volatile float big[4096]; big[0] = a; return a > 1e9f ? 0.0f : deep(a + 1) + big[0]; }"
    )
    for options in (IN_ORDER, CHECK, native.Options(threads=2)):
        (problem,) = problems("y[i] = deep(x[i]);", options, header=header)
        assert problem.kind == "stack-overflow"


def test_a_fault_in_one_of_many_threadgroups() -> None:
    """On whatever OS thread it happens, it is that thread's launch that ends, and the next one runs."""
    body = "if (group == 77) y[i + 1000000] = 1;\nelse y[i] = x[i];"
    for _ in range(5):
        with pytest.raises(native.KernelFault) as fault:
            launch(body, native.Options(threads=4), grid=6400)
        (problem,) = fault.value.report.problems
        assert (problem.kind, problem.threadgroup) == ("out-of-bounds", (77, 0, 0))
        assert "threadgroup (77, 0, 0)" in str(fault.value)
    np.testing.assert_array_equal(launch("y[i] = x[i];", native.Options(threads=4))[0], np.arange(64))


def test_a_kernel_that_gives_up() -> None:
    (problem,) = problems("if (i == 3) __msl_fail(99);", IN_ORDER)
    assert (problem.kind, problem.thread) == ("failure", 3)
    assert "99" in problem.message


def test_problems_are_told_once_a_place_and_counted() -> None:
    body = "\n".join(f"y[{k}] = x[i];" for k in range(40))
    _, report = launch(body, CHECK)
    assert len(report.problems) == 32
    assert report.problem_count == 33


def test_kernels_that_cannot_be_loaded(tmp_path: Path) -> None:
    buffer = native.Buffer(np.zeros(4, np.float32))
    with pytest.raises(OSError, match="nothing"):
        native.run(tmp_path / "nothing.so", "f", [buffer], (1, 1, 1), (1, 1, 1))
    with pytest.raises(AttributeError):
        native.run(compiled("y[i] = 1;"), "not_there", [buffer], (1, 1, 1), (1, 1, 1))
