"""The routed ops are MLX's own to a caller: results, dtypes, errors, transformations; with a table and without."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from fakes import recorded_warnings

import autotune
from autotune import kernels
from autotune.kernels import Route
from autotune.mlx_ops import ORIGINAL
from autotune.problem import Problem
from autotune.routing import ops, router, switch, table
from autotune.routing.neighbours import Bound

pytestmark = pytest.mark.usefixtures("shipped_tables")

STOCK = SimpleNamespace(**ORIGINAL)
N, K = 64, 256
DTYPES = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}
TOLERANCE = {mx.float32: 1e-5, mx.float16: 4e-3, mx.bfloat16: 3e-2}
DENSE_ROUTES = ("pad multiple=8 fill=repeat", "chunk rows=2", "split_k parts=2", "upcast")
QUANTIZED_ROUTES = (
    "pad multiple=8 fill=zeros",
    "chunk rows=2",
    "dequantize compute=native",
    "dequantize compute=float32",
)
QUANTIZED_ROUTES += ("fold_k parts=2 sum=float32", "upcast")
ROUTES = tuple(dict.fromkeys(DENSE_ROUTES + QUANTIZED_ROUTES))
M = 7
"""Rows for which every route above is legal."""


@pytest.fixture
def tune(write_table):
    """Makes a table in use that holds the route for every family that it is legal for."""

    def use(route: str, batch: int = 1) -> None:
        sizes = f"N={N} K={K}" if batch == 1 else f"N={N} K={K} B={batch}"
        every = [form.format(f"{sizes} {dtype}") for form in FAMILIES.values() for dtype in DTYPES]
        legal = [f for f in every if kernels.accepts(Route.parse(route), table.problem_at(f, M))]
        assert legal
        rows = {family: [(M, M, route)] for family in legal}
        autotune.use_table(write_table(rows))

    return use


@pytest.fixture
def taken(monkeypatch) -> list[str]:
    """The routes that were computed from here on, one entry a call."""
    calls: list[str] = []
    build = kernels.build

    def counting(route, problem, **options):
        run = build(route, problem)

        def call(*args, **kwargs):
            calls.append(str(route))
            return run(*args, **kwargs)

        return call

    monkeypatch.setattr(kernels, "build", counting)
    return calls


class Inputs:
    """Random inputs of each op in one dtype."""

    def __init__(self, dtype: mx.Dtype, seed: int = 0, lead: tuple[int, ...] = (M,)) -> None:
        keys = mx.random.split(mx.random.key(seed), 5)
        self.a = mx.random.normal((*lead, K), key=keys[0]).astype(dtype)
        self.b = (mx.random.normal((K, N), key=keys[1]) * K**-0.5).astype(dtype)
        self.row = mx.random.normal((N,), key=keys[2]).astype(dtype)
        self.full = mx.random.normal((*lead, N), key=keys[3]).astype(dtype)
        stored = (mx.random.normal((K, N), key=keys[4]) * K**-0.5).astype(dtype)
        self.affine = mx.quantize(mx.contiguous(stored.T))
        self.affine_nn = mx.quantize(stored)
        self.mxfp4 = mx.quantize(mx.contiguous(stored.T), mode="mxfp4")
        mx.eval(list(vars(self).values()))


def calls_of_each_op(i: Inputs) -> dict[str, object]:
    """One call of each op and form, as functions of the module (``mx`` or ``autotune``) and, if other, of A."""
    return {
        "matmul": lambda m, a=i.a: m.matmul(a, i.b),
        "addmm-row": lambda m, a=i.a: m.addmm(i.row, a, i.b),
        "addmm-full": lambda m, a=i.a: m.addmm(i.full, a, i.b, alpha=0.5, beta=-2.0),
        "quantized": lambda m, a=i.a: m.quantized_matmul(a, *i.affine),
        "quantized-nn": lambda m, a=i.a: m.quantized_matmul(a, *i.affine_nn, transpose=False),
        "quantized-mxfp4": lambda m, a=i.a: m.quantized_matmul(a, *i.mxfp4, mode="mxfp4"),
    }


def doubles(array: mx.array) -> np.ndarray:
    return np.array(array.astype(mx.float32)).astype(np.float64)


def assert_close(ours: mx.array, stock: mx.array) -> None:
    assert (ours.shape, ours.dtype) == (stock.shape, stock.dtype)
    mine, theirs = doubles(ours), doubles(stock)
    scale = np.sqrt(np.mean(theirs**2)) if theirs.size else 1.0
    assert np.all(np.abs(mine - theirs) <= TOLERANCE[stock.dtype] * 4 * scale), np.abs(mine - theirs).max() / scale


FAMILIES = {
    "matmul": "matmul {} nt",
    "addmm-row": "addmm {} nt row",
    "addmm-full": "addmm {} nt full",
    "quantized": "quantized_matmul {} affine-b4-g64 nt",
    "quantized-nn": "quantized_matmul {} affine-b4-g64 nn",
    "quantized-mxfp4": "quantized_matmul {} mxfp4-b4-g32 nt",
}


def serves(route: str, name: str, dtype: str) -> bool:
    """Whether the route is legal for the call of that name, so that ``tune`` has put it into the table."""
    problem = Problem.parse(FAMILIES[name].format(f"M={M} N={N} K={K} {dtype}"))
    return kernels.accepts(Route.parse(route), problem)


CALLS = tuple(calls_of_each_op(Inputs(mx.float32)))


class TestResults:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("name", CALLS)
    def test_without_a_table_they_are_stocks(self, name, dtype):
        call = calls_of_each_op(Inputs(DTYPES[dtype]))[name]
        ours, stock = call(autotune), call(STOCK)
        assert mx.array_equal(ours, stock).item()
        assert ours.dtype == stock.dtype

    @pytest.mark.parametrize("route", ROUTES)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_with_a_table_they_are_the_routes(self, tune, taken, route, dtype):
        tune(route)
        for name, call in calls_of_each_op(Inputs(DTYPES[dtype], 1)).items():
            taken.clear()
            for _ in range(2):
                assert_close(call(autotune), call(STOCK))
            assert taken == [route] * (2 if serves(route, name, dtype) else 0), name

    @pytest.mark.parametrize("m", [M - 1, M + 1])
    def test_rows_beyond_the_interval_are_stocks(self, tune, taken, m):
        tune("pad multiple=8 fill=zeros")
        for call in calls_of_each_op(Inputs(mx.float32, 2, (m,))).values():
            assert mx.array_equal(call(autotune), call(STOCK)).item()
        assert taken == []

    @pytest.mark.parametrize("lead", [(1, M), (M, 1), (1, M, 1)])
    def test_leading_axes_count_as_rows(self, tune, taken, lead):
        tune("chunk rows=2")
        for call in calls_of_each_op(Inputs(mx.float16, 3, lead)).values():
            assert_close(call(autotune), call(STOCK))
        assert taken == ["chunk rows=2"] * len(CALLS)

    @pytest.mark.parametrize("route", DENSE_ROUTES)
    def test_one_b_with_a_leading_axis(self, tune, route):
        tune(route)
        i = Inputs(mx.bfloat16, 4)
        with recorded_warnings() as texts:
            assert_close(autotune.matmul(i.a[None], i.b[None]), STOCK.matmul(i.a[None], i.b[None]))
        assert texts == []

    @pytest.mark.parametrize("lead", [(3,), (3, 1)])
    def test_a_batch_of_bs(self, tune, taken, lead):
        tune("chunk rows=2", batch=3)
        a, b = mx.random.normal((*lead, M, K), key=mx.random.key(5)), mx.random.normal((*lead, K, N))
        assert_close(autotune.matmul(a, b), STOCK.matmul(a, b))
        c = mx.random.normal((*lead, M, N), key=mx.random.key(6))
        assert_close(autotune.addmm(c, a, b), STOCK.addmm(c, a, b))
        assert taken == ["chunk rows=2"] * 2

    def test_a_family_without_a_batch_says_nothing_of_batches(self, tune, taken):
        tune("chunk rows=2")
        a, b = mx.random.normal((3, M, K)), mx.random.normal((3, K, N))
        assert mx.array_equal(autotune.matmul(a, b), STOCK.matmul(a, b)).item()
        assert taken == []

    def test_inputs_that_are_not_contiguous(self, tune, taken):
        tune("pad multiple=8 fill=zeros")
        wide = mx.random.normal((2 * M, 2 * K), key=mx.random.key(7))
        b, i = mx.random.normal((N, K), key=mx.random.key(8)), Inputs(mx.float32, 9)
        for a in (wide[::2, ::2], wide[:M, K:], mx.swapaxes(wide[:M, :K].T[:], 0, 1), wide[::-2, K:]):
            for call in (
                lambda m, a=a: m.matmul(a, b.T),
                lambda m, a=a: m.addmm(i.full[:, ::-1], a, b.T),
                lambda m, a=a: m.quantized_matmul(a, *i.affine),
            ):
                assert_close(call(autotune), call(STOCK))
        assert len(taken) == 12


PASSED_THROUGH = {
    "1-D times 2-D": lambda m, i: m.matmul(i.a[0], i.b),
    "2-D times 1-D": lambda m, i: m.matmul(i.a, i.b[:, 0]),
    "1-D times 1-D": lambda m, i: m.matmul(i.a[0], i.b[:, 0]),
    "1-D quantized": lambda m, i: m.quantized_matmul(i.a[0], *i.affine),
    "1-D addmm": lambda m, i: m.addmm(i.row, i.a[0], i.b),
    "broadcast batch": lambda m, i: m.matmul(mx.stack([i.a, i.a])[:, None], mx.stack([i.b, i.b, i.b])),
    "b with more axes": lambda m, i: m.matmul(i.a, i.b[None]),
    "mixed dtypes": lambda m, i: m.matmul(i.a, i.b.astype(mx.float16)),
    "mixed narrow dtypes": lambda m, i: m.matmul(i.a.astype(mx.bfloat16), i.b.astype(mx.float16)),
    "mixed addend": lambda m, i: m.addmm(i.row.astype(mx.float16), i.a, i.b),
    "column addend": lambda m, i: m.addmm(i.full[:, :1], i.a, i.b),
    "scalar addend": lambda m, i: m.addmm(mx.array(2.0), i.a, i.b),
    "integers and a float addend": lambda m, i: m.addmm(i.row, i.a.astype(mx.int32), i.b.astype(mx.int32)),
    "complex": lambda m, i: m.matmul(i.a.astype(mx.complex64), i.b.astype(mx.complex64)),
    "integer x": lambda m, i: m.quantized_matmul(i.a.astype(mx.int32), *i.affine),
    "narrow x": lambda m, i: m.quantized_matmul(i.a.astype(mx.float16), *i.affine),
    "narrow scales": lambda m, i: m.quantized_matmul(i.a, i.affine[0], *(s.astype(mx.float16) for s in i.affine[1:])),
    "w with more axes": lambda m, i: m.quantized_matmul(i.a[None], *(w[None] for w in i.affine)),
    "no rows": lambda m, i: m.matmul(i.a[:0], i.b),
    "no columns": lambda m, i: m.matmul(i.a, i.b[:, :0]),
    "no inner": lambda m, i: m.matmul(i.a[:, :0], i.b[:0]),
    "addmm without rows": lambda m, i: m.addmm(i.row, i.a[:0], i.b),
}


@pytest.mark.parametrize("name", PASSED_THROUGH)
@pytest.mark.parametrize("route", ["", "pad multiple=8 fill=zeros", "upcast", "dequantize compute=native"])
def test_other_products_are_stocks(tune, taken, name, route):
    """Whatever is no product of two matrices in one tuned dtype goes to stock, also where its shapes are tuned."""
    if route:
        tune(route)
    i = Inputs(mx.float32, 10)
    for call in calls_of_each_op(i).values():
        call(autotune)
    taken.clear()
    ours, stock = PASSED_THROUGH[name](autotune, i), PASSED_THROUGH[name](STOCK, i)
    assert (ours.shape, ours.dtype) == (stock.shape, stock.dtype)
    assert mx.array_equal(ours, stock).item()
    assert taken == []


@pytest.mark.parametrize("route", ["dequantize compute=native", "upcast", "pad multiple=8 fill=zeros"])
@pytest.mark.parametrize("other", ["f32", "bf16"])
def test_biases_of_another_dtype_promote_the_result_as_in_stock(tune, route, other):
    tune(route)
    i = Inputs(mx.float16, 11)
    w, scales, biases = i.affine
    arguments = (i.a, w, scales, biases.astype(DTYPES[other]))
    ours, stock = autotune.quantized_matmul(*arguments), STOCK.quantized_matmul(*arguments)
    assert ours.dtype == stock.dtype
    assert np.allclose(doubles(ours), doubles(stock), atol=0.05)


WRONG = {
    "numpy a": lambda m, i: m.matmul(np.zeros((M, K), np.float32), i.b),
    "numpy b": lambda m, i: m.matmul(i.a, np.zeros((K, N), np.float32)),
    "scalar b": lambda m, i: m.matmul(i.a, 2.0),
    "list b": lambda m, i: m.matmul(i.a, [[1.0]]),
    "none": lambda m, i: m.matmul(None, i.b),
    "0-D a": lambda m, i: m.matmul(mx.array(2.0), i.b),
    "inner axes": lambda m, i: m.matmul(i.a, i.a),
    "batches": lambda m, i: m.matmul(mx.zeros((2, M, K)), mx.zeros((3, K, N))),
    "integers": lambda m, i: m.matmul(i.a.astype(mx.int32), i.b.astype(mx.int32)),
    "booleans": lambda m, i: m.matmul(i.a > 0, i.b > 0),
    "stream word": lambda m, i: m.matmul(i.a, i.b, stream="cpu"),
    "stream number": lambda m, i: m.matmul(i.a, i.b, stream=3),
    "stream for addmm": lambda m, i: m.addmm(i.row, i.a, i.b, stream=1.5),
    "stream for quantized": lambda m, i: m.quantized_matmul(i.a, *i.affine, stream="gpu"),
    "one argument": lambda m, i: m.matmul(i.a),
    "three arguments": lambda m, i: m.matmul(i.a, i.b, None),
    "keywords": lambda m, i: m.matmul(a=i.a, b=i.b),
    "unknown keyword": lambda m, i: m.addmm(i.row, i.a, i.b, gamma=1.0),
    "addend number": lambda m, i: m.addmm(1.0, i.a, i.b),
    "addend numpy": lambda m, i: m.addmm(np.zeros(N, np.float32), i.a, i.b),
    "addend shape": lambda m, i: m.addmm(i.a, i.a, i.b),
    "addend columns": lambda m, i: m.addmm(mx.zeros(N + 1), i.a, i.b),
    "addend of more axes": lambda m, i: m.addmm(mx.stack([i.full, i.full]), i.a, i.b),
    "addmm integers": lambda m, i: m.addmm(*(x.astype(mx.int32) for x in (i.row, i.a, i.b))),
    "addmm inner axes": lambda m, i: m.addmm(i.row, i.a, i.a),
    "alpha word": lambda m, i: m.addmm(i.row, i.a, i.b, alpha="1"),
    "alpha none": lambda m, i: m.addmm(i.row, i.a, i.b, None),
    "alpha complex": lambda m, i: m.addmm(i.row, i.a, i.b, alpha=1j),
    "alpha vector": lambda m, i: m.addmm(i.row, i.a, i.b, alpha=i.row),
    "beta numpy vector": lambda m, i: m.addmm(i.row, i.a, i.b, beta=np.ones(N, np.float32)),
    "no scales": lambda m, i: m.quantized_matmul(i.a, i.affine[0]),
    "no biases": lambda m, i: m.quantized_matmul(i.a, *i.affine[:2]),
    "biases for mxfp4": lambda m, i: m.quantized_matmul(i.a, *i.mxfp4, i.affine[2], mode="mxfp4"),
    "biases of one column": lambda m, i: m.quantized_matmul(i.a, *i.affine[:2], i.affine[2][:, :1]),
    "biases numpy": lambda m, i: m.quantized_matmul(i.a, *i.affine[:2], np.array(i.affine[2])),
    "scales of fewer groups": lambda m, i: m.quantized_matmul(i.a, i.affine[0], *(s[:, :2] for s in i.affine[1:])),
    "scales numpy": lambda m, i: m.quantized_matmul(i.a, i.affine[0], np.array(i.affine[1]), i.affine[2]),
    "unknown mode": lambda m, i: m.quantized_matmul(i.a, *i.affine, mode="affin"),
    "mode none": lambda m, i: m.quantized_matmul(i.a, *i.affine, mode=None),
    "mode list": lambda m, i: m.quantized_matmul(i.a, *i.affine, mode=["affine"]),
    "other mode": lambda m, i: m.quantized_matmul(i.a, *i.affine, mode="mxfp4"),
    "other bits": lambda m, i: m.quantized_matmul(i.a, *i.affine, bits=8),
    "odd bits": lambda m, i: m.quantized_matmul(i.a, *i.affine, bits=7),
    "bits true": lambda m, i: m.quantized_matmul(i.a, *i.affine, bits=True),
    "bits float": lambda m, i: m.quantized_matmul(i.a, *i.affine, bits=4.0),
    "other group": lambda m, i: m.quantized_matmul(i.a, *i.affine, group_size=32),
    "group float": lambda m, i: m.quantized_matmul(i.a, *i.affine, group_size=64.0),
    "transpose number": lambda m, i: m.quantized_matmul(i.a, *i.affine, transpose=1),
    "transpose none": lambda m, i: m.quantized_matmul(i.a, *i.affine_nn, transpose=None),
    "transpose word": lambda m, i: m.quantized_matmul(i.a, *i.affine, transpose="yes"),
    "float w": lambda m, i: m.quantized_matmul(i.a, i.b, *i.affine[1:]),
    "signed w": lambda m, i: m.quantized_matmul(i.a, i.affine[0].view(mx.int32), *i.affine[1:]),
    "numpy w": lambda m, i: m.quantized_matmul(i.a, np.array(i.affine[0]), *i.affine[1:]),
    "numpy x": lambda m, i: m.quantized_matmul(np.array(i.a), *i.affine),
    "0-D x": lambda m, i: m.quantized_matmul(mx.array(2.0), *i.affine),
    "short x": lambda m, i: m.quantized_matmul(i.a[:, :128], *i.affine),
    "w of no rows and wrong columns": lambda m, i: m.quantized_matmul(i.a[:0, :128], *i.affine),
}
SAID_BY_PYTHON = ("one argument", "three arguments", "keywords", "unknown keyword", "no scales")
"""Mistakes that Python itself finds in a function with a signature; there the type of the exception has to do."""


def raised(call, m, i) -> tuple[type, str]:
    """The exception's type and message; what a binding says of the types it was called with is left out."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever stock raises
        call(m, i)
    return caught.type, str(caught.value).partition("Invoked with types")[0]


class TestErrors:
    @pytest.mark.parametrize("name", WRONG)
    @pytest.mark.parametrize("route", ["", *ROUTES])
    def test_are_stocks(self, tune, name, route):
        if route:
            tune(route)
        i = Inputs(mx.float32 if route not in ("upcast", "dequantize compute=float32") else mx.float16, 12)
        with recorded_warnings() as texts:
            ours, stock = raised(WRONG[name], autotune, i), raised(WRONG[name], STOCK, i)
        assert ours[0] is stock[0]
        if name not in SAID_BY_PYTHON:
            assert ours[1] == stock[1]
        assert texts == []

    @pytest.mark.parametrize("name", ["numpy a", "numpy x", "numpy b", "alpha word", "no biases", "bits float"])
    @pytest.mark.parametrize("before", [False, True])
    def test_a_wrong_call_costs_later_ones_nothing(self, tune, taken, name, before):
        """Neither a failure on the route nor a look-up for arguments of another type stays behind."""
        tune("pad multiple=8 fill=zeros")
        i = Inputs(mx.float32, 13)
        if before:
            for call in calls_of_each_op(i).values():
                call(autotune)
        raised(WRONG[name], autotune, i)
        taken.clear()
        for call in calls_of_each_op(i).values():
            assert_close(call(autotune), call(STOCK))
        assert taken == ["pad multiple=8 fill=zeros"] * len(CALLS)


class TestKeywords:
    def test_of_addmm(self, tune, taken):
        tune("chunk rows=2")
        i = Inputs(mx.float32, 14)
        for arguments, keywords in (
            ((0.5,), {}),
            ((0.5, 2.0), {}),
            ((), {"beta": 2.0, "alpha": 0.5}),
            ((0.5,), {"beta": 2, "stream": mx.cpu}),
        ):
            call = (i.row, i.a, i.b, *arguments)
            assert_close(autotune.addmm(*call, **keywords), STOCK.addmm(*call, **keywords))
        assert len(taken) == 4

    @pytest.mark.parametrize("route", DENSE_ROUTES)
    def test_of_addmm_with_what_mlx_takes_for_a_number(self, tune, route):
        tune(route)
        i = Inputs(mx.bfloat16, 44)
        for alpha, beta in ((mx.array(0.5), True), (np.float64(0.5), np.float32(2)), (mx.array([0.5]), False)):
            ours, stock = (m.addmm(i.row, i.a, i.b, alpha, beta) for m in (autotune, STOCK))
            assert_close(ours, stock)

    def test_of_quantized_matmul(self, tune, taken):
        tune("chunk rows=2")
        i = Inputs(mx.float32, 15)
        w, scales, biases = i.affine
        for arguments, keywords in (
            ((scales, biases, True, 64, 4, "affine"), {}),
            ((scales, biases), {"group_size": 64, "bits": 4}),
            ((), {"scales": scales, "biases": biases}),
            ((scales,), {"biases": biases, "mode": "affine", "transpose": True, "bits": None, "stream": mx.cpu}),
        ):
            call = (i.a, w, *arguments)
            assert_close(autotune.quantized_matmul(*call, **keywords), STOCK.quantized_matmul(*call, **keywords))
        assert len(taken) == 4

    @pytest.mark.parametrize("stream", [None, mx.cpu, 0, mx.Device(mx.cpu), mx.default_stream(mx.cpu)])
    def test_stream(self, tune, taken, stream):
        tune("chunk rows=2")
        i = Inputs(mx.float32, 16)
        assert_close(autotune.matmul(i.a, i.b, stream=stream), STOCK.matmul(i.a, i.b, stream=stream))
        assert len(taken) == 1

    def test_signatures_are_those_of_mlx(self):
        described = {op: getattr(mx, op).__doc__.splitlines()[0] for op in ORIGINAL}
        for op, text in described.items():
            ours = list(inspect.signature(getattr(autotune, op)).parameters)
            assert ours == re.findall(r"(\w+): ", text), text


class TestEmptyQuantized:
    """With no rows MLX 0.32.4 dies on the CPU, so stock is never evaluated here: only asked for shape and dtype."""

    @pytest.mark.parametrize("route", ["", "pad multiple=8 fill=zeros", "dequantize compute=native"])
    @pytest.mark.parametrize("lead", [(0,), (2, 0), (0, 3)])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_no_rows(self, tune, route, lead, dtype):
        if route:
            tune(route)
        for name, call in calls_of_each_op(Inputs(DTYPES[dtype], 17, lead)).items():
            if name.startswith("quantized"):
                ours, stock = call(autotune), call(STOCK)
                assert (ours.shape, ours.dtype) == (stock.shape, stock.dtype) == ((*lead, N), DTYPES[dtype])
                mx.eval(ours)
                assert np.array(ours.astype(mx.float32)).shape == (*lead, N)

    def test_no_columns(self):
        i = Inputs(mx.float16, 18)
        out = autotune.quantized_matmul(i.a, *(array[:0] for array in i.affine))
        mx.eval(out)
        assert (out.shape, out.dtype) == ((M, 0), mx.float16)

    def test_compiled_and_differentiated(self):
        i = Inputs(mx.float32, 19, (0,))
        out = mx.compile(lambda a: autotune.quantized_matmul(a, *i.affine))(i.a)
        gradient = mx.grad(lambda a: autotune.quantized_matmul(a, *i.affine).sum())(i.a)
        mx.eval(out, gradient)
        assert (out.shape, gradient.shape) == ((0, N), (0, K))

    def test_switched_off(self):
        switch.disable()
        out = autotune.quantized_matmul(mx.zeros((0, K)), *Inputs(mx.float32).affine)
        mx.eval(out)
        assert out.shape == (0, N)

    def test_after_rows_and_before_them(self):
        i = Inputs(mx.float32, 20)
        for rows in (M, 0, M, 0):
            out = autotune.quantized_matmul(i.a[:rows], *i.affine)
            mx.eval(out)
            assert out.shape == (rows, N)


@pytest.mark.parametrize("route", ROUTES)
class TestTransformations:
    def test_compile(self, tune, taken, route):
        tune(route)
        for name, call in calls_of_each_op(i := Inputs(mx.bfloat16, 21)).items():
            taken.clear()
            compiled = mx.compile(lambda a, call=call: call(autotune, a))
            for _ in range(2):
                assert_close(compiled(i.a), call(STOCK))
            assert taken == ([route] if serves(route, name, "bf16") else []), name

    def test_grad(self, tune, taken, route):
        tune(route)
        i = Inputs(mx.bfloat16, 22)
        for name, call in calls_of_each_op(i).items():
            taken.clear()
            ours, stock = (
                mx.grad(lambda a, call=call, m=m: mx.square(call(m, a).astype(mx.float32)).sum())(i.a)
                for m in (autotune, STOCK)
            )
            assert_close(ours, stock)
            assert taken == ([route] if serves(route, name, "bf16") else []), name

    def test_vmap(self, tune, taken, route):
        tune(route)
        i = Inputs(mx.bfloat16, 23)
        stacked = mx.stack([i.a, -i.a, 2 * i.a])
        ours, stock = (mx.vmap(lambda a, m=m: m.matmul(a, i.b))(stacked) for m in (autotune, STOCK))
        assert_close(ours, stock)
        assert taken == ([route] if serves(route, "matmul", "bf16") else [])


class TestLayouts:
    """MLX does not show whether B is transposed: a dense route is taken where the tuned layouts agree."""

    def agreed(self, write_table, taken, **by_layout):
        autotune.use_table(write_table({f"matmul N={N} K={K} f32 {k}": [(M, M, v)] for k, v in by_layout.items()}))
        i = Inputs(mx.float32, 24)
        assert_close(autotune.matmul(i.a, i.b), STOCK.matmul(i.a, i.b))
        return list(taken)

    def test_one_layout_serves_both(self, write_table, taken):
        assert self.agreed(write_table, taken, nt="chunk rows=2") == ["chunk rows=2"]
        taken.clear()
        assert self.agreed(write_table, taken, nn="chunk rows=4") == ["chunk rows=4"]

    def test_two_layouts_that_agree(self, write_table, taken):
        assert self.agreed(write_table, taken, nt="chunk rows=2", nn="chunk rows=2") == ["chunk rows=2"]

    def test_two_layouts_that_differ_are_stock(self, write_table, taken):
        assert self.agreed(write_table, taken, nt="chunk rows=2", nn="chunk rows=4") == []
        assert self.agreed(write_table, taken, nt="chunk rows=2", nn="stock") == []


class TestNeighbours:
    """Shapes that no table has, under a bound that holds for their class."""

    def routed(self, write_table, taken, **by_layout):
        """What a product of N=192, K=512 takes, and whether it is right."""
        families = {
            f"matmul N={n} K=512 f32 {layout}": [(M, M, route)]
            for layout, route in by_layout.items()
            for n in (128, 256)
        }
        bounds = tuple(Bound(f"matmul f32 {layout}", 0.02, 2.0, 20, 40, 0, 0) for layout in by_layout)
        autotune.use_table(write_table(families, neighbours=bounds))
        a, b = mx.random.normal((M, 512), key=mx.random.key(1)), mx.random.normal((512, 192), key=mx.random.key(2))
        assert_close(autotune.matmul(a, b), STOCK.matmul(a, b))
        return list(taken)

    def test_two_layouts_that_agree(self, write_table, taken):
        assert self.routed(write_table, taken, nt="chunk rows=2", nn="chunk rows=2") == ["chunk rows=2"]

    def test_one_layout_does_not_speak_for_both(self, write_table, taken):
        assert self.routed(write_table, taken, nt="chunk rows=2") == []
        assert self.routed(write_table, taken, nt="chunk rows=2", nn="chunk rows=4") == []

    def test_a_quantized_product(self, write_table, taken):
        kind = "f32 affine-b4-g64 nt"
        families = {f"quantized_matmul N={n} K=512 {kind}": [(M, M, "chunk rows=2")] for n in (128, 256)}
        bounds = (Bound(f"quantized_matmul {kind}", 0.02, 2.0, 20, 40, 0, 0),)
        autotune.use_table(write_table(families, neighbours=bounds))
        x, w = mx.random.normal((M, 512), key=mx.random.key(1)), mx.random.normal((192, 512), key=mx.random.key(2))
        packed = mx.quantize(w, group_size=64, bits=4)
        assert_close(autotune.quantized_matmul(x, *packed), STOCK.quantized_matmul(x, *packed))
        assert taken == ["chunk rows=2"]


class Broken:
    """A route that raises when it runs, or already when it is built."""

    def __init__(self, monkeypatch, when: str) -> None:
        self.tries = 0

        def build(route, problem, **options):
            def run(*args, **kwargs):
                self.tries += 1
                raise RuntimeError("no such kernel here")

            return run(()) if when == "build" else run

        monkeypatch.setattr(kernels, "build", build)


class TestBrokenRoutes:
    @pytest.mark.parametrize("when", ["run", "build"])
    def test_stock_is_used_with_one_warning_and_the_route_not_again(self, tune, monkeypatch, when):
        tune("pad multiple=8 fill=zeros")
        broken, i = Broken(monkeypatch, when), Inputs(mx.float32, 25)
        with recorded_warnings() as texts:
            for _ in range(3):
                assert mx.array_equal(autotune.matmul(i.a, i.b), STOCK.matmul(i.a, i.b)).item()
            ops.forget()
            autotune.matmul(i.a, i.b)
        assert len(texts) == 1
        assert all(part in texts[0] for part in ("pad multiple=8", f"matmul N={N} K={K} f32", "no such kernel here"))
        assert broken.tries == 1

    def test_other_families_and_ops_keep_theirs(self, tune, monkeypatch):
        tune("pad multiple=8 fill=zeros")
        broken, i = Broken(monkeypatch, "run"), Inputs(mx.float32, 26)
        with recorded_warnings() as texts:
            for call in (*calls_of_each_op(i).values(), *calls_of_each_op(i).values()):
                assert_close(call(autotune), call(STOCK))
        assert broken.tries == len(CALLS)
        assert len(texts) == 1  # one route that fails, one warning

    def test_a_call_that_is_wrong_does_not_condemn_its_route(self, tune, monkeypatch):
        tune("pad multiple=8 fill=zeros")
        i = Inputs(mx.float32, 27)
        with pytest.raises(TypeError):
            autotune.addmm(i.row, i.a, i.b, alpha="1")
        assert not router.ROUTERS._broken


class TestMemo:
    def test_is_bounded(self, monkeypatch):
        monkeypatch.setattr(ops, "_MOST", 4)
        i = Inputs(mx.float32, 28, (12,))
        for rows in (*range(1, 13), *range(1, 13)):
            cut = Inputs.__new__(Inputs)
            cut.__dict__ = {**i.__dict__, "a": i.a[:rows], "full": i.full[:rows]}
            for call in calls_of_each_op(cut).values():
                assert mx.array_equal(call(autotune), call(STOCK)).item()
            assert max(len(memo) for memo in (ops._MATMUL, ops._ADDMM, ops._QUANTIZED)) <= 4

    def test_a_new_table_counts_at_once(self, tune, taken):
        i = Inputs(mx.float32, 29)
        for route in ("chunk rows=2", "pad multiple=8 fill=zeros"):
            tune(route)
            autotune.matmul(i.a, i.b)
        autotune.use_table(None)
        autotune.matmul(i.a, i.b)
        assert taken == ["chunk rows=2", "pad multiple=8 fill=zeros"]

    @pytest.mark.parametrize("call", ["matmul", "quantized"])
    @pytest.mark.parametrize("change", [autotune.disable, lambda: autotune.use_table(None)], ids=["off", "table"])
    def test_what_a_first_call_looked_up_before_a_change_is_not_kept(self, tune, monkeypatch, call, change):
        """As from another thread, while a kernel compiles."""
        tune("chunk rows=2")
        build, calls = kernels.build, []

        def slow(route, problem, **options):
            change()
            run = build(route, problem, **options)
            return lambda *args, **kwargs: calls.append(1) or run(*args, **kwargs)

        monkeypatch.setattr(kernels, "build", slow)
        product = calls_of_each_op(Inputs(mx.float32, 31))[call]
        product(autotune)
        assert len(calls) == 1  # was under way
        product(autotune)
        assert len(calls) == 1
        product(autotune)
        assert len(calls) == 1

    def test_shapes_and_dtypes_are_told_apart(self, tune, taken):
        tune("upcast")
        expected = []
        for dtype in (mx.float16, mx.float32, mx.bfloat16, mx.float16):
            i = Inputs(dtype, 30)
            assert_close(autotune.matmul(i.a, i.b), STOCK.matmul(i.a, i.b))
            expected += [] if dtype == mx.float32 else ["upcast"]
        assert taken == expected


PATCHED = ("matmul", "addmm", "quantized_matmul", "compile", "export_function", "exporter")


class TestEnable:
    @pytest.fixture
    def enabled(self):
        autotune.enable()
        yield
        autotune.disable()

    def test_replaces_and_disable_puts_back_the_very_objects(self):
        before = {name: getattr(mx, name) for name in PATCHED}
        operator = mx.array.__matmul__
        for _ in range(2):
            autotune.enable()
            autotune.enable()
            assert all(getattr(mx, name) is not before[name] for name in PATCHED)
            assert mx.array.__matmul__ is not operator
            autotune.disable()
            assert all(getattr(mx, name) is before[name] for name in PATCHED)
            assert mx.array.__matmul__ is operator

    def test_mlx_names_and_the_operator_are_routed(self, tune, taken, enabled):
        tune("chunk rows=2")
        i = Inputs(mx.float32, 31)
        for call in calls_of_each_op(i).values():
            assert_close(call(mx), call(STOCK))
        assert_close(i.a @ i.b, STOCK.matmul(i.a, i.b))
        assert taken == ["chunk rows=2"] * (len(CALLS) + 1)

    @pytest.mark.parametrize("bias", [False, True])
    def test_linear_layers_are_routed(self, tune, taken, enabled, bias):
        tune("chunk rows=2")
        mx.random.seed(32)
        x, layer = mx.random.normal((1, M, K)), nn.Linear(K, N, bias=bias)
        expected = doubles(x) @ doubles(layer.weight).T + (doubles(layer.bias) if bias else 0)
        assert np.allclose(doubles(layer(x)), expected, atol=1e-4)
        quantized = nn.QuantizedLinear.from_linear(layer, group_size=64, bits=4)
        with autotune.stock():
            stock = quantized(x)
        assert len(taken) == 1
        assert_close(quantized(x), stock)
        assert taken == ["chunk rows=2"] * 2

    def test_the_operator_takes_what_it_took(self, enabled):
        i = Inputs(mx.float32, 33)
        with pytest.raises((TypeError, ValueError)) as ours:
            i.a @ "x"
        autotune.disable()
        with pytest.raises((TypeError, ValueError)) as stock:
            i.a @ "x"
        assert (ours.type, str(ours.value)) == (stock.type, str(stock.value))

    def test_disable_makes_this_packages_ops_stock(self, tune, taken):
        tune("chunk rows=2")
        i = Inputs(mx.float32, 34)
        autotune.matmul(i.a, i.b)
        autotune.disable()
        autotune.matmul(i.a, i.b)
        assert len(taken) == 1
        autotune.enable()
        autotune.matmul(i.a, i.b)
        assert len(taken) == 2

    def test_the_environment_wins(self, monkeypatch):
        monkeypatch.setenv("AUTOTUNE_DISABLE", "1")
        before = {name: getattr(mx, name) for name in PATCHED}
        autotune.enable()
        assert all(getattr(mx, name) is before[name] for name in PATCHED)

    @pytest.mark.slow
    def test_the_environment_wins_from_the_start(self, tune, write_table):
        path = write_table({f"matmul N={N} K={K} f32 nt": [(M, M, "chunk rows=2")]})
        code = (
            "import mlx.core as mx, autotune; from autotune.routing import ops\n"
            f"autotune.enable(); out = autotune.matmul(mx.ones(({M}, {K})), mx.ones(({K}, {N})))\n"
            "print(out.shape, mx.matmul is ops._matmul, list(ops._MATMUL.values())[0] is ops._matmul)"
        )
        for disabled, expected in (("1", f"({M}, {N}) True True"), ("", f"({M}, {N}) False False")):
            env = {**os.environ, "AUTOTUNE_DISABLE": disabled, "AUTOTUNE_TABLES": str(path)}
            done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
            assert done.stdout.strip() == expected


class TestShapeless:
    """Traces that have to hold for other shapes are made on stock: slices of unknown length cannot be traced."""

    @pytest.mark.parametrize("route", ["pad multiple=8 fill=zeros", "pad multiple=8 fill=repeat", "chunk rows=2"])
    @pytest.mark.parametrize("given", ["keyword", "position", "name"])
    def test_compiled_for_a_second_shape(self, tune, route, given):
        tune(route)
        autotune.enable()
        i = Inputs(mx.float32, 35, (12,))

        def products(a):  # no addmm: MLX 0.32.4 itself reads beyond the addend in a shapeless trace of it
            return mx.matmul(a, i.b), a @ i.b, mx.quantized_matmul(a, *i.affine)

        if given == "keyword":
            compiled = mx.compile(products, shapeless=True)
        elif given == "position":
            compiled = mx.compile(products, None, None, True)
        else:
            compiled = mx.compile(fun=products, shapeless=True)
        for rows in (M, M - 1, M, 12, 1):
            a = i.a[:rows]
            with autotune.stock():
                expected = products(a)
            for ours, stock in zip(compiled(a), expected):
                assert_close(ours, stock)

    def test_compiled_by_shape_still_takes_the_route(self, tune, taken):
        tune("pad multiple=8 fill=zeros")
        autotune.enable()
        i = Inputs(mx.float32, 37)
        assert_close(mx.compile(lambda a: mx.matmul(a, i.b))(i.a), STOCK.matmul(i.a, i.b))
        assert taken == ["pad multiple=8 fill=zeros"]

    def test_exported_for_a_second_shape(self, tune, tmp_path):
        tune("pad multiple=8 fill=zeros")
        autotune.enable()
        i = Inputs(mx.float32, 38, (12,))
        path = str(tmp_path / "product.mlxfn")
        mx.export_function(path, lambda a: mx.matmul(a, i.b), i.a[:M], shapeless=True)
        imported = mx.import_function(path)
        for rows in (M, 12):
            assert_close(imported(i.a[:rows])[0], STOCK.matmul(i.a[:rows], i.b))

    @pytest.mark.parametrize("by", ["export_function", "exporter"])
    def test_exported_it_is_stock(self, tune, taken, tmp_path, by):
        """A kernel of this machine's is no good elsewhere."""
        tune("pad multiple=8 fill=zeros")
        autotune.enable()
        i, path = Inputs(mx.float32, 38), str(tmp_path / "product.mlxfn")
        if by == "exporter":
            with mx.exporter(path, lambda a: mx.matmul(a, i.b)) as exporter:
                exporter(i.a)
        else:
            mx.export_function(path, lambda a: mx.matmul(a, i.b), i.a)
        assert taken == []
        assert_close(mx.import_function(path)(i.a)[0], STOCK.matmul(i.a, i.b))

    def test_a_module_is_compiled_as_before(self, tune):
        tune("pad multiple=8 fill=zeros")
        autotune.enable()
        mx.random.seed(39)
        layer, x = nn.Linear(K, N, bias=False), mx.random.normal((12, K))
        mx.eval(layer.parameters(), x)
        compiled = mx.compile(layer, shapeless=True)
        for rows in (M, 12):
            assert_close(compiled(x[:rows]), STOCK.matmul(x[:rows], layer.weight.T))


class TestStock:
    def test_inside_calls_are_stocks(self, tune, taken):
        tune("chunk rows=2")
        i = Inputs(mx.float32, 40)
        with autotune.stock():
            for call in calls_of_each_op(i).values():
                assert mx.array_equal(call(autotune), call(STOCK)).item()
            with autotune.stock():
                autotune.matmul(i.a, i.b)
            autotune.matmul(i.a, i.b)
        assert taken == []
        autotune.matmul(i.a, i.b)
        assert taken == ["chunk rows=2"]

    def test_an_exception_ends_it(self, tune, taken):
        tune("chunk rows=2")
        i = Inputs(mx.float32, 41)
        with pytest.raises(KeyError), autotune.stock():
            raise KeyError
        autotune.matmul(i.a, i.b)
        assert taken == ["chunk rows=2"]

    def test_a_shapeless_trace_by_hand(self, tune):
        tune("pad multiple=8 fill=zeros")
        i = Inputs(mx.float32, 42, (12,))

        def product(a):
            with autotune.stock():
                return autotune.matmul(a, i.b)

        compiled = mx.compile(product, shapeless=True)
        for rows in (M, 12):
            assert_close(compiled(i.a[:rows]), STOCK.matmul(i.a[:rows], i.b))


class TestGpuWithoutGpu:
    @pytest.mark.skipif(mx.is_available(mx.Device(mx.gpu)), reason="there is one")
    @pytest.mark.parametrize("backend", ["cpu", "cuda", "metal"])
    def test_errors_are_stocks(self, write_table, isolated, backend):
        rows = {f"matmul N={N} K={K} f32 nt": [(M, M, "chunk rows=2")]}
        write_table(rows, isolated / "tables" / "t.json", backend=backend)
        i = Inputs(mx.float32, 43)
        with recorded_warnings():
            for stream in (mx.gpu, mx.Device(mx.gpu)):
                ours, stock = (
                    raised(lambda m, i, s=stream: m.matmul(i.a, i.b, stream=s), m, i) for m in (autotune, STOCK)
                )
                assert ours == stock


@pytest.mark.parametrize("op", ORIGINAL)
def test_docstrings_tell_what_is_routed_and_end_with_mlxs(op):
    text = inspect.getdoc(getattr(autotune, op))
    for word in ("(..., M, K)", "float16", "Returns", "Raises", "last bits") if op != "addmm" else ("(N,)", "Raises"):
        assert word in text
    assert f"mx.{op}" not in text
    own, mlxs = text.split("MLX's own text:")
    assert mlxs.split() == STOCK.__dict__[op].__doc__.split()
    assert all(len(line) - len(line.lstrip()) < 4 for line in own.splitlines())


class TestPackage:
    def test_names(self):
        ops = {"matmul", "addmm", "quantized_matmul"}
        assert ops | {"enable", "disable", "stock", "use_table", "coverage"} <= set(autotune.__all__)
        assert all(getattr(autotune, name) is not None for name in autotune.__all__)
        with pytest.raises(AttributeError, match="nosuch"):
            _ = autotune.nosuch

    def test_importing_costs_no_mlx(self):
        code = "import sys, autotune; print('mlx' in sys.modules, 'numpy' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["False", "False"]

    @pytest.mark.slow
    def test_routed_calls_import_nothing_but_mlx(self, write_table):
        path = write_table({f"matmul N={N} K={K} f32 nt": [(M, M, "chunk rows=2")]})
        code = (
            "import sys, mlx.core as mx, autotune\n"
            f"mx.eval(autotune.matmul(mx.ones(({M}, {K})), mx.ones(({K}, {N}))))\n"
            "print([name for name in ('numpy', 'optuna', 'pandas', 'yaml', 'typer', 'rich') if name in sys.modules])"
        )
        env = {**os.environ, "AUTOTUNE_TABLES": str(path)}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"
