"""One launch's bounds, against numbers worked out by hand."""

import math
from dataclasses import replace

import pytest

from autotune.devices.simulated import chip
from autotune.devices.simulated.work import LANES, MATRIX, NAX, Launch, Task, norm, part, resident

CHIP = replace(
    chip.get("m4pro").with_constants(
        lanes=100, matrix=0.5, nax=1000, nax_share=0.5, dram=0.5, cache=2, core_bytes=1e9, tail=0.5,
        step_us=1, step_direct_us=0.5, far_us=0, sharp=1000, blunt=1,
    ),
    cores=10, clock=1e9, bandwidth=100e9, cache_bytes=1e6,
)  # fmt: skip


def launch(**changes):
    return replace(Launch("kernel", groups=10, simdgroups=4, resident=2, tasks=()), **changes)


class TestBounds:
    def test_cold_weights_come_from_memory(self):
        found = part(launch(weights=5e5), CHIP, hot=False, gap=0)
        assert found.bounds["memory"] == pytest.approx(5e5 / 50e9)
        assert found.rules == "memory"

    def test_hot_weights_that_fit_come_from_the_cache(self):
        found = part(launch(weights=5e5), CHIP, hot=True, gap=0)
        assert (found.bounds["memory"], found.bounds["cache"]) == (0, pytest.approx(5e5 / 200e9))

    def test_hot_weights_that_do_not_fit_come_from_memory(self):
        assert part(launch(weights=2e6), CHIP, hot=True, gap=0).bounds["memory"] == pytest.approx(2e6 / 50e9)

    def test_a_byte_written_to_memory_costs_more(self):
        read = part(launch(other=2e6), CHIP, hot=False, gap=0).bounds["memory"]
        written = part(launch(other=2e6, written=1e6), CHIP, hot=False, gap=0).bounds["memory"]
        assert written / read == pytest.approx(1 + (CHIP.constants.write - 1) / 2)

    @pytest.mark.parametrize(("unit", "rate"), [(LANES, 100), (MATRIX, 50), (NAX, 500)])
    def test_arithmetic_goes_at_its_units_rate_on_all_cores(self, unit, rate):
        found = part(launch(tasks=(Task("work", unit, 1e6),)), CHIP, hot=False, gap=0)
        assert found.bounds[unit] == found.tasks["work"] == pytest.approx(1e6 / rate / 10 / 1e9)
        assert found.rules == unit

    def test_fewer_threadgroups_than_cores_leave_cores_idle(self):
        work = (Task("work", LANES, 1e6),)
        one, ten = (part(launch(groups=n, tasks=work), CHIP, hot=False, gap=0).bounds[LANES] for n in (1, 10))
        assert one == pytest.approx(10 * ten)

    def test_the_busiest_core_has_more_than_its_share(self):
        work = (Task("work", LANES, 1e6),)
        even, more = (part(launch(groups=n, tasks=work), CHIP, hot=False, gap=0).bounds[LANES] for n in (10, 20))
        assert more / even == pytest.approx((2 + 0.5) / 2)

    def test_the_gap_adds_to_whatever_else_there_is(self):
        alone = part(launch(weights=5e5), CHIP, hot=False, gap=0).seconds
        assert part(launch(weights=5e5), CHIP, hot=False, gap=1e-6).seconds == pytest.approx(alone + 1e-6)


class TestWaiting:
    def test_a_threadgroup_alone_waits_at_every_step(self):
        found = part(launch(steps=8, direct=False), CHIP, hot=False, gap=0)
        assert found.bounds["waiting"] == pytest.approx(8e-6)

    def test_others_on_the_core_fill_the_wait(self):
        work = (Task("work", LANES, 100 * 1e9 * 20 * 8e-6),)  # 8 us for each of 20 threadgroups, 1 us a step
        found = part(launch(groups=20, steps=8, direct=False, tasks=work), CHIP, hot=False, gap=0)
        assert found.bounds["waiting"] == 0

    def test_without_barriers_the_other_simdgroups_fill_it_too(self):
        work = (
            Task("work", LANES, 100 * 1e9 * 10 * 4e-6),
        )  # 4 us for each of 10, a sixteenth of it a simdgroup's step
        staged = part(launch(steps=4, direct=False, tasks=work), CHIP, hot=False, gap=0).bounds["waiting"]
        direct = part(launch(steps=4, direct=True, tasks=work), CHIP, hot=False, gap=0).bounds["waiting"]
        assert (staged, direct) == (pytest.approx(4e-6), 0)

    def test_what_comes_from_memory_is_waited_for_longer(self):
        there = CHIP.with_constants(far_us=2)
        cold, hot = (
            part(launch(steps=2, weights=1e5), there, hot=hot, gap=0).bounds["waiting"] for hot in (False, True)
        )
        assert cold - hot == pytest.approx(4e-6)


def test_norm_goes_from_the_sum_to_the_largest():
    assert norm((3.0, 4.0), 1) == pytest.approx(7)
    assert norm((3.0, 4.0), 2) == pytest.approx(5)
    assert norm((3.0, 4.0), 100) == pytest.approx(4)
    assert norm((0.0, 0.0), 2) == 0
    assert not math.isnan(norm((0.0, 1.0), 7))


def test_resident_is_bounded_by_simdgroups_registers_and_memory():
    assert resident(4, 16) == 6
    assert resident(4, 256) == 3
    assert resident(4, 16, 32 << 10) == 1
    assert resident(32, 256) == 1
