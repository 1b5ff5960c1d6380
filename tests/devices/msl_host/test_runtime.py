"""The runtime of the MSL host: schedules, threads, attributes, exchanges, buffers, limits, what a launch reports."""

from __future__ import annotations

import faulthandler
import os
import signal

import numpy as np
import pytest

from autotune.devices.msl_host import native

from .runtime_kernels import CHECK, FENCE, IN_ORDER, REVERSE, compiled, launch, lines

SCHEDULES = [
    IN_ORDER,
    REVERSE,
    *(native.Options(native.Schedule("random", seed), threads=1) for seed in (1, 2)),
    native.Options(threads=2),
    native.Options(native.Schedule("random", 3), threads=3),
    CHECK,
    native.Options(native.Schedule("random", 4), check=True),
]

REVERSE_IN_THREADGROUP = """threadgroup float tile[64];
tile[i] = x[i] + float(group);
threadgroup_barrier(mem_flags::mem_threadgroup);
y[group * 64 + i] = tile[63 - i] + simd_sum(float(lane));
"""


@pytest.mark.parametrize("options", SCHEDULES, ids=str)
def test_every_schedule_gives_the_same_result(options: native.Options) -> None:
    y, report = launch(REVERSE_IN_THREADGROUP, options, grid=64 * 20, y=64 * 20)
    expected = np.arange(63, -1, -1)[None, :] + np.arange(20)[:, None] + sum(range(32))
    np.testing.assert_array_equal(y.reshape(20, 64), expected)
    assert report.problems == ()
    assert report.threadgroup_bytes == 256
    # Every thread is begun once, and waits at one barrier and one exchange, at which the last to come may go on.
    assert 20 * 64 <= report.switches <= 20 * 64 * 3


TRACE = "y[__atomic_fetch_add((device uint*)(y + 200), 1u, __ATOMIC_SEQ_CST)] = float(group * 64 + i);"


def order(options: native.Options) -> list[int]:
    y = np.zeros(201, np.float32)
    launch(TRACE, options, grid=192, y=y)
    return [int(thread) for thread in y[:192]]


def test_schedules_run_threads_in_their_order() -> None:
    assert order(IN_ORDER) == list(range(192))
    assert order(REVERSE) == list(range(191, -1, -1))
    shuffled = order(native.Options(native.Schedule("random", 5), threads=1))
    assert sorted(shuffled) == list(range(192))
    assert shuffled == order(native.Options(native.Schedule("random", 5), threads=1))
    assert shuffled != order(native.Options(native.Schedule("random", 6), threads=1))
    threadgroups = [thread // 64 for thread in shuffled]
    assert threadgroups == sorted(threadgroups, key=threadgroups.index)  # one at a time


def test_a_missing_barrier_shows_in_one_order_and_not_in_the_other() -> None:
    body = "threadgroup float tile[64]; tile[i] = x[i]; y[i] = i < 32 ? 0.0f : tile[i - 32];"
    expected = np.concatenate([np.zeros(32), np.arange(32)])
    np.testing.assert_array_equal(launch(body, IN_ORDER)[0], expected)
    poison = np.full(4, 0xFB, np.uint8).view(np.float32)[0]
    np.testing.assert_array_equal(launch(body, REVERSE)[0][32:], np.full(32, poison))


def test_attributes_of_a_ragged_grid() -> None:
    """Metal's dispatchThreads: the last threadgroup along an axis has what is left of the grid."""
    grid, threadgroup = (7, 5, 2), (4, 2, 8)
    body = """uint at = ((__msl_attr(14) * 5 + __msl_attr(13)) * 7 + __msl_attr(12)) * 36;
for (uint k = 0; k < 36; k++) y[at + k] = float(__msl_attr(k));
"""
    y, _ = launch(body, grid=grid, threadgroup=threadgroup, y=70 * 36)
    launched = np.minimum(threadgroup, grid)
    for number, (z, row, column) in enumerate(np.ndindex(2, 5, 7)):
        position = np.array([column, row, z])
        group, local = position // launched, position % launched
        size = np.minimum(launched, grid - group * launched)
        index = (local[2] * size[1] + local[1]) * size[0] + local[0]
        threads = size.prod()
        scalars = [index % 32, index // 32, index, -(-threads // 32), 1, 32, index // 4, -(-threads // 4), index % 4, 4]
        groups = -(-np.array(grid) // launched)
        vectors = [position, local, group, groups, grid, size, launched, (0, 0, 0)]
        expected = np.concatenate([scalars, (0, 0), *vectors])
        np.testing.assert_array_equal(y.reshape(70, 36)[number], expected, err_msg=str(position))


def test_an_exchange_sees_the_lanes_that_live() -> None:
    # Threads 32..39 are a simdgroup of their own, of which 36..39 return before.
    body = """if (i >= 36) return;
y[i] = simd_sum(1.0f) * 100.0f + simd_max(x[i]);"""
    for options in SCHEDULES:
        y, _ = launch(body, options, grid=40, threadgroup=40, y=40)
        np.testing.assert_array_equal(y, [3231] * 32 + [435] * 4 + [-1] * 4)


def test_exchanges_do_not_overtake_each_other() -> None:
    body = """float a = x[i];
for (uint k = 0; k < 100; k++) a = simd_shuffle(a, (lane + 1) % 32) + 1.0f;
y[i] = a;"""
    expected = (np.arange(64).reshape(2, 32)[:, (np.arange(32) + 100) % 32] + 100).reshape(-1)
    for options in SCHEDULES:
        np.testing.assert_array_equal(launch(body, options)[0], expected)


def test_the_matrix_product() -> None:
    body = """simdgroup_matrix<float, 8, 8> a, b, d;
simdgroup_load(a, x, 8); simdgroup_load(b, x + 64, 8);
simdgroup_multiply(d, a, b);
simdgroup_store(d, y, 8);"""
    x = np.random.default_rng(1).integers(-8, 8, 128).astype(np.float32)
    a, b = x.reshape(2, 8, 8).astype(np.float64)
    y, _ = launch(body, grid=32, threadgroup=32, x=x)
    np.testing.assert_array_equal(y.reshape(8, 8), a @ b)  # small integers: exact


def test_atomics_of_several_os_threads_are_atomic() -> None:
    body = "atomic_fetch_add_explicit((device atomic_uint*)y, 1u, memory_order_relaxed);"
    for options in (native.Options(threads=4), CHECK):
        y = np.zeros(1, np.float32)
        launch(body, options, grid=64 * 500, y=y)
        assert y.view(np.uint32)[0] == 64 * 500


def test_threadgroups_may_share_work_through_fences() -> None:
    """The last threadgroup adds up what all have left in device memory: release, count, acquire."""
    body = f"""threadgroup uint last;
device float* part = y + 64;
part[group * 64 + i] = x[i] * float(group + 1);
threadgroup_barrier(mem_flags::mem_device);
if (i == 0) {{
  {FENCE}
  last = atomic_fetch_add_explicit((device atomic_uint*)(y + 320), 1u, memory_order_relaxed);
  {FENCE}
}}
threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);
if (last == 3) {{ float sum = 0; for (uint k = 0; k < 4; k++) sum += part[k * 64 + i]; y[i] = sum; }}"""
    for options in SCHEDULES:
        y, report = launch(body, options, grid=256, y=np.zeros(321, np.float32))
        assert report.problems == ()
        np.testing.assert_array_equal(y[:64], np.arange(64) * 10)


def test_poison_comes_back_for_every_threadgroup() -> None:
    body = "threadgroup uint tile[64]; y[group * 64 + i] = as_type<float>(tile[i]); tile[i] = 1;"
    y, _ = launch(body, grid=128, y=128)
    assert set(y.view(np.uint32)) == {0xFBFBFBFB}
    y, _ = launch(body, native.Options(threads=1, poison=False), grid=128, y=128)
    assert set(y.view(np.uint32)[64:]) == {1}


def test_arrays_of_any_kind_come_and_go() -> None:
    body = "((device ushort*)y)[i] = ((const device ushort*)x)[i] + 1;"
    x = np.arange(60, dtype=np.uint16)
    for guard in ("end", "start"):
        y = np.zeros((4, 16), np.uint16)
        launch(body, native.Options(guard=guard), grid=60, x=x, y=y)  # type: ignore[arg-type]
        np.testing.assert_array_equal(y.reshape(-1), [*range(1, 61), 0, 0, 0, 0])
    np.testing.assert_array_equal(x, np.arange(60))


def test_alignment_is_what_was_asked_for() -> None:
    library = compiled("y[0] = float((ulong)x % 64);")
    for alignment, expected in ((4, 52), (16, 48)):
        x, y = np.zeros(3, np.float32), np.zeros(1, np.float32)
        buffers = [native.Buffer(x, alignment=alignment), native.Buffer(y, writable=True)]
        native.run(library, "__msl_entry", buffers, (1, 1, 1), (1, 1, 1))
        assert y[0] == expected  # 12 bytes before a page's end, or the multiple of 16 below


def test_bytes_that_nobody_wrote_are_counted() -> None:
    _, report = launch("if (i % 4) y[i] = x[i];", CHECK, grid=60, threadgroup=60)
    assert report.unwritten == {1: 4 * (60 // 4 + 4)}
    assert launch("y[i] = x[i];", CHECK)[1].unwritten == {1: 0}
    assert launch("y[i] = x[i];")[1].unwritten == {}


def test_threadgroups_of_any_legal_size() -> None:
    body = "threadgroup float tile[1024]; tile[i] = float(i); threadgroup_barrier(mem_flags::mem_threadgroup);\n"
    body += "y[i] = tile[__msl_attr(MSL_THREADS_PER_THREADGROUP) - 1 - i];"
    for size in (1, 31, 33, 1024):
        for options in (IN_ORDER, REVERSE, CHECK):
            y, _ = launch(body, options, grid=size, threadgroup=size, y=size)
            np.testing.assert_array_equal(y, np.arange(size - 1, -1, -1))


def test_arrays_must_fit_the_contract() -> None:
    library = compiled("y[0] = 1;")
    frozen = np.zeros(4, np.float32)
    frozen.flags.writeable = False
    for buffer in (native.Buffer(np.zeros((4, 4), np.float32).T[1:]), native.Buffer(frozen, writable=True)):
        with pytest.raises(ValueError, match="buffer"):
            native.run(library, "__msl_entry", [buffer, buffer], (1, 1, 1), (1, 1, 1))


def test_signal_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGFPE)
    enabled = faulthandler.is_enabled()
    with pytest.raises(native.KernelFault):
        launch("y[i + 100000] = 1;")
    assert signal.getsignal(signal.SIGFPE) is before
    assert faulthandler.is_enabled() is enabled
    launch("y[i] = x[i];")  # and the runtime is as before


def test_usable_cores() -> None:
    assert 1 <= native.usable_cores() <= (os.cpu_count() or 1)


def test_places_are_the_author_s_lines() -> None:
    """A wait inside one of the host's headers is where the author called it, through a function of the author's."""
    body = "\nif (i < 16)\n  y[i] = twice(x[i]);\nelse\n  y[i] = simd_max(x[i]);"
    header = "inline float twice(float a) { return 2.0f * simd_sum(a); }"
    with pytest.raises(native.KernelFault) as fault:
        launch(body, header=header, grid=32, threadgroup=32)
    (problem,) = fault.value.report.problems
    found = [
        places
        for offset in problem.code
        for places in [native.frames(compiled(body, header), offset)]
        if any(place == ("kernel.metal", 3) for place in places)
    ]
    assert len(problem.code) == 2
    assert len(found) == 1
    assert 5 in lines(body, problem, header, check=False)
