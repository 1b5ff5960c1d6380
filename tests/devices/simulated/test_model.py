"""The model's predictions: what must hold whatever the constants are, and what the published steps look like."""

from dataclasses import replace
from itertools import pairwise

import pytest

from autotune.devices.simulated import chip, families, model
from autotune.errors import UsageError
from autotune.kernels import KERNELS, Route
from autotune.problem import Problem
from autotune.search import space

WIDE = "quantized_matmul M={} N=13824 K=5120 f16 affine-b4-g64 nt"
PROBLEMS = [
    "quantized_matmul M=3 N=13824 K=5120 f16 affine-b4-g64 nt",
    "quantized_matmul M=100 N=1024 K=5120 bf16 affine-b3-g32 nt",
    "quantized_matmul M=2 N=128 K=512 f16 affine-b8-g64 nn",
    "quantized_matmul M=9 N=512 K=128 f16 nvfp4-b4-g16 nt",
    "matmul M=1 N=4096 K=4096 f16 nt",
    "matmul M=7 N=100 K=64 f16 nn",
    "matmul M=512 N=512 K=16384 bf16 nt",
    "matmul M=300 N=1 K=5000 f32 nn",
    "matmul M=64 N=64 K=64 B=8 f32 nn",
    "matmul M=1 N=1 K=7 f16 nn",
    "addmm M=40 N=48 K=56 f32 tn full",
    "addmm M=1280 N=1280 K=1280 bf16 nn row",
]


def seconds(text, name="m4pro", version="0.32.2", route="stock", **rest):
    return model.predict(Problem.parse(text), chip.get(name), version, Route.parse(route), **rest).seconds


class TestEveryRoute:
    @pytest.mark.parametrize("text", PROBLEMS)
    @pytest.mark.parametrize("name", ["m1", "m4pro", "m5max"])
    def test_has_a_time_and_bounds(self, text, name):
        problem, of = Problem.parse(text), chip.get(name)
        routes = space.legal_routes(problem, "metal", nax=of.nax)
        for route in [*routes[:40], *routes[40::97]]:
            predicted = model.predict(problem, of, "0.32.2", route)
            assert 1e-7 < predicted.seconds < 1, route
            assert all(bound >= 0 for bound in predicted.bounds.values())
            assert predicted.rules in predicted.bounds
            assert predicted.seconds >= max(predicted.bounds["memory"], predicted.bounds["launch"])

    def test_every_kernel_has_a_model(self):
        problems = [Problem.parse(text) for text in PROBLEMS]
        seen = {route.kernel for problem in problems for route in space.legal_routes(problem, "metal", nax=True)}
        assert seen == set(KERNELS)

    def test_accelerators_are_needed_where_they_are(self):
        problem = Problem.parse("matmul M=64 N=64 K=512 f16 nn")
        route = next(each for each in space.legal_set(KERNELS["gemm_nax"], problem, "metal"))
        with pytest.raises(UsageError, match="no neural accelerators"):
            families.launches(problem, chip.get("m4pro"), route)


class TestWhatMustHold:
    @pytest.mark.parametrize("text", PROBLEMS)
    def test_no_chip_gets_slower_by_more_bandwidth_or_clock(self, text):
        problem, slow = Problem.parse(text), chip.get("m4pro")
        for fast in (replace(slow, bandwidth=2 * slow.bandwidth), replace(slow, clock=2 * slow.clock)):
            fast_seconds, slow_seconds = (model.predict(problem, each).seconds for each in (fast, slow))
            assert fast_seconds <= slow_seconds * (1 + 1e-9)

    @pytest.mark.parametrize("text", PROBLEMS)
    def test_hot_weights_are_never_slower(self, text):
        assert seconds(text, hot=True) <= seconds(text) * 1.01  # reads that overlap less

    def test_an_evaluation_adds_its_floor_and_queued_calls_save_launches(self):
        text = WIDE.format(1)
        chained, queued, evaluated = (seconds(text, load=load) for load in ("chained", "queued", "evaluated"))
        assert queued < chained
        assert evaluated - chained == pytest.approx(chip.get("m4pro").evaluate)

    def test_memory_is_never_read_faster_than_it_can_be(self):
        problem = Problem.parse(WIDE.format(1))
        assert model.predict(problem, chip.get("m4pro")).seconds > problem.weight_bytes / 273e9

    def test_arithmetic_is_never_done_faster_than_it_can_be(self):
        problem = Problem.parse("matmul M=4096 N=4096 K=4096 f16 nn")
        for name, per_core in (("m4pro", 128), ("m5max", 512)):
            of = chip.get(name)
            assert model.predict(problem, of).seconds > problem.flops / 2 / per_core / of.core_cycles

    def test_an_unknown_old_version_is_refused(self):
        with pytest.raises(UsageError, match="not known"):
            seconds(WIDE.format(1), version="0.20.0")


class TestTheStepAtThreeRows:
    """ml-explore/mlx #3553: on an M4 Pro with MLX 0.31, three rows cost about 30 % more than two."""

    def test_memory_hands_over_to_arithmetic_at_three(self):
        of = chip.get("m4pro")
        rules = [model.predict(Problem.parse(WIDE.format(m)), of, "0.31.1").rules for m in range(1, 7)]
        assert rules == ["memory", "memory", "lanes", "lanes", "lanes", "lanes"]

    def test_the_step_is_there_and_rows_cost_the_same_from_then_on(self):
        times = [seconds(WIDE.format(m), version="0.31.1") for m in range(1, 7)]
        assert times[1] / times[0] < 1.08
        assert times[2] / times[1] > 1.25
        rises = [after - before for before, after in pairwise(times[2:])]
        assert max(rises) / min(rises) < 1.05

    def test_sharing_the_unpacked_weight_takes_most_of_it_away(self):
        before, after = ([seconds(WIDE.format(m), version=v) for m in (2, 3)] for v in ("0.31.1", "0.32.0"))
        assert after[1] / after[0] < 1.15
        assert before[1] / after[1] > 1.2


def test_split_k_reaches_the_accelerators_from_0312_on():
    """ml-explore/mlx #3422, first half: 512x512x4096 took the kernel without accelerators before."""
    text = "matmul M=512 N=512 K=4096 f16 nn"
    assert seconds(text, "m5max", "0.31.1") > 2 * seconds(text, "m5max", "0.31.2")


def test_padding_reaches_the_matrix_kernel_and_chunks_the_vector_kernel():
    problem, of = Problem.parse(WIDE.format(9)), chip.get("m4pro")
    padded = model.predict(problem, of, "0.31.1", Route.parse("pad multiple=32 fill=zeros"))
    chunks = model.predict(problem.with_m(16), of, "0.31.1", Route.parse("chunk rows=8"))
    assert "qmm" in [part.launch.name for part in padded.parts]
    assert [part.launch.name for part in chunks.parts] == ["qmv_fast", "qmv_fast", "concatenate", "concatenate"]
