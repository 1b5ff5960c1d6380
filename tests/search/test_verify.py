"""What a verification makes of what it sees, and that a broken kernel costs nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from autotune import kernels
from autotune.devices import proof
from autotune.devices.base import RouteFailed
from autotune.devices.cases import Case, Kind
from autotune.devices.proof import Element, Proof
from autotune.errors import FAILED, OK, WRONG
from autotune.kernels import STOCK, Route
from autotune.problem import Problem
from autotune.search import trials, verify
from autotune.search.isolated import IsolatedDevice
from autotune.search.trials import Target, Work
from autotune.search.verdict import judged

CPU = Target("cpu", "cpu", False)
SMALL = Case.parse("matmul M=5 N=7 K=12 f16 nt")
SEED = 3


class Here:
    """Proves in this process, as a worker would."""

    def __init__(self):
        self.asked = []

    def prove(self, route, case, seed, way=""):
        self.asked.append((route, case, way))
        try:
            return proof.prove(route, case, seed)
        except Exception as error:
            raise RouteFailed("raised", str(error)) from None

    def close(self):
        """Nothing to let go of."""


class Says(Here):
    """Proves nothing: gives what it was told to for a case's text, and a good proof for any other."""

    def __init__(self, **told):
        super().__init__()
        self.told = told

    def prove(self, route, case, seed, way=""):
        self.asked.append((route, case, way))
        found = self.told.get(route.kernel, good(0.5))
        if isinstance(found, Exception):
            raise found
        return found


class Silent:
    def __init__(self):
        self.works = 0
        self.heard = []

    def started(self, works):
        self.works = works

    def done(self, work, failures):
        self.heard.append((work, list(failures)))


def good(share):
    return Proof(Element((0, 0), 1.0, 1.0, 0.1, share))


def bad(got=2.0):
    return Proof(Element((1, 0), 1.0, got, 0.1, 10.0))


def ran(works, prover, ways=("",)):
    return verify.verify(works, [prover], SEED, ways, Silent())


def how(name, **rest):
    return Route.of("ours", {"how": name, "size": 1, **rest})


def small(*routes):
    return [Work(route, Kind.of(SMALL.problem), (SMALL,)) for route in routes]


class TestVerdicts:
    def test_a_right_kernel(self, ours):
        outcome = ran(trials.given(CPU, [how("right")], []), Here())
        verdict = outcome.verdicts["ours"]
        assert (verdict.said, outcome.exit_code, verdict.promised) == ("right", OK, True)
        assert 0.5 < verdict.worst <= 1
        assert Case.parse(verdict.worst_case)

    @pytest.mark.parametrize(
        "name", ["forgets_row", "leaks_padding", "rounds_partials", "spreads_specials", "wrong_shape"]
    )
    def test_a_wrong_one_is_named_with_what_repeats_it(self, ours, name):
        outcome = ran(trials.given(CPU, [how(name)], []), Here())
        verdict = outcome.verdicts["ours"]
        assert (verdict.said, outcome.exit_code) == ("wrong", WRONG)
        for failure in verdict.failures:
            assert failure.route == how(name)
            assert judged(how(name), failure.case, proof.prove(how(name), failure.case, SEED))[0] == failure.detail

    def test_one_that_raises_has_failed_and_is_not_wrong(self, ours):
        prover = Here()
        outcome = ran(trials.given(CPU, [how("raises")], []), prover)
        verdict = outcome.verdicts["ours"]
        assert (verdict.said, outcome.exit_code) == ("failed", FAILED)
        assert {failure.kind for failure in verdict.failures} == {"raised"}
        assert len(prover.asked) == len(verdict.kinds)  # the other cases of a kind were not tried in vain

    def test_wrong_outweighs_failed(self):
        works = small(Route("upcast"), Route.parse("pad multiple=8 fill=zeros"))
        outcome = ran(works, Says(upcast=RouteFailed("raised", "no"), pad=bad()))
        assert (outcome.verdicts["upcast"].said, outcome.verdicts["pad"].said) == ("failed", "wrong")
        assert outcome.exit_code == WRONG

    def test_what_mlx_refuses_is_counted_and_fails_nothing(self):
        many = tuple(Case(Kind("matmul", "f16", "nt").problem(m, 7, 12)) for m in range(1, 9))
        work = Work(Route("upcast"), Kind("matmul", "f16", "nt"), many)
        outcome = ran([work], Says(upcast=Proof(refused="ValueError: no")))
        verdict = outcome.verdicts["upcast"]
        assert (verdict.said, len(verdict.refused), verdict.failed, outcome.exit_code) == ("refused", 8, [], OK)
        both = ran(
            [work, *small(Route.parse("pad multiple=8 fill=zeros"))], Says(upcast=Proof(refused="ValueError: no"))
        )
        assert [each.said for each in both.verdicts.values()] == ["refused", "right"]

    def test_one_refusal_is_no_excuse_for_a_failure(self):
        class Both(Says):
            def prove(self, route, case, seed, way=""):
                if case.problem.m == 1:
                    return Proof(refused="ValueError: no")
                raise RouteFailed("raised", "ValueError: no")

        many = tuple(Case(Kind("matmul", "f16", "nt").problem(m, 7, 12)) for m in (1, 2, 3))
        outcome = ran([Work(Route("upcast"), Kind("matmul", "f16", "nt"), many)], Both())
        verdict = outcome.verdicts["upcast"]
        assert (verdict.said, outcome.exit_code) == ("failed", FAILED)
        assert (len(verdict.refused), len(verdict.failed), verdict.runs) == (1, 1, 2)

    @pytest.mark.parametrize("odd", [True, False])
    def test_a_composition_that_raises_is_right_nowhere_by_having_run_elsewhere(self, monkeypatch, odd):
        kind = Kind.of(Problem.parse("quantized_matmul M=1 N=1 K=64 f32 affine-b4-g64 nt"))
        kernel, build = kernels.KERNELS["dequantize"], type(kernels.KERNELS["dequantize"]).build

        def raises_at_three(problem, config):
            op = build(kernel, problem, config)

            def checked(x, *rest, **named):
                if odd and x.shape[-2] == 3:
                    raise ValueError("three rows")
                return op(x, *rest, **named)

            return checked

        monkeypatch.setattr(kernel, "build", raises_at_three)
        works = [Work(Route.parse("dequantize compute=native"), kind, (Case(kind.problem(m, 1, 64)),)) for m in (2, 3)]
        outcome = ran(works, Here())
        assert outcome.exit_code == (FAILED if odd else OK)

    def test_stock_is_reported_and_never_fails(self):
        outcome = ran(small(STOCK), Says(stock=bad()))
        verdict = outcome.verdicts["stock"]
        assert (verdict.said, verdict.beyond, verdict.worst, outcome.exit_code) == ("right", 1, 10.0, OK)

    def test_a_route_that_is_often_wrong_is_left(self):
        prover = Says(upcast=bad())
        many = tuple(Case(Kind("matmul", "f16", "nt").problem(m, 7, 12)) for m in range(1, 9))
        outcome = ran([Work(Route("upcast"), Kind("matmul", "f16", "nt"), many)], prover)
        assert len(outcome.verdicts["upcast"].failures) == verify.MOST_FAILURES == len(prover.asked)

    def test_every_case_is_run_in_every_way(self):
        prover = Says()
        outcome = ran(small(Route("upcast")), prover, ("in-order", "check"))
        assert [way for _, _, way in prover.asked] == ["in-order", "check"]
        assert outcome.verdicts["upcast"].runs == 2

    def test_works_are_shared_among_provers_and_the_result_does_not_depend_on_it(self, ours):
        works = trials.given(CPU, [how("forgets_row"), how("right")], [])
        one = ran(works, Here())
        listener, three = Silent(), [Here(), Here(), Here()]
        several = verify.verify(works, three, SEED, ("",), listener)
        assert one.verdicts["ours"] == several.verdicts["ours"]
        assert (listener.works, len(listener.heard)) == (len(works), len(works))
        assert sum(len(each.asked) for each in three) == one.verdicts["ours"].runs

    def test_what_no_route_is_to_blame_for_ends_it(self):
        with pytest.raises(ZeroDivisionError):
            ran(small(STOCK), Says(stock=ZeroDivisionError()))


class TestBeforeSweep:
    PROBLEMS = (Problem.parse("matmul M=3 N=1024 K=1024 f16 nt"), Problem.parse("matmul M=5 N=512 K=512 f16 nt"))

    def ran(self, names=(), **options):
        prover = Here()
        return verify.before_sweep(self.PROBLEMS, names, CPU, prover, SEED, **options), prover

    def test_a_right_kernel_stays(self, ours):
        ours["values"] = ["right"]
        found, prover = self.ran()
        assert found == {}
        assert {case.problem.dtype for _, case, _ in prover.asked} == {"f16"}
        assert {"surrounded", "special", "plain"} == {case.variant for _, case, _ in prover.asked}
        assert len(prover.asked) <= 2 * verify.SWEEP_CASES

    @pytest.mark.parametrize("name", ["forgets_row", "leaks_padding", "spreads_specials", "raises"])
    def test_a_broken_one_is_left_out_with_what_went_wrong(self, ours, name):
        ours["values"] = [name]
        found, _ = self.ran()
        assert list(found) == ["ours"]
        assert found["ours"].kind == ("raised" if name == "raises" else "wrong")

    def test_kernels_that_the_sweep_does_not_offer_are_not_tried(self, ours):
        assert self.ran(names=("upcast",))[1].asked == []

    def test_compositions_are_left_to_the_sweep(self, ours):
        ours["values"] = ["right"]
        assert {route.kernel for route, _, _ in self.ran()[1].asked} == {"ours"}

    def test_ends_when_its_time_is_up(self, ours):
        ticks = iter(range(1000))
        found, prover = self.ran(budget=2.5, clock=lambda: next(ticks))
        assert (found, len(prover.asked)) == ({}, 2) or len(prover.asked) <= 2


@pytest.mark.slow
class TestIsolated:
    """A worker that dies takes one route with it."""

    @pytest.fixture
    def worker(self, tmp_path, monkeypatch):
        register = 'import broken\nfrom autotune import kernels\nkernels.KERNELS["ours"] = broken.Ours()\n'
        (tmp_path / "registers_broken.py").write_text(register, "utf-8")
        folders = [str(tmp_path), str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))
        device = IsolatedDevice("cpu", 1 << 12, patience=20.0, modules=["registers_broken"])
        yield device
        device.close()

    def test_a_crash_is_named_and_the_next_route_goes_on(self, ours, worker):
        outcome = ran(small(how("crashes"), how("right"), how("forgets_row"), how("raises")), worker)
        verdict = outcome.verdicts["ours"]
        assert {(failure.route.config["how"], failure.kind) for failure in verdict.failures} == {
            ("crashes", "crashed"),
            ("forgets_row", "wrong"),
            ("raises", "raised"),
        }
        assert outcome.exit_code == WRONG

    def test_a_proof_is_the_same_there_and_here(self, ours, worker):
        for case in (SMALL, Case.parse("matmul M=5 N=7 K=12 f16 nt | special")):
            for name in ("right", "forgets_row"):
                assert str(worker.prove(how(name), case, SEED)) == str(proof.prove(how(name), case, SEED))
