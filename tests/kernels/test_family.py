"""What our Metal kernels share, on kernels made of stock ops that stand for real ones: gradients, and the first try."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from autotune import kernels
from autotune.kernels import Parameter, Route, family, launch
from autotune.kernels.family import Family
from autotune.mlx_ops import ORIGINAL
from autotune.problem import LAYOUTS, OPS, Problem
from autotune.routing import router
from autotune.routing.router import ROUTERS, RoutingWarning
from autotune.search import space

QUANTIZED = "quantized_matmul M=3 N=64 K=128 f32 affine-b4-g64 nt"
PROBLEMS = [
    Problem.parse(text)
    for text in (
        "matmul M=3 N=64 K=128 f32 nt",
        "matmul M=3 N=64 K=128 f16 nn",
        "matmul M=3 N=64 K=128 B=2 bf16 nn",
        "addmm M=3 N=64 K=128 f32 nt row",
        "addmm M=3 N=64 K=128 f16 nn full",
        QUANTIZED,
        "quantized_matmul M=3 N=64 K=128 f16 affine-b8-g32 nt",
        "quantized_matmul M=3 N=64 K=128 bf16 mxfp4-b4-g32 nt",
        "quantized_matmul M=3 N=64 K=128 f16 nvfp4-b4-g16 nt",
        "quantized_matmul M=3 N=64 K=128 f16 affine-b4-g64 nn",
    )
]


class Right(Family):
    """A family whose launches are products in float32; ``shift`` is added to every result."""

    name = "right"
    summary = "a stand-in"
    ops = OPS
    backends = ("cpu",)
    parameters = {"shift": Parameter(0, 9)}

    def __init__(self):
        self.calls = 0

    def _product(self, config, a, b, stream):
        self.calls += 1
        wide = ORIGINAL["matmul"](a.astype(mx.float32), b.astype(mx.float32), stream=stream)
        return wide + config["shift"]

    def dense(self, config, dtype, a, b, c):
        def start(a, b, *added, stream):
            return epilogue(self._product(config, a, b, stream), *added).astype(dtype)

        return start, None

    def quantized(self, config, dtype, q, x, w):
        def start(x, *packed, stream):
            dense = mx.dequantize(*packed, group_size=q.group_size, bits=q.bits, mode=q.mode)
            dense = dense if dense.shape[0] == x.shape[-1] else dense.T
            return self._product(config, x, dense, stream).astype(dtype)

        return start, None


class Split(Right):
    """A family whose first launch leaves partial sums, which the second adds up."""

    name = "split"

    def dense(self, config, dtype, a, b, c):
        half = a[-1] // 2

        def first(a, b, *, stream):
            parts = ((a[..., :half], b[..., :half, :]), (a[..., half:], b[..., half:, :]))
            return mx.stack([self._product(config, *part, stream) for part in parts])

        def last(partials, *added, stream):
            return epilogue(partials.sum(axis=0), *added).astype(dtype)

        return first, last


def epilogue(product, factors=None, c=None):
    return product if factors is None else factors[0] * product + factors[1] * c.astype(mx.float32)


class Refused(Right):
    """A family that the device's compiler does not take."""

    name = "refused"

    def _product(self, config, a, b, stream):
        self.calls += 1
        raise RuntimeError("unable to build metal library from source")


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(family, "_PROBED", set())


@pytest.fixture
def register(monkeypatch):
    def add(kernel):
        monkeypatch.setitem(kernels.KERNELS, kernel.name, kernel)
        return kernel

    return add


class TestFirstTry:
    @pytest.mark.parametrize("problem", PROBLEMS, ids=str)
    def test_a_right_kernel_passes(self, problem):
        Right().probe(problem, {"shift": 0})

    @pytest.mark.parametrize("problem", PROBLEMS, ids=str)
    def test_a_wrong_one_does_not(self, problem):
        with pytest.raises(ArithmeticError, match="wrong"):
            Right().probe(problem, {"shift": 9})

    def test_is_made_once_for_a_config_and_kind_of_problem(self):
        kernel, problem = Right(), PROBLEMS[0]
        for m in (3, 5, 70):
            kernel.probe(problem.with_m(m), {"shift": 0})
        assert kernel.calls == len(LAYOUTS)  # a call may have any, whatever the problem says
        kernel.probe(PROBLEMS[1], {"shift": 0})
        assert kernel.calls == 2 * len(LAYOUTS)

    def test_what_the_compiler_says_is_raised(self):
        with pytest.raises(RuntimeError, match="unable to build"):
            Refused().probe(PROBLEMS[0], {"shift": 0})


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
        family._PROBED.clear()
        assert mx.grad(lambda x: mx.sum(layer(x)))(x).shape == x.shape
        assert kernel.calls > 2


def operands(problem):
    x = mx.random.normal((problem.m, problem.k), key=mx.random.key(1))
    return x, mx.quantize(mx.random.normal((problem.n, problem.k), key=mx.random.key(2)), group_size=64, bits=4)


class TestTransformations:
    """Ours counts its calls: a gradient that came through it would mean that it has a rule after all."""

    def cases(self):
        key = mx.random.split(mx.random.key(3), 4)
        a, b, c = (mx.random.normal(shape, key=k) for shape, k in zip(((3, 8), (8, 6), (6,)), key))
        dense = Problem.parse("matmul M=3 N=6 K=8 f32 nn")
        add = Problem.parse("addmm M=3 N=6 K=8 f32 nn row")
        yield Right().build(dense, {"shift": 0}), ORIGINAL["matmul"], (a, b)
        yield Right().build(add, {"shift": 0}), ORIGINAL["addmm"], (c, a, b)

    def test_gradients_are_stocks(self):
        for ours, stock, arguments in self.cases():
            every = list(range(len(arguments)))
            seen = mx.grad(lambda *each, op=ours: mx.sum(mx.square(op(*each))), argnums=every)(*arguments)
            expected = mx.grad(lambda *each, op=stock: mx.sum(mx.square(op(*each))), argnums=every)(*arguments)
            assert all(np.allclose(x, y, atol=1e-5) for x, y in zip(seen, expected))

    def test_forward_derivatives_are_stocks(self):
        for ours, stock, arguments in self.cases():
            tangents = [mx.ones_like(each) for each in arguments]
            seen = mx.jvp(lambda *each, op=ours: op(*each), list(arguments), tangents)[1][0]
            assert np.allclose(seen, mx.jvp(stock, list(arguments), tangents)[1][0], atol=1e-5)
            seen = mx.jvp(lambda x, op=ours, rest=arguments[1:]: op(x, *rest), [arguments[0]], tangents[:1])[1][0]
            expected = mx.jvp(lambda x, op=stock, rest=arguments[1:]: op(x, *rest), [arguments[0]], tangents[:1])[1][0]
            assert np.allclose(seen, expected, atol=1e-5)

    def test_vectorization_is_stocks(self):
        ours, stock, (a, b) = next(self.cases())
        many = mx.stack([a, 2 * a])
        assert np.allclose(mx.vmap(lambda x: ours(x, b))(many), stock(many, b), atol=1e-5)
        assert np.allclose(mx.vmap(lambda x: ours(x, b), in_axes=2)(mx.moveaxis(many, 0, 2)), stock(many, b), atol=1e-5)

    def test_a_quantized_product_has_a_gradient_for_x(self):
        problem = Problem.parse(QUANTIZED)
        x, packed = operands(problem)
        ours = Right().build(problem, {"shift": 0})
        seen = mx.grad(lambda x: mx.sum(mx.square(ours(x, *packed, True, 64, 4, "affine"))))(x)
        expected = mx.grad(lambda x: mx.sum(mx.square(mx.quantized_matmul(x, *packed, group_size=64, bits=4))))(x)
        assert np.allclose(seen, expected, rtol=1e-4, atol=1e-2)

    def test_alpha_and_beta_arrive(self):
        ours, _, (c, a, b) = list(self.cases())[1]
        assert np.allclose(ours(c, a, b, 0.5, 2), 0.5 * (a @ b) + 2 * c, atol=1e-5)


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

    def test_bare_ones_are_the_same_without_rules(self, monkeypatch):
        problem = Problem.parse(QUANTIZED)
        x, packed = operands(problem)
        expected = Right().build(problem, {"shift": 0})(x, *packed, True, 64, 4, "affine")
        monkeypatch.setattr(family, "with_rules", None)
        seen = Right().bare(problem, {"shift": 0})(x, *packed, True, 64, 4, "affine")
        assert mx.array_equal(seen, expected)

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


@pytest.mark.parametrize("layout", ["nt", "nn"])
@pytest.mark.parametrize("quantization", ["affine-b4-g32", "affine-b3-g128", "mxfp4-b4-g32", "mxfp8-b8-g32"])
def test_the_first_try_has_whole_groups_in_every_layout(quantization, layout):
    Right().probe(Problem.parse(f"quantized_matmul M=3 N=128 K=128 f16 {quantization} {layout}"), {"shift": 0})


def test_streams_that_are_named_do_not_pile_up():
    made = []
    find = family.kept(lambda stream, *rest: made.append(rest) or len(made))
    assert find(None, 1.0) == find(None, 1.0)
    assert find(mx.default_stream(mx.cpu), 1.0) != find(mx.default_stream(mx.cpu), 1.0)
    for number in range(3 * family.MOST_KEPT):
        find(None, float(number))
    (known,) = [cell.cell_contents for cell in find.__closure__ if isinstance(cell.cell_contents, dict)]
    assert len(known) <= family.MOST_KEPT


def test_operands_in_constant_memory_are_left_to_stock():
    tiny, small = (Problem.parse(f"matmul M=1 N={n} K=512 f16 nt") for n in (7, 8))
    config = space.legal_set(kernels.kernel("gemv"), small, "metal")[0].config
    assert kernels.kernel("gemv").accepts(small, config)
    assert not kernels.kernel("gemv").accepts(tiny, config)
