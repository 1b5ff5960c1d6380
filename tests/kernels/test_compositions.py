"""Every composition against a float64 reference and against stock, in every form in which a program may call it."""

from __future__ import annotations

import functools
import importlib
import zlib

import mlx.core as mx
import numpy as np
import pytest

from autotune import kernels
from autotune.devices import operands, reference
from autotune.errors import UsageError
from autotune.kernels import KERNELS, Route
from autotune.kernels.family import Family
from autotune.mlx_ops import ORIGINAL
from autotune.problem import EPILOGUES, LAYOUTS, Problem

UNIT_ROUNDOFF = {"f32": 2.0**-24, "f16": 2.0**-11, "bf16": 2.0**-8}
ROUTES = [
    Route.parse(text)
    for text in (
        "stock",
        "pad multiple=8 fill=zeros",
        "pad multiple=8 fill=repeat",
        "pad multiple=5 fill=zeros",
        "chunk rows=1",
        "chunk rows=2",
        "chunk rows=3",
        "dequantize compute=native",
        "dequantize compute=float32",
        "split_k parts=2",
        "split_k parts=4",
        "fold_k parts=2 sum=float32",
        "fold_k parts=4 sum=float32",
        "fold_k parts=4 sum=native",
        "upcast",
    )
]
OTHERS = [route for route in ROUTES if route.kernel != "stock"]
QUANTIZATIONS = (
    "affine-b1-g32",
    "affine-b2-g32",
    "affine-b3-g64",
    "affine-b4-g64",
    "affine-b5-g128",
    "affine-b6-g32",
    "affine-b8-g128",
    "mxfp4-b4-g32",
    "mxfp8-b8-g32",
    "nvfp4-b4-g16",
)


def route_ids(route: Route) -> str:
    return str(route).replace(" ", ",")


def dense_problems(k: int = 256, n: int = 24) -> list[Problem]:
    shapes = [(7, 1), (7, 3), (1, 1), (1, 3)]
    return [
        problem
        for m, batch in shapes
        for layout in LAYOUTS
        for dtype in UNIT_ROUNDOFF
        for problem in (
            Problem("matmul", m, n, k, dtype, layout, batch=batch),
            *(Problem("addmm", m, n, k, dtype, layout, batch=batch, epilogue=epilogue) for epilogue in EPILOGUES),
        )
    ]


def quantized_problems() -> list[Problem]:
    """All quantizations with seven rows, a few of them with one; N is ragged where it may be, else one group."""
    return [
        Problem.parse(f"quantized_matmul M={m} N={n} K=256 {dtype} {quantization} {layout}")
        for dtype in UNIT_ROUNDOFF
        for m, quantizations in ((7, QUANTIZATIONS), (1, QUANTIZATIONS[3::5]))
        for quantization in quantizations
        for layout, n in (("nt", 26), ("nn", max(32, int(quantization.split("-g")[1]))))
    ]


def doubles(array: mx.array) -> np.ndarray:
    return np.array(array.astype(mx.float32)).astype(np.float64)


def drawn(problem: Problem, seed: int) -> operands.Operands:
    """Normal random matrices, with B scaled so that results are of order one; quantized ones by ``mx.quantize``."""
    dtype, lead = operands.DTYPES[problem.dtype], (problem.batch,) if problem.batch > 1 else ()
    keys = mx.random.split(mx.random.key(seed), 3)

    def matrix(rows: int, columns: int, transposed: bool, key: mx.array) -> mx.array:
        shape = (*lead, columns, rows) if transposed else (*lead, rows, columns)
        out = mx.random.normal(shape, key=key).astype(dtype)
        return mx.swapaxes(out, -1, -2) if transposed else out

    a = matrix(problem.m, problem.k, problem.layout[0] == "t", keys[0])
    b = matrix(problem.k, problem.n, problem.layout[1] == "t", keys[1]) * mx.array(problem.k**-0.5, dtype)
    if problem.layout[1] == "t":  # arithmetic on a view may have made it contiguous
        b = mx.swapaxes(mx.contiguous(mx.swapaxes(b, -1, -2)), -1, -2)
    c = mx.random.normal((*lead, problem.m, problem.n), key=keys[2]).astype(dtype)
    if problem.epilogue != "full":
        c = c.reshape(-1)[: problem.n] if problem.epilogue else None
    weights = (b,)
    if q := problem.quantization:
        stored = mx.swapaxes(b, -1, -2) if problem.layout == "nt" else b
        weights = tuple(mx.quantize(stored, q.group_size, q.bits, q.mode))
    return operands.Operands(a, weights, c)


@functools.cache
def case(problem: Problem) -> tuple[operands.Operands, mx.array, np.ndarray]:
    """Inputs of the problem, stock's result and the expected one; made once for all routes."""
    inputs = drawn(problem, zlib.crc32(str(problem).encode()))
    stock = called(kernels.build(kernels.STOCK, problem), problem, inputs)
    return inputs, stock, expected64(problem, inputs)


def called(op, problem: Problem, inputs: operands.Operands, **keywords) -> mx.array:
    """The op on these inputs; ``keywords`` override alpha, beta or stream."""
    return op(*operands.arguments(problem, inputs.a, inputs.weights, inputs.c), **keywords)


def weights64(problem: Problem, inputs: operands.Operands) -> np.ndarray:
    """B (..., K, N) in float64."""
    if problem.quantization is None:
        return doubles(inputs.weights[0])
    w, scales, *biases = inputs.weights
    affine = problem.quantization.has_biases
    stored = reference.dequantize(
        np.array(w),
        doubles(scales) if affine else np.array(scales),
        doubles(biases[0]) if affine else None,
        problem.quantization,
    )
    return stored.T if problem.layout == "nt" else stored


def expected64(problem: Problem, inputs: operands.Operands, alpha: float = 1.0, beta: float = 1.0) -> np.ndarray:
    out = alpha * (doubles(inputs.a) @ weights64(problem, inputs))
    return out if inputs.c is None else out + beta * doubles(inputs.c)


def relative(difference: np.ndarray, to: np.ndarray) -> float:
    return float(np.linalg.norm(difference) / np.linalg.norm(to))


def assert_as_good_as_stock(problem: Problem, route: Route, out: mx.array, stock: mx.array, expected: np.ndarray):
    """Shape and dtype of stock, and an error within the kernel's factor of stock's or of what is unavoidable.

    Unavoidable are one rounding of the result, and a random walk of roundings in a float32 sum over K.
    """
    assert out.shape == stock.shape == expected.shape, (problem, route)
    assert out.dtype == stock.dtype, (problem, route)
    u, factor = UNIT_ROUNDOFF[problem.dtype], 1.05 * KERNELS[route.kernel].accuracy
    seen, theirs = doubles(out), doubles(stock)
    error, stock_error = relative(seen - expected, expected), relative(theirs - expected, expected)
    floor = max(u / 2, problem.k**0.5 * UNIT_ROUNDOFF["f32"] / 2)
    assert error <= factor * max(stock_error, floor), (problem, route, error, stock_error)
    rms = float(np.sqrt(np.mean(expected**2)))
    worst, stock_worst = (float(np.abs(each - expected).max()) / rms for each in (seen, theirs))
    assert worst <= 2 * factor * max(stock_worst, 4 * max(u, floor)), (problem, route, worst, stock_worst)


@pytest.mark.parametrize("route", OTHERS, ids=route_ids)
class TestNumbers:
    @pytest.mark.parametrize("dtype", UNIT_ROUNDOFF)
    def test_dense(self, route, dtype):
        served = [p for p in dense_problems() if p.dtype == dtype and kernels.accepts(route, p)]
        expected_none = route.kernel in ("dequantize", "fold_k") or (route.kernel, dtype) in (
            ("upcast", "f32"),
            ("split_k", "f16"),
            ("split_k", "bf16"),
        )
        assert bool(served) != expected_none
        for problem in served:
            inputs, stock, expected = case(problem)
            out = called(kernels.build(route, problem), problem, inputs)
            assert_as_good_as_stock(problem, route, out, stock, expected)

    @pytest.mark.parametrize("dtype", UNIT_ROUNDOFF)
    def test_quantized(self, route, dtype):
        served = [p for p in quantized_problems() if p.dtype == dtype and kernels.accepts(route, p)]
        expected_none = dtype == "f32" and str(route) in (
            "upcast",
            "dequantize compute=float32",
            "fold_k parts=4 sum=native",
        )
        assert bool(served) != expected_none
        for problem in served:
            inputs, stock, expected = case(problem)
            assert len(inputs.weights) == (3 if problem.quantization.has_biases else 2)
            out = called(kernels.build(route, problem), problem, inputs)
            assert_as_good_as_stock(problem, route, out, stock, expected)

    @pytest.mark.parametrize(("alpha", "beta"), [(0.5, 1.0), (1.0, -2.0), (-0.75, 0.0), (0.0, 3.0)])
    @pytest.mark.parametrize("epilogue", EPILOGUES)
    def test_alpha_and_beta(self, route, epilogue, alpha, beta):
        for seed, dtype in enumerate(UNIT_ROUNDOFF):
            problem = Problem("addmm", 7, 24, 256, dtype, "nn", epilogue=epilogue)
            if not kernels.accepts(route, problem):
                continue
            inputs = drawn(problem, seed)
            stock = called(mx.addmm, problem, inputs, alpha=alpha, beta=beta)
            out = called(kernels.build(route, problem), problem, inputs, alpha=alpha, beta=beta)
            assert_as_good_as_stock(problem, route, out, stock, expected64(problem, inputs, alpha, beta))

    @pytest.mark.parametrize("dtype", ["f16", "bf16"])
    def test_finite_where_stock_is(self, route, dtype):
        """Halves of K that overflow float16, each by itself, and cancel: stock sums them in float32."""
        for op in ("matmul M=7 N=24 K=256", "addmm M=7 N=24 K=256 row"):
            problem = Problem.parse(f"{op} {dtype} nn")
            if not kernels.accepts(route, problem):
                continue
            inputs = drawn(problem, 1)
            half = mx.full((7, 128), 1100.0, dtype=inputs.a.dtype)
            ones = mx.ones((256, 24), dtype=inputs.a.dtype)
            inputs = operands.Operands(mx.concatenate([half, -half], axis=1), (ones,), inputs.c)
            stock = called(kernels.build(kernels.STOCK, problem), problem, inputs)
            assert mx.all(mx.isfinite(stock)).item()
            assert mx.all(mx.isfinite(called(kernels.build(route, problem), problem, inputs))).item(), problem

    def test_another_m_than_the_one_it_was_built_for(self, route):
        """A route is built once for a family and then called with any M, legal for it or not."""
        for problem in every_op(route):
            run = kernels.build(route, problem)
            for m in (1, 2, 3, 8, 17):
                other = problem.with_m(m)
                inputs, stock, expected = case(other)
                assert_as_good_as_stock(other, route, called(run, other, inputs), stock, expected)


def narrow(route: Route) -> str:
    """The narrowest dtype that a route is tried with: split_k serves no dense 16-bit products."""
    return "f32" if route.kernel == "split_k" else "f16"


def every_op(route: Route, m: int = 7) -> list[Problem]:
    """One problem of each op and form of addend that the route serves."""
    dtype = narrow(route)
    texts = (
        f"matmul M={m} N=24 K=256 {dtype} nt",
        f"addmm M={m} N=24 K=256 {dtype} nt row",
        f"addmm M={m} N=24 K=256 {dtype} nt full",
        f"quantized_matmul M={m} N=26 K=256 {dtype} affine-b4-g64 nt",
        f"quantized_matmul M={m} N=64 K=256 {dtype} affine-b4-g64 nn",
        f"quantized_matmul M={m} N=26 K=256 {dtype} mxfp4-b4-g32 nt",
    )
    served = [problem for problem in map(Problem.parse, texts) if kernels.accepts(route, problem)]
    assert served
    return served


def with_a(inputs: operands.Operands, a: mx.array) -> operands.Operands:
    return operands.Operands(a, inputs.weights, inputs.c)


def split_rows(inputs: operands.Operands, lead: tuple[int, ...]) -> operands.Operands:
    """The same inputs with A's rows, and those of a full addend, in leading axes."""

    def split(array: mx.array) -> mx.array:
        return array.reshape(*lead, array.shape[-1])

    c = inputs.c if inputs.c is None or inputs.c.ndim == 1 else split(inputs.c)
    return operands.Operands(split(inputs.a), inputs.weights, c)


@pytest.mark.parametrize("route", ROUTES, ids=route_ids)
class TestForms:
    """One problem of each op that the route serves, called in all the ways that MLX's op can be called."""

    @pytest.mark.parametrize("lead", [(1, 6), (2, 3), (3, 1, 2), (6, 1)])
    def test_leading_axes_of_a(self, route, lead):
        for seed, problem in enumerate(every_op(route, 6)):
            inputs = split_rows(drawn(problem, seed), lead)
            out = called(kernels.build(route, problem), problem, inputs)
            stock = called(kernels.build(kernels.STOCK, problem), problem, inputs)
            assert_as_good_as_stock(problem, route, out, stock, expected64(problem, inputs))

    @pytest.mark.parametrize("lead", [(4,), (2, 2), (1, 4)])
    def test_batched_b(self, route, lead):
        for seed, problem in enumerate(every_op(route)):
            batched = (
                Problem(problem.op, 7, 24, 256, "f16", problem.layout, batch=4, epilogue=problem.epilogue)
                if problem.quantization is None
                else None
            )
            if batched is None or not kernels.accepts(route, batched):
                continue
            inputs = drawn(batched, seed)
            a, b, c = (
                array if array is None or array.ndim == 1 else array.reshape(*lead, *array.shape[-2:])
                for array in (inputs.a, inputs.weights[0], inputs.c)
            )
            inputs = operands.Operands(a, (b,), c)
            out = called(kernels.build(route, batched), batched, inputs)
            stock = called(kernels.build(kernels.STOCK, batched), batched, inputs)
            assert_as_good_as_stock(batched, route, out, stock, expected64(batched, inputs))

    def test_one_b_with_a_leading_axis(self, route):
        """A (1, M, K) times (1, K, N) is one product, and therefore of the family without a batch."""
        for seed, problem in enumerate(every_op(route)):
            if problem.quantization is not None:
                continue
            inputs = drawn(problem, seed)
            c = inputs.c if problem.epilogue != "full" else inputs.c[None]
            inputs = operands.Operands(inputs.a[None], (inputs.weights[0][None],), c)
            out = called(kernels.build(route, problem), problem, inputs)
            stock = called(kernels.build(kernels.STOCK, problem), problem, inputs)
            assert_as_good_as_stock(problem, route, out, stock, expected64(problem, inputs))

    def test_an_addend_of_one_row_with_two_axes(self, route):
        problem = Problem.parse(f"addmm M=7 N=24 K=256 {narrow(route)} nt row")
        if not kernels.accepts(route, problem):
            pytest.skip("serves no addmm")
        inputs = drawn(problem, 3)
        inputs = operands.Operands(inputs.a, inputs.weights, inputs.c[None])
        out = called(kernels.build(route, problem), problem, inputs)
        stock = called(mx.addmm, problem, inputs)
        assert_as_good_as_stock(problem, route, out, stock, expected64(problem, inputs))

    def test_inputs_that_are_not_contiguous(self, route):
        for seed, problem in enumerate(every_op(route)):
            inputs = drawn(problem, seed)
            spread = mx.random.normal((14, 2 * problem.k + 1), key=mx.random.key(seed)).astype(inputs.a.dtype)
            dense = [inputs.weights[0][:, ::2]] if problem.quantization is None else []
            for a in (spread[::2, 1::2], spread[:7, : problem.k], spread[::-1][:7, : problem.k]):
                sliced = with_a(inputs, a)
                if dense:
                    c = None if inputs.c is None else inputs.c[..., ::2]
                    sliced = operands.Operands(a, tuple(dense), c)
                out = called(kernels.build(route, problem), problem, sliced)
                stock = called(kernels.build(kernels.STOCK, problem), problem, sliced)
                assert_as_good_as_stock(problem, route, out, stock, expected64(problem, sliced))

    @pytest.mark.parametrize(
        "stream", [None, mx.cpu, mx.Device(mx.cpu), mx.default_stream(mx.cpu), mx.new_stream(mx.cpu)]
    )
    def test_stream(self, route, stream):
        for problem in every_op(route):
            inputs, stock, expected = case(problem)
            out = called(kernels.build(route, problem), problem, inputs, stream=stream)
            assert_as_good_as_stock(problem, route, out, stock, expected)

    def test_every_step_is_given_the_stream(self, route, monkeypatch):
        """With one device nothing shows where a step ran, so what each step is called with is recorded."""
        stream, astray = mx.default_stream(mx.cpu), []

        def watched(name, function):
            def call(*args, **keywords):
                if keywords.get("stream") is not stream:
                    astray.append(name)
                return function(*args, **keywords)

            return call

        problems = every_op(route)
        inputs = {problem: case(problem)[0] for problem in problems}
        for name, function in list(vars(mx).items()):
            if callable(function) and "stream: " in (function.__doc__ or ""):
                monkeypatch.setattr(mx, name, watched(name, function))
        monkeypatch.setattr(mx.array, "astype", watched("astype", mx.array.astype))
        for module in map(importlib.import_module, KERNELS[route.kernel].sources()):
            for name, value in list(vars(module).items()):
                if any(value is original for original in ORIGINAL.values()):
                    monkeypatch.setattr(module, name, watched(name, value))
        for problem in problems:
            called(kernels.build(route, problem), problem, inputs[problem], stream=stream)
        assert astray == []

    def test_keywords_of_the_quantized_op(self, route):
        for seed, problem in enumerate(p for p in every_op(route) if p.quantization):
            q, (w, scales, *biases) = problem.quantization, (inputs := drawn(problem, seed)).weights
            keywords = {"transpose": problem.layout == "nt", "group_size": q.group_size, "bits": q.bits, "mode": q.mode}
            run = kernels.build(route, problem)
            out = run(inputs.a, w, scales=scales, biases=biases[0] if biases else None, **keywords)
            assert mx.array_equal(out, called(run, problem, inputs)).item()

    def test_defaults_of_the_quantized_op(self, route):
        """Bits and group size that a call leaves out are the mode's."""
        for seed, problem in enumerate(p for p in every_op(route) if p.quantization):
            w, scales, *biases = (inputs := drawn(problem, seed)).weights
            run = kernels.build(route, problem)
            out = run(inputs.a, w, scales, *biases, transpose=problem.layout == "nt", mode=problem.quantization.mode)
            assert mx.array_equal(out, called(run, problem, inputs)).item()

    def test_compiled_is_as_good(self, route):
        for problem in every_op(route):
            (inputs, stock, expected), run = case(problem), kernels.build(route, problem)
            compiled = mx.compile(lambda a, run=run, p=problem, i=inputs: called(run, p, with_a(i, a)))
            for _ in range(2):
                assert_as_good_as_stock(problem, route, compiled(inputs.a), stock, expected)

    def test_vmap_over_a(self, route):
        for seed, problem in enumerate(p for p in every_op(route) if p.quantization is None):
            inputs, run = drawn(problem, seed), kernels.build(route, problem)
            stacked = mx.stack([inputs.a, 2 * inputs.a, -inputs.a])
            stock = kernels.build(kernels.STOCK, problem)
            out, theirs = (
                mx.vmap(lambda a, op=op, p=problem, i=inputs: called(op, p, with_a(i, a)))(stacked)
                for op in (run, stock)
            )
            whole = with_a(inputs, stacked)
            assert_as_good_as_stock(problem, route, out, theirs, expected64(problem, whole))

    def test_vmap_over_b(self, route):
        for seed, problem in enumerate(p for p in every_op(route) if p.quantization is None):
            inputs, run = drawn(problem, seed), kernels.build(route, problem)
            stacked = mx.stack([inputs.weights[0], -inputs.weights[0]])
            stock = kernels.build(kernels.STOCK, problem)
            out, theirs = (
                mx.vmap(lambda b, op=op, p=problem, i=inputs: called(op, p, operands.Operands(i.a, (b,), i.c)))(stacked)
                for op in (run, stock)
            )
            whole = operands.Operands(inputs.a, (stacked,), inputs.c)
            assert_as_good_as_stock(problem, route, out, theirs, expected64(problem, whole))


@pytest.mark.parametrize("route", OTHERS, ids=route_ids)
@pytest.mark.parametrize("dtype", UNIT_ROUNDOFF)
class TestGradients:
    """Gradients are those of stock up to rounding: sums that are rounded in another place differ by a few roundings."""

    def test_all_differentiable_inputs(self, route, dtype):
        texts = (
            f"matmul M=7 N=64 K=256 {dtype} nt",
            f"matmul M=7 N=64 K=256 {dtype} nn",
            f"addmm M=7 N=64 K=256 {dtype} nt row",
            f"addmm M=7 N=64 K=256 {dtype} nt full",
            f"quantized_matmul M=7 N=64 K=256 {dtype} affine-b4-g64 nt",
            f"quantized_matmul M=7 N=64 K=256 {dtype} affine-b4-g64 nn",
            f"quantized_matmul M=7 N=64 K=256 {dtype} mxfp4-b4-g32 nt",
            f"quantized_matmul M=7 N=64 K=256 {dtype} mxfp4-b4-g32 nn",
        )
        for seed, problem in enumerate(map(Problem.parse, texts)):
            if not kernels.accepts(route, problem):
                continue
            arguments = operands.arguments(problem, *(lambda i: (i.a, i.weights, i.c))(drawn(problem, seed)))
            places = differentiable(problem)
            cotangent = mx.random.normal((7, 64), key=mx.random.key(seed + 100)).astype(arguments[places[0]].dtype)
            ours = gradients(kernels.build(route, problem), arguments, places, cotangent)
            theirs = gradients(kernels.build(kernels.STOCK, problem), arguments, places, cotangent)
            for place, mine, stocks in zip(places, ours, theirs):
                assert (mine.shape, mine.dtype) == (stocks.shape, stocks.dtype), (problem, place)
                distance = relative(doubles(mine) - doubles(stocks), doubles(stocks))
                assert distance <= 8 * UNIT_ROUNDOFF[dtype], (problem, place, distance)

    def test_grad_of_a_loss(self, route, dtype):
        for seed, problem in enumerate(
            p
            for p in map(
                Problem.parse,
                (f"matmul M=7 N=64 K=256 {dtype}", f"quantized_matmul M=7 N=64 K=256 {dtype} affine-b4-g64 nt"),
            )
            if kernels.accepts(route, p)
        ):
            inputs = drawn(problem, seed)

            def loss(a, op, inputs=inputs, problem=problem):
                out = called(op, problem, with_a(inputs, a))
                return mx.mean(mx.square(out.astype(mx.float32)))

            mine = mx.grad(loss)(inputs.a, kernels.build(route, problem))
            stocks = mx.grad(loss)(inputs.a, kernels.build(kernels.STOCK, problem))
            assert relative(doubles(mine) - doubles(stocks), doubles(stocks)) <= 8 * UNIT_ROUNDOFF[dtype]


def differentiable(problem: Problem) -> tuple[int, ...]:
    """Positions of the arguments with respect to which stock has a gradient."""
    if problem.op == "matmul":
        return (0, 1)
    if problem.op == "addmm":
        return (0, 1, 2)
    return (0, 2, 3) if problem.quantization.has_biases else (0,)


def gradients(op, arguments, places, cotangent):
    def function(*some):
        full = list(arguments)
        for place, value in zip(places, some):
            full[place] = value
        return op(*full)

    _, grads = mx.vjp(function, [arguments[place] for place in places], [cotangent])
    return grads


class TestLegality:
    @pytest.mark.parametrize(
        ("problem", "route"),
        [
            ("matmul M=7 N=64 K=64 f16", "pad multiple=8 fill=zeros"),
            ("matmul M=1 N=64 K=64 f16", "pad multiple=33 fill=zeros"),
            ("matmul M=64 N=64 K=64 f16", "pad multiple=192 fill=zeros"),
            ("matmul M=9 N=64 K=64 f16", "chunk rows=8"),
            ("matmul M=64 N=64 K=64 f16", "chunk rows=8"),
            ("matmul M=7 N=64 K=128 f32 nn", "split_k parts=2"),
            ("quantized_matmul M=7 N=64 K=128 f16 affine-b4-g64 nn", "split_k parts=2"),
            ("matmul M=512 N=8 K=128 f32", "split_k parts=2"),
            ("quantized_matmul M=7 N=64 K=128 f16 affine-b4-g64 nt", "fold_k parts=2 sum=native"),
            ("quantized_matmul M=8 N=64 K=4096 f16 affine-b4-g64 nt", "fold_k parts=64 sum=float32"),
            ("matmul M=7 N=64 K=64 f16", "upcast"),
            ("quantized_matmul M=7 N=64 K=64 f32 affine-b4-g64", "dequantize compute=native"),
            ("quantized_matmul M=7 N=64 K=64 bf16 affine-b4-g64", "dequantize compute=float32"),
            ("matmul M=7 N=64 K=64 B=3 f16", "chunk rows=4"),
            ("matmul M=7 N=64 K=64 f16", "stock"),
        ],
    )
    def test_legal(self, problem, route):
        assert kernels.accepts(Route.parse(route), Problem.parse(problem))

    @pytest.mark.parametrize(
        ("problem", "route", "why"),
        [
            ("matmul M=8 N=64 K=64 f16", "pad multiple=8 fill=zeros", "M is the multiple already"),
            ("matmul M=16 N=64 K=64 f16", "pad multiple=8 fill=zeros", "M is a multiple already"),
            ("matmul M=1 N=64 K=64 f16", "pad multiple=34 fill=zeros", "34 rows for one, above every vector_limit"),
            ("matmul M=64 N=64 K=64 f16", "pad multiple=193 fill=zeros", "more than 2 M + 64"),
            ("matmul M=8 N=64 K=64 f16", "chunk rows=8", "one piece"),
            ("matmul M=7 N=64 K=64 f16", "chunk rows=8", "less than a piece"),
            ("matmul M=65 N=64 K=64 f16", "chunk rows=8", "nine pieces"),
            ("matmul M=7 N=64 K=128 f16", "split_k parts=2", "partial sums overflow"),
            ("addmm M=7 N=64 K=128 bf16", "split_k parts=2", "partial sums are rounded"),
            ("matmul M=7 N=64 K=129 f32", "split_k parts=2", "129 is odd"),
            ("matmul M=7 N=64 K=126 f32", "split_k parts=2", "slices shorter than 64"),
            ("matmul M=7 N=64 K=128 B=2 f32", "split_k parts=2", "a batch"),
            ("matmul M=516 N=8 K=128 f32", "split_k parts=2", "K below a quarter of M"),
            ("matmul M=8 N=516 K=128 f32", "split_k parts=2", "K below a quarter of N"),
            ("quantized_matmul M=7 N=64 K=128 f16 affine-b4-g64 nt", "split_k parts=2", "packed along K"),
            ("quantized_matmul M=7 N=64 K=128 f16 affine-b4-g64 nn", "fold_k parts=2 sum=float32", "split_k serves it"),
            ("quantized_matmul M=7 N=64 K=64 f16 affine-b4-g64 nt", "fold_k parts=2 sum=float32", "half a group"),
            (
                "quantized_matmul M=7 N=64 K=192 f16 affine-b4-g64 nt",
                "fold_k parts=2 sum=float32",
                "a group and a half",
            ),
            ("quantized_matmul M=9 N=64 K=4096 f16 affine-b4-g64 nt", "fold_k parts=64 sum=float32", "576 rows"),
            ("quantized_matmul M=7 N=64 K=128 f32 affine-b4-g64 nt", "fold_k parts=2 sum=native", "float32 already"),
            ("quantized_matmul M=7 N=64 K=32 f16 nvfp4-b4-g16 nn", "fold_k parts=2 sum=float32", "packed along N"),
            ("matmul M=7 N=64 K=128 f16 nt", "fold_k parts=2 sum=float32", "no quantized weights"),
            ("matmul M=7 N=64 K=64 f32", "upcast", "float32 already"),
            ("quantized_matmul M=7 N=64 K=64 f32 affine-b4-g64", "dequantize compute=float32", "float32 already"),
            ("matmul M=7 N=64 K=64 f16", "dequantize compute=native", "no quantized weights"),
        ],
    )
    def test_illegal(self, problem, route, why):
        assert not kernels.accepts(Route.parse(route), Problem.parse(problem)), why

    @pytest.mark.parametrize(
        "route",
        [
            Route.of("nosuch"),
            Route.of("stock", {"multiple": 8}),
            Route.of("pad"),
            Route.of("pad", {"multiple": 8}),
            Route.of("pad", {"fill": "zeros", "multiple": 8}),
            Route.of("pad", {"multiple": 8, "fill": "zeros", "rows": 1}),
            Route.of("pad", {"rows": 8, "fill": "zeros"}),
            Route.of("pad", {"multiple": 1, "fill": "zeros"}),
            Route.of("pad", {"multiple": 4097, "fill": "zeros"}),
            Route.of("pad", {"multiple": 0, "fill": "zeros"}),
            Route.of("pad", {"multiple": -8, "fill": "zeros"}),
            Route.of("pad", {"multiple": "8", "fill": "zeros"}),
            Route.of("pad", {"multiple": 8.0, "fill": "zeros"}),
            Route.of("pad", {"multiple": None, "fill": "zeros"}),
            Route.of("pad", {"multiple": 8, "fill": "ones"}),
            Route.of("pad", {"multiple": 8, "fill": 0}),
            Route.of("chunk", {"rows": True}),
            Route.of("chunk", {"rows": 0}),
            Route.of("split_k", {"parts": 1}),
            Route.of("split_k", {"parts": 65}),
            Route.of("split_k", {"parts": True}),
        ],
        ids=route_ids,
    )
    def test_outside_the_declared_space(self, route):
        assert not kernels.accepts(route, Problem.parse("matmul M=7 N=64 K=8320 bf16"))

    def test_paddings_to_the_same_rows_are_the_same_work(self):
        pad, problem = KERNELS["pad"], Problem.parse("matmul M=5 N=64 K=64 f16")
        zeros = [pad.same(problem, {"multiple": multiple, "fill": "zeros"}) for multiple in (2, 3, 6, 8)]
        assert zeros[0] == zeros[1] == zeros[2] != zeros[3]
        assert pad.same(problem, {"multiple": 6, "fill": "repeat"}) not in zeros


class TestRoutes:
    def test_text_round_trips(self):
        for route in ROUTES:
            assert Route.parse(str(route)) == route
            assert Route.of(route.kernel, route.config) == route

    @pytest.mark.parametrize("text", ["pad multiple", "pad multiple=", "pad 8"])
    def test_malformed_text_is_refused(self, text):
        with pytest.raises(UsageError, match="KERNEL NAME=VALUE"):
            Route.parse(text)

    def test_an_unknown_kernel_is_named_with_the_nearest(self):
        with pytest.raises(UsageError, match="did you mean split_k"):
            kernels.kernel("splitk")

    def test_every_kernel_is_registered_under_its_name(self):
        assert all(name == kernel.name and kernel.summary and kernel.ops for name, kernel in KERNELS.items())

    def test_every_composition_is_tested_here(self):
        compositions = {name for name, kernel in KERNELS.items() if not isinstance(kernel, Family)}
        assert compositions == {route.kernel for route in ROUTES}
