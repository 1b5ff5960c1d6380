"""Atomic operations and fences, under every schedule and in check mode."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from autotune.devices.msl_host import native
from autotune.devices.msl_host.host import MslHost

from .calls import SCHEDULES, Call


@pytest.mark.parametrize("options", SCHEDULES, ids=str)
def test_atomics_in_device_and_threadgroup_memory(options: native.Options) -> None:
    body = """
      const auto relaxed = memory_order_relaxed;
      threadgroup atomic_uint count;
      threadgroup atomic_int least;
      const uint i = thread_position_in_grid.x;
      if (thread_index_in_threadgroup == 0) {
        atomic_store_explicit(&count, 0u, relaxed);
        atomic_store_explicit(&least, 1000, relaxed);
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
      atomic_fetch_add_explicit(&count, 1u, relaxed);
      atomic_fetch_min_explicit(&least, int(i), relaxed);
      threadgroup_barrier(mem_flags::mem_threadgroup);
      if (thread_index_in_threadgroup == 0) {
        atomic_fetch_add_explicit(&y[0], float(atomic_load_explicit(&count, relaxed)), relaxed);
        atomic_fetch_add_explicit(&y[1], float(atomic_load_explicit(&least, relaxed)), relaxed);
      }
      atomic_fetch_add_explicit(&y[2], x[i], relaxed);
      float seen = atomic_load_explicit(&y[3], relaxed);
      while (!atomic_compare_exchange_weak_explicit(
          &y[3], &seen, max(seen, x[i]), relaxed, relaxed)) {
      }
    """
    x = np.arange(256, dtype=np.float32)
    call = Call(
        body,
        {"x": mx.array(x)},
        {"y": ((4,), mx.float32)},
        grid=(256, 1, 1),
        threadgroup=(64, 1, 1),
        atomic_outputs=True,
    )
    [y] = call.run(MslHost(options), init_value=0)
    np.testing.assert_array_equal(y, [256, 0 + 64 + 128 + 192, x.sum(), 255])


def test_the_last_group_may_read_what_the_others_wrote() -> None:
    """The pattern of a split-K product that finishes in one launch: write, fence, count, and the last one adds up."""
    body = """
      threadgroup uint turn;
      const uint lane = thread_index_in_threadgroup, group = threadgroup_position_in_grid.x;
      device atomic_uint* counter = (device atomic_uint*)count;
      partial[group * 32 + lane] = x[group * 32 + lane];
      atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device);
      threadgroup_barrier(mem_flags::mem_device);
      if (lane == 0) {
        turn = atomic_fetch_add_explicit(counter, 1u, memory_order_relaxed);
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
      if (turn == 3) {
        atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device);
        float sum = 0;
        for (uint g = 0; g < 4; g++) {
          sum += partial[g * 32 + lane];
        }
        y[lane] = sum;
      }
    """
    x = np.random.default_rng(1).integers(-9, 9, (4, 32)).astype(np.float32)
    outputs = {"y": ((32,), mx.float32), "partial": ((128,), mx.float32), "count": ((1,), mx.uint32)}
    call = Call(body, {"x": mx.array(x)}, outputs, grid=(128, 1, 1), threadgroup=(32, 1, 1))
    for options in SCHEDULES:
        np.testing.assert_array_equal(call.run(MslHost(options), init_value=0)[0], x.sum(0))
