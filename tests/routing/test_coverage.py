"""What is said of a program's products: by the tables, each problem once."""

from __future__ import annotations

import mlx.core as mx
import pytest

import autotune
from autotune.problem import Problem
from autotune.routing import coverage, ops, products, router
from autotune.routing.coverage import Coverage

pytestmark = pytest.mark.usefixtures("shipped_tables", "on_cpu")

PAD = "pad multiple=16 fill=zeros"
N, K = 64, 256


@pytest.fixture
def on_cpu():
    before = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(before)


def family(op="matmul", dtype="f32", layout="nt", rest=""):
    return f"{op} N={N} K={K} {dtype} {rest or layout}"


def multiply(m, dtype=mx.float32):
    return autotune.matmul(mx.zeros((m, K), dtype), mx.zeros((K, N), dtype))


def numbers(found):
    return len(found.routed), len(found.stock), len(found.untuned), len(found.failed)


def test_without_tables_nothing_is_tuned():
    multiply(3)
    found = autotune.coverage()
    assert found == Coverage((), (), (Problem.parse("matmul M=3 N=64 K=256 f32 nt"),))
    assert found.products == 1


def test_by_the_row_of_each_m(write_table):
    autotune.use_table(write_table({family(): [(1, 2, "stock"), (3, 9, PAD)]}))
    for m in (1, 2, 3, 9, 9, 10):
        multiply(m)
    found = autotune.coverage()
    assert [[each.m for each in part] for part in (found.stock, found.routed, found.untuned)] == [[1, 2], [3, 9], [10]]


def test_a_program_in_another_dtype_is_not_tuned(write_table):
    """Both have two bytes: to the ops these calls are one."""
    autotune.use_table(write_table({family(dtype="bf16"): [(1, 9, PAD)]}))
    multiply(3, mx.float16)
    assert numbers(autotune.coverage()) == (0, 0, 1, 0)
    products.forget()
    ops.forget()
    multiply(3, mx.bfloat16)
    assert numbers(autotune.coverage()) == (1, 0, 0, 0)


def test_layouts_that_disagree_are_on_stock_by_the_table(write_table):
    autotune.use_table(write_table({family(): [(3, 9, PAD)], family(layout="nn"): [(3, 9, "chunk rows=2")]}))
    multiply(3)
    assert numbers(autotune.coverage()) == (0, 1, 0, 0)


def test_a_layout_that_was_tuned_alone_serves(write_table):
    autotune.use_table(write_table({family(layout="nn"): [(1, 9, PAD)]}))
    multiply(3)
    assert numbers(autotune.coverage()) == (1, 0, 0, 0)


def test_stale_routes_are_not_tuned(write_table):
    autotune.use_table(write_table({family(): [(1, 9, PAD, {"kernel": "another"})]}))
    with pytest.warns(autotune.RoutingWarning, match="stale"):
        multiply(3)
    assert numbers(autotune.coverage()) == (0, 0, 1, 0)


def test_a_route_that_failed(write_table):
    autotune.use_table(write_table({family(): [(1, 9, PAD)]}))
    multiply(3)
    (problem,) = autotune.coverage().routed
    route = router.ROUTERS.of("cpu").find(problem).route
    with pytest.warns(autotune.RoutingWarning):
        router.ROUTERS._retire(problem.family, route, RuntimeError("no"))
    found = autotune.coverage()
    assert numbers(found) == (0, 0, 0, 1)
    assert "1 whose route failed" in found.line


def test_quantized_products_and_addends(write_table):
    quantized = family("quantized_matmul", rest="affine-b4-g64 nt")
    autotune.use_table(write_table({quantized: [(3, 3, PAD)], family("addmm", rest="nt row"): [(3, 3, PAD)]}))
    x, (w, scales, biases) = mx.zeros((3, K)), mx.quantize(mx.zeros((N, K)))
    autotune.quantized_matmul(x, w, scales, biases)
    autotune.addmm(mx.zeros((N,)), x, mx.zeros((K, N)))
    assert numbers(autotune.coverage()) == (2, 0, 0, 0)


def test_what_was_seen_stays_when_tables_change_and_routing_ends(write_table):
    multiply(3)
    assert numbers(autotune.coverage()) == (0, 0, 1, 0)
    autotune.use_table(write_table({family(): [(1, 9, PAD)]}))
    assert numbers(autotune.coverage()) == (1, 0, 0, 0)
    autotune.disable()
    assert numbers(autotune.coverage()) == (1, 0, 0, 0)


def test_a_problem_on_two_devices_counts_once_where_it_is_worse_off(write_table):
    autotune.use_table(write_table({family(): [(1, 9, PAD)]}))
    problem = Problem.parse("matmul M=3 N=64 K=256 f32 nt")
    for order in ((False, True), (True, False)):
        found = coverage.of([(problem, gpu) for gpu in order], {})
        assert numbers(found) == (0, 0, 1, 0)


def test_a_table_that_cannot_be_asked_raises_nothing(monkeypatch):
    multiply(3)

    def broken(kind):
        raise RuntimeError("no")

    monkeypatch.setattr(router.ROUTERS, "of", broken)
    with pytest.warns(autotune.RoutingWarning):
        assert numbers(autotune.coverage()) == (0, 0, 1, 0)


def test_print():
    found = coverage.of(
        [(Problem.parse(f"matmul M={m} N=64 K=256 f32 nt"), False) for m in (9, 1)]
        + [(Problem.parse("matmul M=1 N=64 K=256 B=2 f32 nt"), False)],
        {"vectors": 1, "int32": 2},
    )
    assert str(found) == (
        "3 different products: 0 routed, 0 on stock as the table says, 3 not tuned; not tunable: 2 of int32, 1 of "
        "vectors\n"
        "untuned  matmul M=1,9 N=64 K=256 f32 nt\n"
        "untuned  matmul M=1 N=64 K=256 B=2 f32 nt"
    )
