"""Which side a route is on, and which compositions take the other one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from report.builders import H100, M5MAX, PAD, STOCK, WIDE, problem

from autotune.kernels import KERNELS, Route
from autotune.kernels.family import Family
from autotune.routing.table import ChipKey
from autotune.search import sides
from autotune.search.sides import moved, side
from autotune.stock_rules import MATRIX, VECTOR

CPU = ChipKey("cpu", "cpu", "AMD EPYC", "x86_64", 16, False)
QMV = "qmv v=4 rows=4 simdgroups=2 split=1 values=16 stage=0 wide=1 math=safe"
TALL = "quantized_matmul N=512 K=2048 f16 affine-b4-g64 nt"
UNTRANSPOSED = "quantized_matmul N=512 K=2048 f16 affine-b4-g64 nn"
MODULES = ("stock", "pad", "chunk", "dequantize", "split_k", "fold_k", "upcast", "qmv")


@pytest.mark.parametrize(
    ("route", "m", "chip", "expected"),
    [
        (STOCK, 7, H100, VECTOR), (STOCK, 8, H100, MATRIX), (STOCK, 8, M5MAX, VECTOR), (STOCK, 13, M5MAX, MATRIX),
        ("upcast", 7, H100, VECTOR), ("upcast", 8, H100, MATRIX),
        ("pad multiple=4 fill=zeros", 3, H100, VECTOR), ("pad multiple=4 fill=zeros", 5, H100, MATRIX),
        (PAD, 3, H100, MATRIX), (PAD, 3, M5MAX, VECTOR), (PAD, 9, M5MAX, MATRIX),
        ("chunk rows=4", 16, H100, VECTOR), ("chunk rows=8", 9, H100, MATRIX), ("chunk rows=8", 9, M5MAX, VECTOR),
        ("fold_k parts=2 sum=native", 3, H100, VECTOR), ("fold_k parts=2 sum=native", 4, H100, MATRIX),
        ("dequantize compute=native", 1, M5MAX, MATRIX), (QMV, 40, M5MAX, VECTOR),
        ("gone a=1", 3, H100, ""), ("pad rows=8", 3, H100, ""), (PAD, 8, H100, ""), (STOCK, 8, CPU, ""),
    ],
)  # fmt: skip
def test_the_side_of_a_route(route, m, chip, expected):
    assert side(Route.parse(route), problem(WIDE, m), chip) == expected


def test_the_side_of_a_folded_product_follows_its_own_shape():
    """On an M5 the limit is 33 for N=512, K=2048, and 13 for the N=8192, K=128 that 16 parts make of it."""
    assert side(Route.parse(STOCK), problem(TALL, 30), M5MAX) == VECTOR
    assert side(Route.parse("fold_k parts=2 sum=native"), problem(TALL, 15), M5MAX) == VECTOR
    assert side(Route.parse("fold_k parts=16 sum=native"), problem(TALL, 1), M5MAX) == MATRIX


def test_the_side_of_slices_and_batches():
    sliced = Route.parse("split_k parts=2")
    assert side(sliced, problem(UNTRANSPOSED, 3), M5MAX) == VECTOR
    assert side(sliced, problem(UNTRANSPOSED, 4), M5MAX) == MATRIX
    batch = replace(problem(WIDE, 2), batch=4)
    assert side(Route.parse(STOCK), batch, H100) == MATRIX
    assert side(Route.parse(STOCK), batch, M5MAX) == VECTOR


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=list(KERNELS))
def test_every_kernel_for_quantized_weights_has_a_side(kernel):
    """A kernel that is added has to say its side, or be one of the compositions that are known here."""
    if "quantized_matmul" in kernel.ops:
        assert kernel.side in (VECTOR, MATRIX) or kernel.name in MODULES


@pytest.mark.parametrize(
    ("m", "limit", "routes"),
    [
        (3, 8, ["pad multiple=8 fill=zeros", "pad multiple=8 fill=repeat"]),
        (8, 8, ["chunk rows=4", "chunk rows=7"]),
        (14, 8, ["chunk rows=7"]),
        (56, 8, ["chunk rows=7"]),
        (57, 8, []),
        (1, 1, []),
    ],
)
def test_what_takes_the_other_side_of_a_limit(m, limit, routes):
    assert [str(route) for route in moved(problem(WIDE, m), limit)] == routes


@pytest.mark.parametrize("m", range(1, 57))
def test_what_is_moved_is_on_the_other_side(m):
    own = side(Route.parse(STOCK), problem(WIDE, m), H100)
    found = moved(problem(WIDE, m), 8)
    assert found
    assert all(side(route, problem(WIDE, m), H100) not in ("", own) for route in found)


def test_every_composition_says_which_stock_call_it_reaches():
    """One that does not has no side, and would be left out of ``vector_limit`` in silence."""
    compositions = {name for name, kernel in KERNELS.items() if not isinstance(kernel, Family)}
    assert compositions == {*sides._REACHES_STOCK, "dequantize"}
