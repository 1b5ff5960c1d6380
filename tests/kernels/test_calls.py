"""Launches as ops: gradients and the rest of MLX's rules, streams, and what is bare of them."""

from __future__ import annotations

from types import SimpleNamespace

import mlx.core as mx
import numpy as np

from autotune.kernels import calls
from autotune.mlx_ops import ORIGINAL
from autotune.problem import Problem
from kernels.standins import QUANTIZED, Right, operands


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

    def test_a_ready_launch_has_them_too(self):
        problem = Problem.parse(QUANTIZED)
        x, packed = operands(problem)
        launch = Right().build(problem, {"shift": 0}).ready(x.shape, packed[0].shape)
        for stream in (None, mx.cpu):
            seen = mx.grad(lambda x, stream=stream: mx.sum(mx.square(launch((x, *packed), stream))))(x)
            expected = mx.grad(lambda x: mx.sum(mx.square(mx.quantized_matmul(x, *packed, group_size=64, bits=4))))(x)
            assert np.allclose(seen, expected, rtol=1e-4, atol=1e-2)

    def test_alpha_and_beta_arrive(self):
        ours, _, (c, a, b) = list(self.cases())[1]
        assert np.allclose(ours(c, a, b, 0.5, 2), 0.5 * (a @ b) + 2 * c, atol=1e-5)


class TestBare:
    def test_bare_ones_are_the_same_without_rules(self, monkeypatch):
        problem = Problem.parse(QUANTIZED)
        x, packed = operands(problem)
        expected = Right().build(problem, {"shift": 0})(x, *packed, True, 64, 4, "affine")
        monkeypatch.setattr(calls, "with_rules", None)
        seen = Right().bare(problem, {"shift": 0})(x, *packed, True, 64, 4, "affine")
        assert mx.array_equal(seen, expected)

    def test_launches_made_before_are_ready(self):
        first = SimpleNamespace(bound=lambda arrays, stream: ("product", arrays, stream))
        last = SimpleNamespace(bound=lambda arrays, stream: ("sum", arrays, stream))
        fresh = SimpleNamespace(bound=None)
        starts = {1: (first, None), 2: (first, last), 3: (fresh, None), 4: (fresh, last), 5: (first, fresh)}
        ready = calls.BareQuantized(lambda x, w: starts[x[0]]).ready
        assert ready((1, 8), (2, 1))("ab", None) == ("product", "ab", None)
        assert ready((2, 8), (2, 1))("ab", "stream") == ("sum", (("product", "ab", "stream"),), "stream")
        assert [ready((rows, 8), (2, 1)) for rows in (3, 4, 5)] == [None] * 3


def test_streams_that_are_named_do_not_pile_up():
    made = []
    find = calls.kept(lambda stream, *rest: made.append(rest) or len(made))
    assert find(None, 1.0) == find(None, 1.0)
    assert find(mx.default_stream(mx.cpu), 1.0) != find(mx.default_stream(mx.cpu), 1.0)
    for number in range(3 * calls.MOST_KEPT):
        find(None, float(number))
    (known,) = [cell.cell_contents for cell in find.__closure__ if isinstance(cell.cell_contents, dict)]
    assert len(known) <= calls.MOST_KEPT
