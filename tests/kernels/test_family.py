"""What our Metal kernels share, on kernels made of stock ops that stand for real ones."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from fakes import recorded_warnings

from autotune import kernels
from autotune.kernels import Route, family, launch, trial
from autotune.kernels.family import Family
from autotune.mlx_ops import ORIGINAL
from autotune.problem import LAYOUTS, Problem
from autotune.routing import router
from autotune.routing.router import ROUTERS, RoutingWarning
from autotune.search import space
from kernels.standins import PROBLEMS, QUANTIZED, Refused, Right, Split, operands


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(trial, "TRIED", set())
    monkeypatch.setattr(trial, "FAILED", {})


@pytest.fixture
def register(monkeypatch):
    def add(kernel):
        monkeypatch.setitem(kernels.KERNELS, kernel.name, kernel)
        return kernel

    return add


class TestRouting:
    def test_a_refused_kernel_costs_its_route_and_a_warning(self, register, write_table, monkeypatch):
        kernel = register(Refused())
        problem = Problem.parse(QUANTIZED)
        path = write_table({str(problem.family): [(1, 8, "refused shift=0")]})
        ROUTERS.use(path, False)
        stock = ORIGINAL["quantized_matmul"]
        with pytest.warns(RoutingWarning, match="refused shift=0 failed .*unable to build metal library"):
            assert ROUTERS.op(problem, "cpu", stock) is stock
        tries = kernel.calls
        assert ROUTERS.op(problem, "cpu", stock) is stock
        assert (tries, kernel.calls) == (1, 1)
        assert len(router._WARNED) == 1

    def test_it_is_tried_and_warned_of_once_for_all_families(self, register, write_table):
        kernel = register(Refused())
        problems = [Problem.parse(QUANTIZED.replace("N=64", f"N={n}")) for n in (64, 128, 192, 256)]
        ROUTERS.use(write_table({str(each.family): [(1, 8, "refused shift=0")] for each in problems}), False)
        stock = ORIGINAL["quantized_matmul"]
        with recorded_warnings() as texts:
            assert all(ROUTERS.op(each, "cpu", stock) is stock for each in problems)
        assert (kernel.calls, len(texts)) == (1, 1)

    def test_a_wrong_kernel_is_not_used(self, register, write_table):
        register(Right())
        problem = Problem.parse(QUANTIZED)
        ROUTERS.use(write_table({str(problem.family): [(1, 8, "right shift=9")]}), False)
        stock = ORIGINAL["quantized_matmul"]
        with pytest.warns(RoutingWarning, match="first small product is wrong"):
            assert ROUTERS.op(problem, "cpu", stock) is stock

    def test_a_right_one_is(self, register, write_table):
        kernel = register(Right())
        problem = Problem.parse(QUANTIZED)
        ROUTERS.use(write_table({str(problem.family): [(1, 8, "right shift=0")]}), False)
        run = ROUTERS.op(problem, "cpu", ORIGINAL["quantized_matmul"])
        calls = kernel.calls
        x, packed = operands(problem)
        out = run(x, *packed, True, 64, 4, "affine", stream=None)
        assert kernel.calls == calls + 1
        assert np.allclose(out, mx.quantized_matmul(x, *packed, group_size=64, bits=4), atol=1e-4)

    def test_the_first_try_works_while_a_function_is_traced(self, register, write_table):
        kernel = register(Right())
        problem = Problem.parse(QUANTIZED)
        ROUTERS.use(write_table({str(problem.family): [(1, 8, "right shift=0")]}), False)
        x, packed = operands(problem)

        def layer(x):
            run = ROUTERS.op(problem, "cpu", ORIGINAL["quantized_matmul"])
            return run(x, *packed, True, 64, 4, "affine", stream=None)

        expected = mx.quantized_matmul(x, *packed, group_size=64, bits=4)
        assert np.allclose(mx.compile(layer)(x), expected, atol=1e-4)
        trial.TRIED.clear()
        assert mx.grad(lambda x: mx.sum(layer(x)))(x).shape == x.shape
        assert kernel.calls > 2


class TestLaunches:
    @pytest.mark.parametrize("problem", [each for each in PROBLEMS if each.quantization is None], ids=str)
    def test_partial_sums_go_through_a_second_launch(self, problem):
        kernel = Split()
        kernel.probe(problem, {"shift": 0})
        assert kernel.calls == 2 * len(LAYOUTS)

    def test_are_made_ready_once_for_a_combination_of_shapes(self, monkeypatch):
        kernel, made = Right(), []
        ready = kernel.quantized
        monkeypatch.setattr(kernel, "quantized", lambda *asked: made.append(asked[-2:]) or ready(*asked))
        problem = Problem.parse(QUANTIZED)
        x, packed = operands(problem)
        run = kernel.build(problem, {"shift": 0})
        for rows in (x, x + 1, x[:2], x):
            run(rows, *packed, True, 64, 4, "affine")
        assert made == [((3, 128), (64, 16)), ((2, 128), (64, 16))]

    def test_tiles_cover(self):
        assert [family.tiles(length, 8) for length in (1, 8, 9)] == [1, 1, 2]


def test_every_family_is_offered_where_it_runs():
    for kernel in kernels.KERNELS.values():
        if isinstance(kernel, Family):
            assert kernel.searched
            assert not kernel.runs_on("cpu", nax=True)
            assert kernel.runs_on("metal", nax=True)
            assert kernel.runs_on("metal", nax=False) != kernel.nax
            assert Route.parse(kernel.name).kernel == kernel.name


@pytest.mark.parametrize("math", ["safe", "relaxed"])
@pytest.mark.parametrize(
    ("name", "text"), [("qmv", QUANTIZED.replace("K=128", "K=512")), ("gemv", "matmul M=3 N=64 K=128 f16 nt")]
)
def test_the_math_mode_reaches_the_compiler(name, text, math):
    problem, kernel = Problem.parse(text), kernels.kernel(name)
    config = {**space.legal_set(kernel, problem, "metal")[0].config, "math": math}
    assert kernel.accepts(problem, config)
    seen = []
    x, packed = operands(problem)
    arguments = (x, *packed, True, 64, 4, "affine") if name == "qmv" else (x, mx.zeros((128, 64)))
    with launch.through(lambda asked: seen.append(asked) or [mx.zeros(asked.shapes[0])]):
        kernel.build(problem, config)(*arguments)
    assert [asked.program.math_mode for asked in seen] == [math]
    assert (math in seen[0].program.name.split("_")) == (math == "relaxed")


def test_operands_in_constant_memory_are_left_to_stock():
    tiny, small = (Problem.parse(f"matmul M=1 N={n} K=512 f16 nt") for n in (7, 8))
    config = space.legal_set(kernels.kernel("gemv"), small, "metal")[0].config
    assert kernels.kernel("gemv").accepts(small, config)
    assert not kernels.kernel("gemv").accepts(tiny, config)
