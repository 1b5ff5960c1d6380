"""What a verification tries, what it makes of what it sees, and that a broken kernel costs nothing else."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import broken
import mlx.core as mx
import pytest

from autotune import kernels
from autotune.devices import cases, proof
from autotune.devices.base import Accuracy, RouteFailed
from autotune.devices.cases import Case, Kind
from autotune.devices.proof import Element, Proof
from autotune.errors import FAILED, OK, WRONG, UsageError
from autotune.kernels import STOCK, Route
from autotune.problem import Problem
from autotune.search import space, verify
from autotune.search.isolated import IsolatedDevice
from autotune.search.verify import Failure, Target, Work

CPU = Target("cpu", "cpu", False)
METAL = Target("metal", "metal", True)
HOST = Target("msl-host", "metal", True, ("in-order", "check"))
SMALL = Case.parse("matmul M=5 N=7 K=12 f16 nt")
SEED = 3


@pytest.fixture
def ours(monkeypatch):
    """Registers a kernel that is right or wrong as its config says, with its space."""
    before = mx.default_device()
    mx.set_default_device(mx.cpu)
    monkeypatch.setitem(kernels.KERNELS, "ours", broken.Ours())
    how = {"values": list(broken.HOW)}
    spaces = {**space.spaces(), "ours": {"how": how, "size": {"values": [1, 2, 4]}}}
    monkeypatch.setattr(space, "spaces", lambda: spaces)
    yield how
    mx.set_default_device(before)


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


class TestCover:
    ROUTES = tuple(Route.of("k", {"a": a, "b": b, "c": c}) for a in range(5) for b in range(4) for c in range(3))

    def test_every_value_of_every_parameter_occurs(self):
        found = verify.cover([self.ROUTES])
        assert {item for route in found for item in route.items} == {i for r in self.ROUTES for i in r.items}
        assert 5 <= len(found) <= 8

    def test_is_the_same_every_time(self):
        assert verify.cover([self.ROUTES]) == verify.cover([self.ROUTES])

    def test_earlier_sets_come_first(self):
        first = [route for route in self.ROUTES if route.config["a"] < 2]
        found = verify.cover([first, self.ROUTES])
        assert all(route in first for route in found[:4])
        assert {route.config["a"] for route in found} == set(range(5))

    def test_of_nothing_is_nothing(self):
        assert verify.cover([(), ()]) == []

    def test_a_kernel_without_parameters_is_one_route(self):
        assert verify.cover([(Route("upcast"),)]) == [Route("upcast")]


class TestPlan:
    def test_every_kernel_that_runs_there_is_in_it(self):
        planned = {work.route.kernel for work in verify.plan(CPU)}
        assert planned == {kernel.name for kernel in kernels.KERNELS.values() if kernel.runs_on("cpu", False)}

    def test_the_host_runs_kernels_of_our_own_alone(self):
        names = {kernel.name for kernel in verify.chosen(HOST, [])}
        assert names
        assert not any(kernels.KERNELS[name].runs_on("cpu", False) for name in names)

    def test_a_kernel_that_does_not_run_there_is_refused_by_name(self):
        away = next(kernel.name for kernel in kernels.KERNELS.values() if not kernel.runs_on("cpu", False))
        with pytest.raises(UsageError, match=f"{away} does not run on cpu"):
            verify.plan(CPU, [away])

    def test_every_candidate_value_is_tried(self, ours):
        works = verify.plan(CPU, ["ours"])
        assert {work.route.config["how"] for work in works} == set(broken.HOW)
        assert {work.route.config["size"] for work in works} == {1, 2, 4}

    def test_values_that_are_legal_for_large_products_alone_are_tried_too(self, ours, monkeypatch):
        monkeypatch.setattr(broken.Ours, "legal", lambda self, p, config: config["size"] < 4 or p.k > 4000)
        works = verify.plan(CPU, ["ours"])
        assert 4 in {work.route.config["size"] for work in works}

    def test_large_spaces_are_drawn_from_and_still_covered(self, ours, monkeypatch):
        monkeypatch.setattr(verify, "MOST_ENUMERATED", 20)
        verify._drawn.cache_clear()
        works = verify.plan(CPU, ["ours"])
        assert {work.route.config["how"] for work in works} == set(broken.HOW)

    def test_usual_kinds_see_all_of_it_and_the_others_a_share(self, ours):
        works = verify.plan(CPU, ["ours"])
        by_kind = Counter(work.kind for work in works)
        assert all((count > 1) == kind.usual for kind, count in by_kind.items())
        assert {(kind.dtype, kind.layout) for kind in by_kind} == {
            (dtype, layout) for dtype in ("f32", "f16", "bf16") for layout in ("nn", "nt", "tn", "tt")
        }
        usual = [len(work.cases) for work in works if work.kind.usual]
        others = [len(work.cases) for work in works if not work.kind.usual]
        assert max(others) < min(usual)

    def test_exhaustive_is_every_config_on_every_kind(self, ours):
        works = verify.plan(CPU, ["ours"], exhaustive=True)
        assert len(works) == 12 * len(broken.HOW) * 3
        assert len({len(work.cases) for work in works if work.kind.usual}) <= 3

    def test_a_config_that_is_illegal_for_a_shape_is_not_tried_on_it(self, ours, monkeypatch):
        monkeypatch.setattr(broken.Ours, "legal", lambda self, p, config: p.batch == 1 and p.k >= 100)
        assert all(case.problem.k >= 100 for work in verify.plan(CPU, ["ours"]) for case in work.cases)

    def test_legal_at_one_m_is_tried_at_every_m(self, ours, monkeypatch):
        monkeypatch.setattr(broken.Ours, "legal", lambda self, p, config: p.batch == 1 and p.m >= 9)
        assert {1, 5, 13} <= {case.problem.m for work in verify.plan(CPU, ["ours"]) for case in work.cases}

    def test_stock_has_one_route(self):
        assert {work.route for work in verify.plan(CPU, ["stock"])} == {STOCK}

    def test_only_a_gpu_is_filled(self):
        filling = cases.FILLING[0]
        assert any(c.problem.m == filling for w in verify.plan(METAL, ["stock"]) for c in w.cases)
        assert not any(c.problem.m == filling for w in verify.plan(CPU, ["stock"]) for c in w.cases)


class TestGiven:
    def test_a_route_on_a_case(self):
        [work] = verify.given(CPU, [STOCK], [SMALL])
        assert (work.route, work.cases) == (STOCK, (SMALL,))

    def test_a_route_on_all_cases(self):
        works = verify.given(CPU, [Route.parse("upcast")], [])
        assert {work.kind.dtype for work in works} == {"f16", "bf16"}

    def test_an_illegal_one_is_refused(self):
        with pytest.raises(UsageError, match="not legal for these cases"):
            verify.given(CPU, [Route.parse("upcast")], [Case.parse("matmul M=5 N=7 K=12 f32 nt")])
        with pytest.raises(UsageError, match="not legal for any case"):
            verify.given(CPU, [Route.parse("pad multiple=4096 fill=zeros")], [])

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("pad multiple=9999 fill=zeros", "multiple cannot be 9999"),
            ("pad multiple=8", "lacks fill: pad takes multiple, fill"),
            ("pad", "lacks multiple, fill"),
            ("pad multiple=8 fil=zeros", "unknown parameter of pad: 'fil': did you mean fill"),
            ("pad fill=zeros multiple=8", "another order: write multiple, fill"),
            ("pad multiple=8 multiple=8 fill=zeros", "NAME=VALUE once"),
        ],
    )
    def test_a_route_that_is_not_whole_is_told_what_it_lacks(self, text, said):
        with pytest.raises(UsageError, match=said):
            verify.given(CPU, [Route.parse(text)], [])


class TestVerdicts:
    def test_a_right_kernel(self, ours):
        outcome = ran(verify.given(CPU, [how("right")], []), Here())
        verdict = outcome.verdicts["ours"]
        assert (verdict.said, outcome.exit_code, verdict.promised) == ("right", OK, True)
        assert 0.5 < verdict.worst <= 1
        assert Case.parse(verdict.worst_case)

    @pytest.mark.parametrize(
        "name", ["forgets_row", "leaks_padding", "rounds_partials", "spreads_specials", "wrong_shape"]
    )
    def test_a_wrong_one_is_named_with_what_repeats_it(self, ours, name):
        outcome = ran(verify.given(CPU, [how(name)], []), Here())
        verdict = outcome.verdicts["ours"]
        assert (verdict.said, outcome.exit_code) == ("wrong", WRONG)
        for failure in verdict.failures:
            assert failure.route == how(name)
            assert (
                verify.judged(how(name), failure.case, proof.prove(how(name), failure.case, SEED))[0] == failure.detail
            )

    def test_one_that_raises_has_failed_and_is_not_wrong(self, ours):
        prover = Here()
        outcome = ran(verify.given(CPU, [how("raises")], []), prover)
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
        works = verify.given(CPU, [how("forgets_row"), how("right")], [])
        one = ran(works, Here())
        listener, three = Silent(), [Here(), Here(), Here()]
        several = verify.verify(works, three, SEED, ("",), listener)
        assert one.verdicts["ours"] == several.verdicts["ours"]
        assert (listener.works, len(listener.heard)) == (len(works), len(works))
        assert sum(len(each.asked) for each in three) == one.verdicts["ours"].runs

    def test_what_no_route_is_to_blame_for_ends_it(self):
        with pytest.raises(ZeroDivisionError):
            ran(small(STOCK), Says(stock=ZeroDivisionError()))


class TestJudged:
    """Compositions beyond their elements' bound are held to the sweep's rule."""

    ROUTE = Route.parse("pad multiple=8 fill=zeros")

    def of(self, mine, stock):
        return verify.judged(self.ROUTE, SMALL, Proof(bad().element, accuracy=(mine, stock)))

    def test_as_good_as_stock_is_right(self):
        objection, share = self.of(Accuracy(0.01, 0.05, 0.01, 0.05), Accuracy(0.01, 0.05, 0, 0))
        assert (objection, share) == ("", pytest.approx(1 / 2.1))

    def test_far_worse_is_wrong(self):
        objection, share = self.of(Accuracy(0.1, 0.5, 0.1, 0.5), Accuracy(0.01, 0.05, 0, 0))
        assert "error 0.1 is above" in objection
        assert share > 1

    def test_a_finding_is_wrong_whatever_the_numbers(self):
        assert verify.judged(self.ROUTE, SMALL, Proof(finding="race: two threads"))[0] == "race: two threads"


class TestCommand:
    def test_repeats_the_failure(self):
        failure = Failure(how("right"), Case.parse("matmul M=4 N=2 K=3 f32 nt | offset lead=2"), "", "wrong", "")
        assert failure.command("metal", 7) == (
            "autotune verify --device metal --route 'ours how=right size=1' "
            "--case 'matmul M=4 N=2 K=3 f32 nt | offset lead=2' --seed 7"
        )

    @pytest.mark.parametrize(("way", "said"), [("reverse", "--schedule reverse"), ("check", "--check")])
    def test_says_how_the_host_ran_it(self, way, said):
        assert Failure(STOCK, SMALL, way, "wrong", "").command("msl-host", 7).endswith(said)


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
