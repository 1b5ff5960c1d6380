"""The simulated chip as a device: what a sweep sees of it."""

from statistics import pstdev

import pytest

from autotune.devices.base import RouteFailed
from autotune.devices.simulated import chip, model
from autotune.devices.simulated.device import NOISE, SimulatedDevice
from autotune.kernels import STOCK, Route
from autotune.problem import Problem

PROBLEM = Problem.parse("quantized_matmul M=3 N=13824 K=5120 f16 affine-b4-g64 nt")
PAD = Route.parse("pad multiple=8 fill=zeros")


def test_has_the_chips_identity_and_says_that_nothing_ran():
    machine = SimulatedDevice(chip.get("m5max"), "0.31.2").machine
    assert machine.identity == ("metal", "Apple M5 Max", "applegpu_g17s", 40, True)
    assert (machine.os, machine.mlx) == ("simulated", "0.31.2")


def test_times_are_the_models_with_the_link_of_a_chain():
    of = chip.get("m4pro")
    device = SimulatedDevice(of, "0.31.1", noise=0.0)
    for load, links in (("chained", 1), ("queued", 0)):
        session = device.open(PROBLEM, 1, load)
        expected = model.predict(PROBLEM, of, "0.31.1", PAD, load).seconds + links * of.constants.launch_us * 1e-6
        per_call = (session.time(PAD, 101) - session.time(PAD, 1)) / 100
        assert per_call == pytest.approx(expected)


def test_noise_is_small_and_the_seeds():
    device = SimulatedDevice(chip.get("m4pro"))
    one, same, other = (device.open(PROBLEM, seed, "chained") for seed in (1, 1, 2))
    times = [[session.time(STOCK, 50) for _ in range(200)] for session in (one, same, other)]
    assert times[0] == times[1] != times[2]
    mean = sum(times[0]) / 200
    assert pstdev(times[0]) / mean == pytest.approx(NOISE, rel=0.3)


def test_without_noise_the_seed_is_of_no_account():
    device = SimulatedDevice(chip.get("m4pro"), noise=0.0)
    times = {device.open(PROBLEM, seed, "chained").time(PAD, 50) for seed in range(5)}
    assert len(times) == 1


def test_every_route_is_as_right_as_stock():
    session = SimulatedDevice(chip.get("m4pro")).open(PROBLEM, 0, "chained")
    assert session.check(PAD) == session.check(STOCK)


def test_a_route_without_a_model_fails():
    session = SimulatedDevice(chip.get("m4pro")).open(PROBLEM, 0, "chained")
    with pytest.raises(RouteFailed, match="unknown kernel"):
        session.check(Route.parse("nonsense"))


def test_a_route_that_the_chip_cannot_run_fails():
    session = SimulatedDevice(chip.get("m4pro")).open(PROBLEM, 0, "chained")
    with pytest.raises(RouteFailed, match="no neural accelerators"):
        session.time(Route.parse("qmm_nax"), 1)


@pytest.mark.parametrize("error", [KeyError("rows"), ZeroDivisionError(), TypeError("x")])
def test_a_defect_of_the_model_is_no_failed_route(monkeypatch, error):
    def predict(*_):
        raise error

    monkeypatch.setattr(model, "predict", predict)
    with pytest.raises(type(error)):
        SimulatedDevice(chip.get("m4pro")).open(PROBLEM, 0, "chained").check(PAD)


def test_an_unknown_load_is_refused():
    with pytest.raises(ValueError, match="load"):
        SimulatedDevice(chip.get("m4pro")).open(PROBLEM, 0, "evaluated")
