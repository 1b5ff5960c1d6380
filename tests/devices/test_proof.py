"""A right kernel passes on every case; each wrong one is caught, and said to be wrong in the way that it is."""

from __future__ import annotations

import json
import math

import broken
import mlx.core as mx
import numpy as np
import pytest

from autotune import kernels
from autotune.devices import cases, proof
from autotune.devices.cases import Case, Kind
from autotune.devices.proof import Element, Proof, prove
from autotune.kernels import STOCK, Kernel, Route
from autotune.kernels.family import Family

SEED = 5
KIND = Kind("matmul", "f16", "nt")


@pytest.fixture(autouse=True)
def ours(monkeypatch):
    before = mx.default_device()
    mx.set_default_device(mx.cpu)
    monkeypatch.setitem(kernels.KERNELS, "ours", broken.Ours())
    yield
    mx.set_default_device(before)


def route(how):
    return Route.of("ours", {"how": how, "size": 1})


def on(text):
    return Case.parse(text)


def all_cases(kind):
    return [*cases.table(kind, True, False), *cases.around(kind, (4, 8), 33, 130, True, 64)]


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("layout", ["nn", "nt", "tn", "tt"])
def test_a_right_kernel_is_within_its_bound_everywhere(dtype, layout):
    for case in all_cases(Kind("matmul", dtype, layout)):
        found = prove(route("right"), case, SEED)
        assert found.share <= 1, (case, found)


@pytest.mark.parametrize("how", ["forgets_row", "leaks_padding", "rounds_partials", "spreads_specials"])
def test_a_wrong_kernel_is_caught(how):
    assert any(prove(route(how), case, SEED).share > 1 for case in all_cases(KIND))


def test_a_forgotten_row_is_named():
    found = prove(route("forgets_row"), on("matmul M=5 N=7 K=12 f16 nt"), SEED)
    assert found.element.index[0] == 4
    assert found.element.got == 0 != found.element.expected
    assert found.share == pytest.approx(abs(found.element.expected) / found.element.allowed)


def test_leaked_padding_shows_where_the_tail_is_not_whole():
    assert prove(route("leaks_padding"), on("matmul M=5 N=7 K=16 f16 nt"), SEED).share <= 1
    found = prove(route("leaks_padding"), on("matmul M=5 N=7 K=17 f16 nt"), SEED)
    assert found.share == math.inf
    assert math.isnan(found.element.got)


def test_a_nan_that_reaches_another_row_shows_on_special_inputs_alone():
    case = "matmul M=5 N=7 K=16 f16 nt"
    assert prove(route("spreads_specials"), on(case), SEED).share <= 1
    assert prove(route("spreads_specials"), on(f"{case} | special"), SEED).share == math.inf


def test_one_rounding_more_shows():
    found = prove(route("rounds_partials"), on("matmul M=13 N=61 K=37 f16 nt"), SEED)
    assert 1 < found.share < math.inf


def test_a_wrong_shape_is_a_finding():
    found = prove(route("wrong_shape"), on("matmul M=5 N=7 K=12 f16 nt"), SEED)
    assert "(5, 6), not f16 (5, 7)" in found.finding
    assert found.share == math.inf


def test_what_a_kernel_raises_is_raised():
    with pytest.raises(ValueError, match="does not compile"):
        prove(route("raises"), on("matmul M=5 N=7 K=12 f16 nt"), SEED)


def test_what_the_msl_host_finds_is_a_finding_and_what_its_compiler_says_is_not(monkeypatch):
    from autotune.devices.msl_host.errors import HostError

    def fails(kind):
        def matmul(a, b):
            raise HostError(kind, "two threads write tile[3]", ("line 7: tile[i] = x;",))

        return matmul

    case = on("matmul M=5 N=7 K=12 f16 nt")
    monkeypatch.setitem(broken.HOW, "raises", fails("race"))
    assert "two threads write tile[3]\n  line 7: tile[i] = x;" in prove(route("raises"), case, SEED).finding
    monkeypatch.setitem(broken.HOW, "raises", fails("compile"))
    with pytest.raises(HostError):
        prove(route("raises"), case, SEED)


class TestWithoutPromise:
    """Kernels that say nothing of what they round: stock, and compositions of it."""

    @pytest.fixture
    def composed(self, monkeypatch):
        monkeypatch.delattr(broken.Ours, "rounded")

    def test_a_composition_may_round_its_parts(self, composed):
        assert prove(route("rounds_partials"), on("matmul M=13 N=61 K=37 f16 nt"), SEED).share <= 1

    def test_and_is_compared_with_stock_beyond_that(self, composed):
        found = prove(route("forgets_row"), on("matmul M=5 N=7 K=12 f16 nt"), SEED)
        mine, stock = found.accuracy
        assert found.share > 1
        assert mine.error > 0.1 > stock.error > 0
        assert mine.apart == pytest.approx(mine.error, rel=1e-2)
        assert mine.stray == pytest.approx(mine.worst, rel=1e-2)

    def test_what_is_not_finite_and_should_be_has_no_excuse(self, composed):
        found = prove(route("leaks_padding"), on("matmul M=5 N=7 K=17 f16 nt"), SEED)
        assert found.share == math.inf
        assert found.accuracy is None

    def test_an_element_that_equals_stocks_is_right(self, composed, monkeypatch):
        monkeypatch.setattr(proof, "bound", lambda problem, reference, *_: np.full(reference.shape, 1e-30))
        monkeypatch.setitem(broken.HOW, "right", mx.matmul)
        assert prove(route("right"), on("matmul M=5 N=7 K=17 f16 nt"), SEED).share == 0

    def test_stock_is_measured_like_any_other(self):
        found = prove(STOCK, on("matmul M=5 N=7 K=17 f32 nt"), SEED)
        assert 0 < found.share <= 1
        assert found.accuracy is None


def test_promises():
    assert proof.promise(broken.Ours()) == ()
    assert proof.promise(Family()) == ()
    assert proof.promise(Kernel()) is None


def test_the_buffers_of_mlx_are_poisoned(monkeypatch):
    """An output that a kernel does not write holds NaNs, not the right numbers of a call before."""
    freed = []
    monkeypatch.setattr(mx, "full", lambda shape, value, dtype: freed.append((shape, value)) or mx.zeros(shape, dtype))
    prove(route("right"), on("matmul M=5 N=7 K=17 f16 nt"), SEED)
    assert {shape for shape, _ in freed} == {(5, 7)}
    assert all(math.isnan(value) for _, value in freed)


@pytest.mark.parametrize(
    "found",
    [
        Proof(Element((1, 2), 0.5, math.nan, 1e-3, math.inf)),
        Proof(finding="race"),
        Proof(Element((0,), 0.5, 0.75, 1e-3, 250.0), accuracy=(proof.Accuracy(1, 2, 3, 4), proof.Accuracy(5, 6, 7, 8))),
    ],
)
def test_a_proof_survives_json(found):
    assert str(Proof.of_json(json.loads(json.dumps(found.as_json())))) == str(found)


class TestRefusals:
    """An exception is MLX's own only where the building block, called alone on the same operands, raises the same."""

    CASE = "quantized_matmul M=2 N=1 K=32 f16 affine-b4-g32 nt"
    ROUTE = Route.parse("dequantize compute=native")

    @pytest.fixture
    def mlx_raises(self, monkeypatch):
        def refuses(*_, **__):
            raise ValueError("no such groups")

        monkeypatch.setattr(mx, "dequantize", refuses)

    @pytest.fixture
    def raises(self, monkeypatch):
        """Makes the kernel raise this before it computes anything."""

        def raises(error):
            def op(*_, **__):
                raise error

            monkeypatch.setattr(kernels.KERNELS["dequantize"], "build", lambda *_: op)

        return raises

    def test_what_mlx_does_not_compute_is_refused(self, mlx_raises):
        found = prove(self.ROUTE, on(self.CASE), SEED)
        assert found.refused == "ValueError: no such groups (so does mx.dequantize alone)"
        assert Proof.of_json(json.loads(json.dumps(found.as_json()))) == found

    def test_a_kernel_that_raises_where_mlx_does_not_has_failed(self, raises):
        raises(ValueError("no such groups"))
        with pytest.raises(ValueError, match="no such groups"):
            prove(self.ROUTE, on(self.CASE), SEED)

    @pytest.mark.parametrize("error", [ValueError("another"), TypeError("no such groups")])
    def test_another_error_than_mlxs_has_failed(self, mlx_raises, raises, error):
        raises(error)
        with pytest.raises(type(error), match=str(error)):
            prove(self.ROUTE, on(self.CASE), SEED)

    def test_a_kernel_without_a_building_block_has_failed(self):
        with pytest.raises(ValueError, match="does not compile"):
            prove(route("raises"), on("matmul M=5 N=7 K=12 f16 nt"), SEED)
