"""How long a sweep takes at the least, from plans and speeds that are given."""

from __future__ import annotations

import pytest
from fakes import FakeDevice, costs

from autotune.problem import Problem
from autotune.search import space
from autotune.search.estimate import LONG, PROBES, Estimate, estimate, speeds
from autotune.search.measure import EFFORTS
from autotune.search.plan import Plan

STANDARD = EFFORTS["standard"]
PROBLEM = Problem.parse("quantized_matmul M=3 N=512 K=512 f16 affine-b4-g64 nt")
DENSE = Problem.parse("matmul M=3 N=512 K=512 f16 nt")
EVALUATION = STANDARD.seconds


def of(*problems, backend="cpu", nax=False, timeout=120.0, calls=None, **plan):
    known = calls or {}
    return estimate(Plan(problems, STANDARD, **plan), backend, nax, timeout, lambda problem: known.get(problem, 0.0))


def test_all_routes_of_kernels_that_are_measured_whole():
    legal = len(space.legal_routes(PROBLEM, "cpu"))
    evaluations = legal * (4 * STANDARD.screen + 4) + 4 * STANDARD.final * (1 + STANDARD.finalists)
    assert of(PROBLEM) == Estimate(legal, pytest.approx(evaluations * EVALUATION), 0)


def test_of_the_others_as_many_as_the_effort_has():
    legal = space.legal_routes(PROBLEM, "metal", nax=True)
    whole = space.legal_routes(PROBLEM, "metal", space.dealt_out(), nax=True)
    assert len(legal) > len(whole) + STANDARD.searched
    assert of(PROBLEM, backend="metal", nax=True).routes == len(whole) + STANDARD.searched


def test_a_searched_space_that_is_smaller_than_that_is_counted_whole():
    few = space.legal_routes(PROBLEM.with_m(1), "metal", ("qmv",))
    some = list(space.some_legal(space.kernels.kernel("qmv"), PROBLEM.with_m(1), "metal"))
    assert len(some) == len(few) - 1
    assert of(PROBLEM.with_m(1), backend="metal", kernels=("qmv",)).routes == min(len(few), STANDARD.searched + 1)


def test_some_kernels_and_some_trials():
    assert of(PROBLEM, kernels=("upcast",)).routes == 2  # stock and itself
    assert of(PROBLEM, DENSE, trials=3).routes == 6


def test_a_slow_stock_call_is_counted_for_stock_against_itself():
    longer = of(PROBLEM, calls={PROBLEM: 1.0}).seconds - of(PROBLEM).seconds
    assert longer == pytest.approx((4 * STANDARD.final + 4) * (1.0 - EVALUATION))
    assert of(PROBLEM, calls={PROBLEM: EVALUATION / 2}) == of(PROBLEM)


def test_a_call_beyond_the_watchdog_costs_its_patience():
    assert of(PROBLEM, calls={PROBLEM: 121.0}) == Estimate(of(PROBLEM).routes, 120.0, 1)


class TestSpeeds:
    def test_each_kind_is_timed_once_and_scaled(self):
        device = FakeDevice(costs(0.0))
        device.seconds = lambda problem, route: problem.flops * (2e-8 if problem.quantization else 1e-8)
        others = [PROBLEM.with_m(64), DENSE, PROBLEM]
        known = speeds(device, [PROBLEM, *others])
        assert {text for text, *_ in device.opened} == {
            "quantized_matmul M=16 N=256 K=512 f16 affine-b4-g64 nt",
            "matmul M=16 N=256 K=512 f16 nt",
        }
        for problem in others:
            assert known(problem) == pytest.approx(problem.flops * (2e-8 if problem.quantization else 1e-8))

    def test_a_probe_that_is_over_at_once_is_followed_by_a_larger_one(self):
        device = FakeDevice(lambda problem, route: LONG / 10 if problem.m == PROBES[0][0] else 1.0)
        known = speeds(device, [DENSE])
        m, n, k = PROBES[1]
        assert known(DENSE) == pytest.approx(DENSE.flops / (2 * m * n * k))
        assert len(device.opened) == 2
