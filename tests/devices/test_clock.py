"""Clocks, on a GPU that is made of numbers: what it takes for a call and what the host takes to hand one over."""

from __future__ import annotations

from types import SimpleNamespace

import mlx.core as mx
import pytest

from autotune.devices import clock
from autotune.kernels import STOCK, Route

OTHER = Route("other")
PACE = 1e-9
STARTED = 3e9
"""Seconds since the GPU's clock began: its nanoseconds do not fit into a float's 53 bits."""


class Work:
    """Something for the GPU: when it is there is known from when it was handed over."""

    def __init__(self, seconds: float, hand_over: float = 0.0) -> None:
        self.seconds, self.hand_over, self.there = seconds, hand_over, None

    def __getitem__(self, at) -> Work:
        return Work(at[1].stop * PACE)

    def item(self) -> int:
        return int(STARTED * 1e9) + round(self.there * 1e9)


class Gpu:
    """Stands for ``mlx.core`` and for the host's clock.

    ``most`` calls fit into the queue; beyond that a program waits until nothing is under way. ``compile`` seconds are
    lost at the first calls. A program that waited goes on ``late`` seconds after what it waited for.
    """

    def __init__(
        self, call: float, hand_over: float, most: int = 1 << 30, compile: float = 0.0, late: float = 0.0
    ) -> None:
        self.call, self.each, self.most, self.compile, self.late = call, hand_over, most, compile, late
        self.now = self.free = 0.0
        self.gates: list[float] = []
        self.built: list[int] = []

    def build(self, calls: int) -> list[Work]:
        self.built.append(calls)
        return [Work(calls * self.call, calls * self.each)]

    def stamp(self) -> Work:
        return Work(0.0)

    def zeros(self, shape):
        return Work(0.0)

    def cumsum(self, row, axis):
        self.gates.append(row.seconds)
        return row

    def async_eval(self, works) -> None:
        for work in works if isinstance(works, list) else [works]:
            handing = work.hand_over + (self.compile if work.hand_over else 0.0)
            if work.hand_over:
                self.compile = 0.0
                if work.hand_over > self.most * self.each * (1 + 1e-9):
                    self.now = max(self.now, self.free)
            began = max(self.now + handing / 10, self.free)
            self.now += handing
            work.there = self.free = max(began + work.seconds, self.now)

    def eval(self, works) -> None:
        for work in works if isinstance(works, list) else [works]:
            if work.there is None:
                self.async_eval(work)
            waited = work.there > self.now
            self.now = max(self.now + 1e-7, work.there) + (self.late if waited else 0.0)

    def synchronize(self) -> None:
        self.now = max(self.now, self.free)


@pytest.fixture
def run(monkeypatch):
    """Seconds by a clock on a GPU."""

    def on(gpu: Gpu, calls: int, timer: clock.Clock | None = None, route: Route = STOCK) -> float:
        monkeypatch.setattr(clock, "mx", gpu)
        monkeypatch.setattr(clock, "_now", lambda: gpu.now)
        monkeypatch.setattr(clock, "_nanoseconds", Work.item)
        return (timer or clock.Gated(gpu.stamp)).seconds(route, gpu.build, calls)

    return on


@pytest.mark.parametrize("hand_over", [1e-7, 5e-6, 2e-5, 8e-5])
def test_the_gpus_time_whatever_the_host_takes(hand_over, run):
    assert run(Gpu(call=1e-5, hand_over=hand_over), 100) == pytest.approx(1e-3, rel=1e-3)


def test_without_gates_it_is_the_slower_ones(run):
    assert run(Gpu(call=1e-5, hand_over=2e-5), 100, clock.Plain()) == pytest.approx(2e-3, rel=1e-3)
    assert run(Gpu(call=1e-5, hand_over=1e-6), 100, clock.Plain()) == pytest.approx(1e-3, rel=0.02)


@pytest.mark.parametrize("late", [8e-5, 3e-4, 2e-3])
@pytest.mark.parametrize("calls", [1, 100])
def test_a_program_that_wakes_up_late_does_not_shorten_it(late, calls, run):
    assert run(Gpu(call=1e-5, hand_over=1e-5, late=late), calls) == pytest.approx(calls * 1e-5, rel=1e-3)


def test_gates_are_learned_for_each_route(run):
    gpu = Gpu(call=1e-5, hand_over=4e-5)
    timer = clock.Gated(gpu.stamp)
    run(gpu, 100, timer)
    first = len(gpu.gates)
    run(gpu, 100, timer)
    assert len(gpu.gates) == first + 1
    assert gpu.gates[-1] == pytest.approx(1.5 * 4e-3 + 2e-4, rel=0.01)
    gpu.each = 1e-6
    run(gpu, 100, timer, OTHER)
    assert gpu.gates[-1] == pytest.approx(1.5e-3 + 2e-4, rel=0.01)


def test_more_than_the_queue_takes_is_done_in_parts(run):
    gpu = Gpu(call=1e-5, hand_over=1e-5, most=40)
    timer = clock.Gated(gpu.stamp)
    assert run(gpu, 100, timer) == pytest.approx(1e-3, rel=1e-3)
    gpu.built.clear()
    assert run(gpu, 100, timer) == pytest.approx(1e-3, rel=1e-3)
    assert gpu.built == [25, 25, 25, 25]


def test_parts_are_a_routes_own(run):
    gpu = Gpu(call=1e-5, hand_over=1e-5, most=40)
    timer = clock.Gated(gpu.stamp)
    run(gpu, 100, timer)
    gpu.most = 1 << 30
    gpu.built.clear()
    run(gpu, 100, timer, OTHER)
    assert gpu.built == [100]


def test_a_host_that_was_held_up_once_does_not_cut_a_route_into_parts(run):
    gpu = Gpu(call=1e-5, hand_over=7e-5)
    timer = clock.Gated(gpu.stamp)
    run(gpu, 100, timer)
    gpu.compile = 0.1
    assert run(gpu, 100, timer) == pytest.approx(1e-3, rel=1e-3)
    assert set(gpu.built) == {100}


def test_what_no_gate_holds_for_is_timed_without(run):
    gpu = Gpu(call=1e-5, hand_over=1.0)
    assert run(gpu, 1) == pytest.approx(1.0, rel=1e-3)
    assert run(gpu, 3) == pytest.approx(3.0, rel=1e-3)


def test_what_is_compiled_first_does_not_count(run):
    assert run(Gpu(call=1e-5, hand_over=1e-6, compile=25.0), 10) == pytest.approx(1e-4, rel=1e-2)


def test_a_gate_is_no_shorter_and_no_longer_than_it_may(run):
    gpu = Gpu(call=1e-5, hand_over=1e-9)
    timer = clock.Gated(gpu.stamp)
    for _ in range(2):
        run(gpu, 1, timer)
    assert min(gpu.gates) >= clock.SHORTEST * PACE
    slow = Gpu(call=1e-5, hand_over=1.0)
    run(slow, 1)
    assert max(slow.gates) <= clock.LONGEST * PACE


@pytest.mark.parametrize(
    ("kind", "cuda", "asked", "found"),
    [
        (mx.cpu, False, "", clock.Plain),
        (mx.cpu, True, "", clock.Plain),
        (mx.gpu, True, "", clock.Gated),
        (mx.gpu, True, "0", clock.Plain),
        (mx.gpu, False, "", clock.Plain),
    ],
)
def test_the_clock_for_a_device(kind, cuda, asked, found, monkeypatch):
    monkeypatch.setattr(mx, "default_device", lambda: SimpleNamespace(type=kind))
    monkeypatch.setattr(mx.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(clock, "stamps", lambda: None)
    monkeypatch.setenv("AUTOTUNE_GATES", asked)
    assert isinstance(clock.here(), found)


def test_a_clock_that_cannot_be_read_says_how_to_do_without(monkeypatch):
    monkeypatch.setattr(mx.fast, "cuda_kernel", lambda *_: lambda **_: 1 / 0)
    with pytest.raises(RuntimeError, match=r"clock cannot be read .*; AUTOTUNE_GATES=0 times without it"):
        clock.stamps()


@pytest.mark.parametrize(
    ("backend", "asked", "name"),
    [("cuda", "", "stamped"), ("cuda", "0", "plain"), ("metal", "", "plain"), ("cpu", "1", "plain")],
)
def test_its_name(backend, asked, name, monkeypatch):
    monkeypatch.setenv("AUTOTUNE_GATES", asked)
    assert clock.name(backend) == name


def test_on_mlx_a_gate_holds_while_calls_are_handed_over_and_stamps_are_taken_around_them(monkeypatch):
    """MLX's CPU computes in a thread of its own, one thing after the other, and so can stand for a GPU here: stamps
    count what was evaluated before them."""
    evaluated: list[str] = []
    seen = mx.async_eval

    def keep(what):
        evaluated.append("calls" if isinstance(what, list) else "gate" if what.size > 1 else "stamp")
        seen(what)

    monkeypatch.setattr(mx, "async_eval", keep)
    stamps = iter([mx.array([5_000_000_000], mx.uint64), mx.array([5_000_250_000], mx.uint64)])
    timer = clock.Gated(lambda: next(stamps) + mx.array([0], mx.uint64))
    monkeypatch.setattr(timer, "_gate", lambda seconds: (mx.cumsum(mx.random.normal((1, 1 << 22)), axis=1), True))
    a = mx.random.normal((64, 64))
    mx.eval(a)
    assert timer.seconds(STOCK, lambda calls: [a @ a for _ in range(calls)], 8) == pytest.approx(250e-6)
    assert evaluated == ["gate", "stamp", "calls", "stamp"]
