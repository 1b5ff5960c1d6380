"""MLX's CPU as a device: does a check see what is wrong, and does a timing time what it says."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from autotune import machine
from autotune.devices import operands
from autotune.devices.base import LOADS, Accuracy
from autotune.devices.mlx import MlxDevice
from autotune.kernels import KERNELS, STOCK, Kernel, Route
from autotune.mlx_ops import ORIGINAL
from autotune.problem import OPS, Problem
from autotune.search.accuracy import objection

CACHE = 1 << 16
EVERY_KIND = (
    *(f"matmul M=5 N=64 K=128 {dtype} {layout}" for dtype in ("f32", "f16", "bf16") for layout in ("nn", "nt")),
    "matmul M=5 N=64 K=128 f32 tn",
    "matmul M=5 N=64 K=128 f32 tt",
    "matmul M=5 N=64 K=128 B=3 f32 nt",
    "matmul M=5 N=1 K=128 f32 nt",
    "addmm M=5 N=64 K=128 f16 nt row",
    "addmm M=5 N=64 K=128 B=3 f32 nn full",
    "quantized_matmul M=5 N=64 K=128 f16 affine-b4-g64 nt",
    "quantized_matmul M=5 N=128 K=128 bf16 affine-b3-g64 nn",
    "quantized_matmul M=5 N=64 K=128 f32 affine-b8-g32 nn",
    "quantized_matmul M=5 N=64 K=128 f16 mxfp4-b4-g32 nt",
    "quantized_matmul M=5 N=64 K=128 f16 mxfp8-b8-g32 nn",
    "quantized_matmul M=5 N=64 K=128 f32 nvfp4-b4-g16 nt",
    "quantized_matmul M=5 N=64 K=128 f32 nvfp4-b4-g16 nn",
    "quantized_matmul M=5 N=48 K=128 f32 nvfp4-b4-g16 nn",
    "quantized_matmul M=5 N=64 K=128 f16 affine-b4-g64 nn",
)


@pytest.fixture
def device():
    opened = MlxDevice("cpu", CACHE)
    yield opened
    opened.close()
    opened.close()


@pytest.fixture
def doctored(monkeypatch):
    """Registers a kernel whose result is stock's after a function of the test's; returns its route."""

    def register(change) -> Route:
        class Doctored(Kernel):
            name = "doctored"
            ops = OPS

            def build(self, problem, config):
                return lambda *args, stream=None: change(ORIGINAL[problem.op](*args, stream=stream))

        monkeypatch.setitem(KERNELS, "doctored", Doctored())
        return Route("doctored")

    return register


def at(out: mx.array, m: int, n: int) -> mx.array:
    """A mask of the one element of the result (in all products of a batch)."""
    rows, columns = mx.arange(out.shape[-2])[:, None], mx.arange(out.shape[-1])
    return mx.logical_and(rows == m % out.shape[-2], columns == n % out.shape[-1])


def refused(seen: Accuracy, stock: Accuracy, dtype: str) -> bool:
    return objection(seen, stock, dtype, factor=2.0) != ""


class TestCheck:
    @pytest.mark.parametrize("text", EVERY_KIND)
    def test_stock_is_right(self, device, text):
        problem = Problem.parse(text)
        seen = device.open(problem, 1, "queued").check(STOCK)
        assert 0 < seen.error < 0.03
        assert seen.error <= seen.worst < 0.2
        assert seen.apart == 0.0
        assert not refused(seen, seen, problem.dtype)

    @pytest.mark.parametrize("text", EVERY_KIND)
    @pytest.mark.parametrize("place", [(0, 0), (0, -1), (2, 17), (-1, 0), (-1, -1)], ids=str)
    def test_one_wrong_element_is_seen(self, device, doctored, text, place):
        problem = Problem.parse(text)
        session = device.open(problem, 2, "queued")
        stock = session.check(STOCK)
        seen = session.check(doctored(lambda out: mx.where(at(out, *place), out + 1.0, out).astype(out.dtype)))
        assert refused(seen, stock, problem.dtype), seen

    @pytest.mark.parametrize("text", EVERY_KIND)
    @pytest.mark.parametrize("column", [0, 17, -1])
    def test_a_column_that_is_left_zero_is_seen(self, device, doctored, text, column):
        problem = Problem.parse(text)
        session = device.open(problem, 3, "queued")
        stock = session.check(STOCK)

        def change(out):
            wanted = mx.arange(out.shape[-1]) == column % out.shape[-1]
            return mx.where(wanted, mx.zeros((), dtype=out.dtype), out)

        assert refused(session.check(doctored(change)), stock, problem.dtype)

    @pytest.mark.parametrize(
        "text",
        [
            "matmul M=5 N=2000 K=64 f32 nt",
            "matmul M=400 N=64 K=64 f32 nn",
            "matmul M=5 N=2000 K=64 bf16 nt",
            "matmul M=400 N=2000 K=64 f16 nt",
        ],
    )
    def test_a_wrong_element_beyond_the_sample_is_seen(self, device, doctored, text):
        problem = Problem.parse(text)
        session = device.open(problem, 4, "queued")
        stock = session.check(STOCK)
        for place in range(150, 250, 7):
            route = doctored(lambda out, p=place: mx.where(at(out, p, 3 * p), out + 1.0, out))
            fresh = device.open(problem, 4, "queued")
            assert refused(fresh.check(route), stock, problem.dtype), place

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    def test_an_element_that_is_not_finite_is_infinitely_wrong(self, device, doctored, value):
        session = device.open(Problem.parse("matmul M=5 N=2000 K=64 f16 nt"), 5, "queued")
        for place in ((0, 0), (4, 1999), (2, 1001)):
            route = doctored(lambda out, p=place: mx.where(at(out, *p), mx.array(value, dtype=out.dtype), out))
            session = device.open(Problem.parse("matmul M=5 N=2000 K=64 f16 nt"), 5, "queued")
            assert session.check(route) == Accuracy(*[float("inf")] * 4)

    @pytest.mark.parametrize(
        "change",
        [
            lambda out: out.astype(mx.float32),
            lambda out: out.astype(mx.bfloat16),
            lambda out: out[:-1],
            lambda out: out[:, :-1],
            lambda out: out[None],
            lambda out: out.T,
            lambda out: mx.concatenate([out, out], axis=0),
        ],
        ids=["float32", "bfloat16", "rows", "columns", "axes", "transposed", "doubled"],
    )
    def test_another_dtype_or_shape_is_infinitely_wrong(self, device, doctored, change):
        session = device.open(Problem.parse("matmul M=5 N=64 K=128 f16 nt"), 6, "queued")
        assert session.check(doctored(change)) == Accuracy(*[float("inf")] * 4)

    @pytest.mark.parametrize("op", ["matmul", "addmm"])
    def test_an_element_that_is_not_written_reads_as_nan(self, device, monkeypatch, op):
        """Memory that a result may be given was last full of NaNs of the result's size and dtype."""
        made = []
        full = mx.full

        def recording(shape, value, dtype):
            made.append((tuple(shape), value, dtype))
            return full(shape, value, dtype)

        monkeypatch.setattr(mx, "full", recording)
        text = f"{op} M=5 N=64 K=128 B=3 f16 nt" + (" full" if op == "addmm" else "")
        device.open(Problem.parse(text), 7, "queued").check(STOCK)
        assert made
        assert all(shape == (3, 5, 64) and np.isnan(value) and dtype == mx.float16 for shape, value, dtype in made)

    @pytest.mark.parametrize(
        "route",
        ["pad multiple=8 fill=zeros", "chunk rows=2", "dequantize compute=native", "fold_k parts=2 sum=float32"],
    )
    def test_compositions_are_right(self, device, route):
        problem = Problem.parse("quantized_matmul M=5 N=64 K=128 f16 affine-b4-g64 nt")
        session = device.open(problem, 8, "queued")
        seen, stock = session.check(Route.parse(route)), session.check(STOCK)
        assert not refused(seen, stock, "f16"), (seen, stock)

    def test_inputs_are_the_seeds(self, device):
        problem = Problem.parse("matmul M=5 N=64 K=128 f16 nt")
        one, again, other = (device.open(problem, seed, "queued").check(STOCK) for seed in (1, 1, 2))
        assert one == again != other


class TestTime:
    @pytest.mark.parametrize("load", LOADS)
    @pytest.mark.parametrize("text", EVERY_KIND)
    def test_every_kind_takes_time(self, device, load, text):
        problem = Problem.parse(text)
        session = device.open(problem, 9, load)
        assert session.time(STOCK, 1) > 0
        assert session.time(STOCK, 5) > 0

    @pytest.mark.parametrize("load", LOADS)
    def test_runs_the_route_as_often_as_asked(self, device, doctored, load):
        seen = []
        route = doctored(lambda out: seen.append(out.shape) or out)
        session = device.open(Problem.parse("matmul M=5 N=64 K=128 f32 nt"), 10, load)
        assert session.time(route, 7) > 0
        assert seen == [(5, 64)] * 7

    @pytest.mark.slow
    @pytest.mark.parametrize("load", LOADS)
    def test_more_calls_take_longer(self, device, load):
        session = device.open(Problem.parse("matmul M=128 N=128 K=128 f32 nn"), 11, load)
        session.time(STOCK, 1)
        one, many = (min(session.time(STOCK, calls) for _ in range(5)) for calls in (1, 40))
        assert many > 4 * one

    def test_the_program_is_busy_for_a_while(self, device):
        """A route of several ops keeps it busy longer than stock; nothing here depends on how much."""
        session = device.open(Problem.parse("matmul M=3 N=64 K=64 f32 nt"), 0, "chained")
        assert 0 < session.host(STOCK, 8) < 1
        assert 0 < session.host(Route.parse("pad multiple=8 fill=zeros"), 8) < 1

    def test_an_unknown_load_is_refused(self, device):
        with pytest.raises(ValueError, match="overlapped"):
            device.open(Problem.parse("matmul M=5 N=64 K=128 f32 nt"), 12, "overlapped")

    def test_the_machine_is_this_one(self, device):
        assert device.machine == machine.local("cpu")


def stored(array: mx.array) -> np.ndarray:
    """The array's own memory as NumPy sees it, without a copy."""
    narrow = array.view(mx.uint16) if array.dtype == mx.bfloat16 else array
    return np.array(narrow, copy=False)


@pytest.mark.parametrize("text", EVERY_KIND)
class TestOperands:
    def test_copies_in_a_ring_have_equal_values_at_other_places(self, text):
        problem = Problem.parse(text)
        sets = operands.ring(problem, 2 * problem.weight_bytes, 1 << 30, mx.random.key(13))
        assert len(sets) == 6
        for arrays in zip(*sets):
            memories = [stored(array) for array in arrays]
            assert len({memory.__array_interface__["data"][0] for memory in memories}) == len(sets)
            assert all(not np.shares_memory(memories[0], memory) for memory in memories[1:])
            assert all(memory.strides == memories[0].strides for memory in memories)
            assert all(np.array_equal(memory, memories[0]) for memory in memories)

    def test_a_ring_has_two_sets_at_least_and_no_more_bytes_than_allowed(self, text):
        problem = Problem.parse(text)
        one = problem.weight_bytes
        assert len(operands.ring(problem, 0, 1 << 30, mx.random.key(14))) == 2
        assert len(operands.ring(problem, 100 * one, 5 * one, mx.random.key(14))) == 5
        assert len(operands.ring(problem, 100 * one, 0, mx.random.key(14))) == 2

    def test_shapes_and_layouts_are_the_problems(self, text):
        problem = Problem.parse(text)
        drawn = operands.draw(problem, mx.random.key(15))
        lead = (problem.batch,) if problem.batch > 1 else ()
        dtype = operands.DTYPES[problem.dtype]
        assert (drawn.a.shape, drawn.a.dtype) == ((*lead, problem.m, problem.k), dtype)
        assert row_major(drawn.a) == (problem.layout[0] == "n")
        if problem.quantization is None:
            (b,) = drawn.weights
            assert (b.shape, b.dtype) == ((*lead, problem.k, problem.n), dtype)
            assert row_major(b) == (problem.layout[1] == "n")
        assert sum(array.nbytes for array in drawn.weights) == problem.weight_bytes

    def test_linked_inputs_keep_their_values_and_layout(self, text):
        """A chain is made of the result's first element, which operands for a timing make zero."""
        problem = Problem.parse(text)
        drawn = operands.draw(problem, mx.random.key(16), corner=True)
        out = ORIGINAL[problem.op](*operands.arguments(problem, drawn.a, drawn.weights, drawn.c))
        linked = operands.linked(problem, drawn.a, out)
        mx.eval(linked)
        assert linked.dtype == drawn.a.dtype
        assert np.array_equal(stored(linked), stored(drawn.a))
        assert stored(linked).strides == stored(drawn.a).strides

    def test_results_are_of_order_one(self, text):
        problem = Problem.parse(text)
        drawn = operands.draw(problem, mx.random.key(17))
        out = ORIGINAL[problem.op](*operands.arguments(problem, drawn.a, drawn.weights, drawn.c))
        size = mx.sqrt(mx.mean(mx.square(out.astype(mx.float32)))).item()
        assert 0.01 < size < 10


@pytest.mark.parametrize("text", [text for text in EVERY_KIND if text.startswith("quantized")])
def test_random_words_have_every_bit(text):
    """Else whole columns of codes are always zero, and no check ever sees them."""
    problem = Problem.parse(text)
    words = np.array(operands.weights(problem, mx.random.key(18))[0])
    allowed = 0xB7B7B7B7 if problem.quantization.mode == "mxfp8" else 0xFFFFFFFF
    assert np.bitwise_or.reduce(words, axis=None) == allowed
    shares = [np.mean(words >> bit & 1) for bit in range(32) if allowed >> bit & 1]
    assert 0.4 < min(shares) < max(shares) < 0.6


def row_major(array: mx.array) -> bool:
    memory = stored(array)
    return bool(memory.strides[-1] == memory.itemsize)
