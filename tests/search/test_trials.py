"""What a verification tries."""

from __future__ import annotations

from collections import Counter

import broken
import pytest

from autotune import kernels
from autotune.devices import cases
from autotune.devices.cases import Case
from autotune.errors import UsageError
from autotune.kernels import STOCK, Route
from autotune.search import cover, trials
from autotune.search.trials import Target

CPU = Target("cpu", "cpu", False)
METAL = Target("metal", "metal", True)
HOST = Target("msl-host", "metal", True, ("in-order", "check"))
SMALL = Case.parse("matmul M=5 N=7 K=12 f16 nt")


class TestPlan:
    def test_every_kernel_that_runs_there_is_in_it(self):
        planned = {work.route.kernel for work in trials.plan(CPU)}
        assert planned == {kernel.name for kernel in kernels.KERNELS.values() if kernel.runs_on("cpu", False)}

    def test_the_host_runs_kernels_of_our_own_alone(self):
        names = {kernel.name for kernel in trials.chosen(HOST, [])}
        assert names
        assert not any(kernels.KERNELS[name].runs_on("cpu", False) for name in names)

    def test_a_kernel_that_does_not_run_there_is_refused_by_name(self):
        away = next(kernel.name for kernel in kernels.KERNELS.values() if not kernel.runs_on("cpu", False))
        with pytest.raises(UsageError, match=f"{away} does not run on cpu"):
            trials.plan(CPU, [away])

    def test_every_candidate_value_is_tried(self, ours):
        works = trials.plan(CPU, ["ours"])
        assert {work.route.config["how"] for work in works} == set(broken.HOW)
        assert {work.route.config["size"] for work in works} == {1, 2, 4}

    def test_values_that_are_legal_for_large_products_alone_are_tried_too(self, ours, monkeypatch):
        monkeypatch.setattr(broken.Ours, "legal", lambda self, p, config: config["size"] < 4 or p.k > 4000)
        works = trials.plan(CPU, ["ours"])
        assert 4 in {work.route.config["size"] for work in works}

    def test_large_spaces_are_drawn_from_and_still_covered(self, ours, monkeypatch):
        monkeypatch.setattr(cover, "MOST_ENUMERATED", 20)
        cover._drawn.cache_clear()
        works = trials.plan(CPU, ["ours"])
        assert {work.route.config["how"] for work in works} == set(broken.HOW)

    def test_usual_kinds_see_all_of_it_and_the_others_a_share(self, ours):
        works = trials.plan(CPU, ["ours"])
        by_kind = Counter(work.kind for work in works)
        assert all((count > 1) == kind.usual for kind, count in by_kind.items())
        assert {(kind.dtype, kind.layout) for kind in by_kind} == {
            (dtype, layout) for dtype in ("f32", "f16", "bf16") for layout in ("nn", "nt", "tn", "tt")
        }
        usual = [len(work.cases) for work in works if work.kind.usual]
        others = [len(work.cases) for work in works if not work.kind.usual]
        assert max(others) < min(usual)

    def test_exhaustive_is_every_config_on_every_kind(self, ours):
        works = trials.plan(CPU, ["ours"], exhaustive=True)
        assert len(works) == 12 * len(broken.HOW) * 3
        assert len({len(work.cases) for work in works if work.kind.usual}) <= 3

    def test_a_config_that_is_illegal_for_a_shape_is_not_tried_on_it(self, ours, monkeypatch):
        monkeypatch.setattr(broken.Ours, "legal", lambda self, p, config: p.batch == 1 and p.k >= 100)
        assert all(case.problem.k >= 100 for work in trials.plan(CPU, ["ours"]) for case in work.cases)

    def test_legal_at_one_m_is_tried_at_every_m(self, ours, monkeypatch):
        monkeypatch.setattr(broken.Ours, "legal", lambda self, p, config: p.batch == 1 and p.m >= 9)
        assert {1, 5, 13} <= {case.problem.m for work in trials.plan(CPU, ["ours"]) for case in work.cases}

    def test_stock_has_one_route(self):
        assert {work.route for work in trials.plan(CPU, ["stock"])} == {STOCK}

    def test_only_a_gpu_is_filled(self):
        filling = cases.FILLING[0]
        assert any(c.problem.m == filling for w in trials.plan(METAL, ["stock"]) for c in w.cases)
        assert not any(c.problem.m == filling for w in trials.plan(CPU, ["stock"]) for c in w.cases)


class TestGiven:
    def test_a_route_on_a_case(self):
        [work] = trials.given(CPU, [STOCK], [SMALL])
        assert (work.route, work.cases) == (STOCK, (SMALL,))

    def test_a_route_on_all_cases(self):
        works = trials.given(CPU, [Route.parse("upcast")], [])
        assert {work.kind.dtype for work in works} == {"f16", "bf16"}

    def test_an_illegal_one_is_refused(self):
        with pytest.raises(UsageError, match="not legal for these cases"):
            trials.given(CPU, [Route.parse("upcast")], [Case.parse("matmul M=5 N=7 K=12 f32 nt")])
        with pytest.raises(UsageError, match="not legal for any case"):
            trials.given(CPU, [Route.parse("pad multiple=4096 fill=zeros")], [])

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
            trials.given(CPU, [Route.parse(text)], [])
