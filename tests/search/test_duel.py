"""Boundaries between two camps of routes, measured on a fake device."""

import itertools
import random
from dataclasses import replace

import pytest
from fakes import FakeDevice
from report.builders import DENSE, H100, M5MAX, WIDE, problem, timed

from autotune.devices.base import Accuracy, RouteFailed
from autotune.devices.simulated import chip
from autotune.devices.simulated.device import SimulatedDevice
from autotune.errors import AutotuneError, UsageError
from autotune.kernels import STOCK, Route
from autotune.search import duel, results
from autotune.search.boundary import Sign
from autotune.search.duel import Axis, camp, find, known
from autotune.search.measure import EFFORTS
from autotune.search.sides import side
from autotune.stock_rules import MATRIX, VECTOR

QUICK = EFFORTS["quick"]
ROWS = Axis("m", 1, 64)
SQUARE = "quantized_matmul N=4096 K=4096 f16 affine-b4-g64 nt"
US = 1e-6


def sided(vector, matrix, chip=H100):
    """Seconds from the cost of either side at M, in microseconds; a composition takes 1 % more than stock."""

    def seconds(problem, route):
        cost = vector(problem.m) if side(route, problem, chip) == VECTOR else matrix(problem.m)
        return cost * US * (1 if route == STOCK else 1.01)

    return seconds


def limits(device, axis=ROWS, template=None, first=(VECTOR,), second=(MATRIX,), chip=H100, **options):
    camps = (camp(first, chip), camp(second, chip))
    options = {"tries": 10, **options}
    return find(device, template or problem(WIDE, 1), axis, camps, QUICK, sleep=device.sleep, **options)


class TestAxis:
    @pytest.mark.parametrize(
        ("text", "axis"),
        [("M=1..64", Axis("m", 1, 64)), (" k=512..16384:512", Axis("k", 512, 16384, 512)), ("N=8..8", Axis("n", 8, 8))],
    )
    def test_is_read_as_it_is_written(self, text, axis):
        assert Axis.parse(text) == axis
        assert Axis.parse(str(axis)) == axis

    @pytest.mark.parametrize("text", ["", "M", "M=1", "M=64..1", "B=1..2", "M=1..64:0", "M=0..3", "M=1...3"])
    def test_anything_else_is_refused(self, text):
        with pytest.raises(UsageError):
            Axis.parse(text)

    def test_places_and_problems(self):
        axis = Axis("k", 512, 2100, 512)
        assert [axis.value(place) for place in axis.places] == [512, 1024, 1536, 2048]
        assert axis.problem(problem(WIDE, 3), 1) == replace(problem(WIDE, 3), k=1024)


class TestVectorLimit:
    @pytest.mark.parametrize("limit", [2, 3, 7, 8, 9, 20, 40])
    def test_is_found_wherever_mlx_has_its_own(self, limit):
        device = FakeDevice(sided(lambda m: 10.0 * m, lambda m: 10.0 * limit - 5))
        found = limits(device)
        assert found.boundary.limit.at == limit
        assert found.boundary.limit.low < limit <= found.boundary.limit.high
        if limit < 5:  # above, the sides differ by less than a search may miss
            assert (found.boundary.limit.low, found.boundary.limit.high) == (limit - 1, limit)

    def test_takes_eight_duels_at_most(self):
        device = FakeDevice(sided(lambda m: 10.0 * m, lambda m: 235.0))
        assert len(limits(device).duels) <= 8
        assert [each.value for each in limits(device).duels] == sorted(each.value for each in limits(device).duels)

    def test_each_duel_is_between_the_fastest_routes_of_the_sides(self):
        found = limits(FakeDevice(sided(lambda m: 10.0 * m, lambda m: 45.0)))
        by_m = {each.value: each for each in found.duels}
        assert by_m[1].first == "stock"
        assert by_m[1].second != "stock"  # all of that side take the same time
        assert by_m[1].ratio.value == pytest.approx(10 / (45 * 1.01))
        assert by_m[1].first_us == pytest.approx(10)
        assert by_m[64].second == "stock"
        assert by_m[64].first.startswith(("chunk", "qmv"))

    def test_the_range_ends_where_both_sides_have_routes(self):
        """Our matrix-vector kernel takes no more than 64 rows."""
        found = limits(FakeDevice(sided(lambda m: 10.0 * m, lambda m: 45.0)))
        assert (found.axis.first, found.axis.last) == (1, 64)

    def test_a_sign_that_changes_back_is_reported(self):
        device = FakeDevice(sided(lambda m: 10.0 if m < 20 or m >= 40 else 100.0, lambda m: 45.0))
        assert limits(device).boundary.crossings == ()
        found = limits(device, checks=4)
        assert [(each.at, each.second) for each in found.boundary.crossings] == [(20, True), (40, False)]
        assert found.boundary.limit is None

    def test_noise_widens_the_interval_and_the_limit_stays_in_it(self):
        cost = sided(lambda m: 40 + m, lambda m: 60.5)
        limit = limits(FakeDevice(cost)).boundary.limit.at
        held = 0
        for seed in range(10):
            (crossing,) = limits(FakeDevice(cost, noise=0.02, seed=seed), checks=4, tries=4).boundary.crossings
            held += crossing.low < limit <= crossing.high
        assert held >= 9

    def test_points_are_told_as_they_are_measured(self):
        told = []
        found = limits(FakeDevice(sided(lambda m: 10.0 * m, lambda m: 45.0)), tell=told.append)
        assert told[0].value == 1
        assert sorted(told, key=lambda each: each.value) == list(found.duels)


class TestSearchedKernels:
    """Their spaces are tried in part, and the verdict allows for what that may have missed."""

    FEW = Axis("m", 2, 4)

    @pytest.mark.parametrize(("lead", "clear"), [(1.06, False), (1.15, True)])
    def test_a_side_of_which_a_part_was_tried_is_behind_only_by_more_than_that_may_miss(self, lead, clear):
        device = FakeDevice(lambda _, route: US * (lead if route.kernel == "qmv" else 1), noise=0.001)
        found = limits(device, self.FEW, first=("qmv",), second=("stock",))
        assert all(each.sign == Sign(1, clear) for each in found.duels)
        assert all([(each.kernel, each.routes) for each in duel.tried] == [("qmv", 10)] for duel in found.duels)

    def test_ahead_it_needs_no_allowance(self):
        device = FakeDevice(lambda _, route: US * (0.98 if route.kernel == "qmv" else 1), noise=0.001)
        found = limits(device, self.FEW, first=("qmv",), second=("stock",))
        assert all(each.sign == Sign(-1, True) for each in found.duels)

    def test_sides_that_are_tried_whole_are_exact(self):
        device = FakeDevice(lambda _, route: US * (1.02 if route.kernel == "upcast" else 1), noise=0.001)
        found = limits(device, self.FEW, first=("upcast",), second=("stock",))
        assert all((each.sign, each.tried) == (Sign(1, True), ()) for each in found.duels)

    def test_the_interval_is_that_of_the_verdict(self):
        clear = []
        for seed in range(12):
            device = FakeDevice(sided(lambda m: 40 + m, lambda m: 60.5), noise=0.02, seed=seed)
            for each in limits(device, Axis("m", 4, 50), tries=4).duels:
                clear.append(each.sign.clear)
                assert each.sign.clear == (not each.ratio.low <= 1 <= each.ratio.high)
        assert {*clear} == {True, False}

    def test_on_a_simulated_chip_the_limit_is_that_of_exhaustive_measurement(self):
        """Of qmv against qmm, from noiseless times of all 2,000 and 700 configs at each M. Evenly spaced configs, 16 of
        each, said 6 with an interval that left nothing else."""
        chip_ = chip.get("m4pro")
        exact, template, wait = SimulatedDevice(chip_, noise=0.0), problem(SQUARE, 1), lambda _: None
        key = replace(M5MAX, id="m4pro", architecture=chip_.architecture, cores=chip_.cores, nax=False)
        sides_ = (camp(["qmv"], key), camp(["qmm"], key))

        def best(m, side):
            session = exact.open(problem(SQUARE, m), 0, "chained")
            return min(session.time(route, 1) for route in side(problem(SQUARE, m)))

        assert [best(m, sides_[0]) > best(m, sides_[1]) for m in (6, 7)] == [False, True]
        limits_ = [
            find(SimulatedDevice(chip_), template, Axis("m", 5, 8), sides_, EFFORTS["standard"], seed=seed, sleep=wait)
            for seed in (0, 1)
        ]
        found = [each.boundary.limit for each in limits_]
        assert all(limit.low < 7 <= limit.high for limit in found)
        assert 7 in {limit.at for limit in found}


class TestLongRanges:
    def test_a_side_without_a_route_ends_soon(self):
        device = FakeDevice(lambda problem, route: US)
        with pytest.raises(UsageError, match="at no point"):
            limits(device, Axis("m", 1, 10**9), first=("chunk rows=2",), second=("gemv",))

    def test_the_end_of_what_both_serve_is_found(self):
        axis = duel._contested(problem(WIDE, 1), Axis("m", 1, 10**9), (camp(["qmv"], H100), camp(["stock"], H100)))
        assert (axis.first, axis.last) == (1, 64)

    def test_a_range_that_begins_where_nothing_serves(self):
        template = problem("matmul N=64 K=512 f32 nt", 1)
        axis = Axis("k", 1, 100_001, 2)
        with pytest.raises(UsageError, match="at no point"):
            duel._contested(template, axis, (camp(["stock"], H100), camp(["split_k"], H100)))


class TestOtherAxes:
    def test_where_split_k_begins(self):
        """Along K in steps; stock's cost grows with K, and splitting has a cost of its own."""

        def seconds(problem, route):
            return US * (problem.k / 64 if route == STOCK else 20 + problem.k / 256)

        template = problem("matmul N=64 K=512 f32 nt", 1)
        axis = Axis("k", 512, 16384, 512)
        found = limits(FakeDevice(seconds), axis, template, ("stock",), ("split",))
        assert found.boundary.limit.at == 2048
        assert found.boundary.limit.low < 2048 <= found.boundary.limit.high
        assert {each.second.split()[0] for each in found.duels} <= {"split_k", "gemm"}

    @pytest.mark.parametrize("limit", [None, 1051])
    def test_points_with_one_side_alone_are_passed_over(self, limit):
        """K that is odd cannot be cut in two: a range by ones has a point without a split at every other K."""

        def seconds(problem, route):
            split = 90 if limit and problem.k >= limit else 110
            return US * (100 if route == STOCK else split)

        template = problem("matmul N=64 K=512 f32 nt", 1)
        found = limits(FakeDevice(seconds), Axis("k", 1000, 1100), template, ("stock",), ("split_k",), checks=4)
        assert all(each.first and each.second for each in found.duels)
        assert [each.second for each in found.boundary.crossings] == ([True] if limit else [])
        if limit:
            (crossing,) = found.boundary.crossings
            assert crossing.low < limit <= crossing.high

    def test_the_end_of_the_range_in_the_axis_values(self):
        template = problem("matmul N=64 K=512 f32 nt", 1)
        device = FakeDevice(lambda problem, route: US, noise=0.3, seed=2)
        found = limits(device, Axis("k", 512, 2048, 512), template, ("stock",), ("split",))
        assert all(each.high in (1024, 1536, 2048, 2560) for each in found.boundary.crossings)
        assert all(each.low in (0, 512, 1024, 1536) for each in found.boundary.crossings)


class TestWhatGoesWrong:
    def test_a_route_whose_numbers_are_wrong_fights_no_duel(self):
        wrong = Accuracy(0.5, 9.0, 0.5, 9.0)
        device = FakeDevice(
            lambda problem, route: 1 * US if route.kernel == "upcast" else 10 * US, accuracy={"upcast": wrong}
        )
        found = limits(device, Axis("m", 1, 2), problem(DENSE, 1), ("stock",), ("upcast", "chunk", "pad"))
        assert all(not each.second.startswith("upcast") for each in found.duels)

    def test_a_route_that_fails_fights_no_duel(self):
        device = FakeDevice(lambda problem, route: US, failures={"upcast": "raised"}, fail_in=("time",))
        found = limits(device, Axis("m", 1, 2), problem(DENSE, 1), ("stock",), ("upcast", "pad"))
        assert all(each.second.startswith("pad") for each in found.duels)

    def test_a_side_of_which_nothing_is_left_has_no_sign(self):
        device = FakeDevice(lambda problem, route: US, failures={"upcast": "crashed"}, fail_in=("check",))
        found = limits(device, Axis("m", 1, 2), problem(DENSE, 1), ("stock",), ("upcast",))
        assert [(each.second, each.rounds, each.sign.value, each.sign.clear) for each in found.duels] == [
            ("", 0, 0, False),
            ("", 0, 0, False),
        ]

    def test_stock_that_fails_ends_it(self):
        device = FakeDevice(lambda problem, route: US, failures={"stock": "crashed"})
        with pytest.raises(AutotuneError, match="cannot be measured"):
            limits(device)

    def test_a_route_that_fails_in_its_rounds_is_named(self):
        """It gets through its calibration, of a few evaluations, and then crashes."""
        device = FakeDevice(lambda problem, route: US)
        real, timed_ = duel.Meter.round, []

        def crash(meter, comparison):
            timed_.append(comparison.route)
            if len(timed_) > 2:
                raise RouteFailed("crashed", "SIGSEGV")
            real(meter, comparison)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(duel.Meter, "round", crash)
            with pytest.raises(AutotuneError, match=r"stock against upcast failed on .*SIGSEGV"):
                limits(device, Axis("m", 1, 2), problem(DENSE, 1), ("stock",), ("upcast",))

    def test_neither_side_is_left(self):
        device = FakeDevice(lambda problem, route: US, failures={"upcast": "raised"}, fail_in=("check", "time"))
        with pytest.raises(AutotuneError, match="no route of either side"):
            limits(device, Axis("m", 1, 2), problem(DENSE, 1), ("upcast",), ("upcast",))

    def test_no_point_with_both(self):
        with pytest.raises(UsageError, match=r"at no point of M=1\.\.64"):
            limits(FakeDevice(lambda problem, route: US), template=problem(DENSE, 1))

    def test_a_session_that_does_not_open(self):
        device = FakeDevice(lambda problem, route: US, failures={str(problem(WIDE, 1)): "memory"}, fail_in=("open",))
        with pytest.raises(AutotuneError, match="cannot be measured"):
            limits(device)


class TestCamps:
    def routes(self, *words, m=3, family=WIDE, chip=H100, known=()):
        return [str(route) for route in camp(words, chip, known)(problem(family, m))]

    def test_a_route_a_kernel_and_a_side(self):
        assert self.routes("upcast") == ["upcast"]
        assert self.routes("chunk rows=2") == ["chunk rows=2"]
        assert self.routes("chunk rows=2", m=2) == []
        assert self.routes("stock", "dequantize")[0] == "stock"
        assert "stock" in self.routes(VECTOR)
        assert "stock" not in self.routes(MATRIX)
        assert "stock" in self.routes(MATRIX, m=8)

    def test_dense_products_have_no_sides(self):
        assert self.routes(VECTOR, MATRIX, family=DENSE) == []

    def test_splits(self):
        assert {route.split()[0] for route in self.routes("split")} == {"fold_k", "qmm"}
        dense = self.routes("split", family="matmul N=64 K=512 f32 nt")
        assert {route.split()[0] for route in dense} == {"split_k", "gemm"}
        ours = self.routes("split", family=DENSE, chip=M5MAX, m=64)
        assert ours
        assert all("split_k=1 " not in route for route in ours)

    def test_a_searched_kernel_comes_with_all_its_routes_the_known_ones_first(self):
        good = Route.parse("qmv v=3 rows=4 simdgroups=16 split=8 values=8 stage=0 wide=1 math=safe")
        found = camp(["qmv"], M5MAX, [good])(problem(WIDE, 3))
        assert found[0] == good
        assert found.count(good) == 1
        assert len(found) == len(self.routes("qmv", chip=M5MAX)) > 1000
        assert self.routes("qmm_nax", chip=H100) == []

    def test_what_serves_is_what_has_routes(self):
        for words, on in itertools.product(([VECTOR], [MATRIX], ["split"], ["qmv"], ["pad"]), (H100, M5MAX)):
            for family, m in itertools.product((WIDE, DENSE), (1, 64, 65, 4096)):
                made = camp(words, on)
                assert made.serves(problem(family, m)) == bool(made(problem(family, m)))

    @pytest.mark.parametrize(
        ("words", "family", "said"),
        [
            (["qmm"], DENSE, "qmm is no kernel for matmul"),
            (["gemm"], WIDE, "gemm is no kernel for quantized_matmul"),
            ([VECTOR], DENSE, "a matmul has no vector side"),
            (["qmm_nax"], WIDE, "qmm_nax does not run on h100"),
        ],
    )
    def test_words_that_name_nothing_there(self, words, family, said):
        with pytest.raises(UsageError, match=said):
            duel.demand(words, problem(family, 1), H100)
        duel.demand([VECTOR, "stock", "qmv"], problem(WIDE, 1), H100)

    def test_an_unknown_word(self):
        with pytest.raises(UsageError, match="unknown kernel 'vectr'"):
            camp(["vectr"], H100)

    def test_known_routes_are_the_fastest_of_the_class(self):
        other = WIDE.replace("13824", "64")
        rows = [
            timed(other, 3, "upcast", 50, 100),
            timed(WIDE, 9, "chunk rows=1", 20, 100),
            timed(WIDE, 3, "chunk rows=2", 10, 100, status=results.PRUNED),
            timed(WIDE.replace("b4", "b8"), 3, "chunk rows=4", 10, 100),
        ]
        assert [str(route) for route in known(rows, problem(WIDE, 1))] == ["chunk rows=1", "upcast"]
        many = [timed(WIDE, 3, f"chunk rows={n}", 100 - n, 100) for n in random.Random(1).sample(range(1, 60), 40)]
        assert len(known(many, problem(WIDE, 1))) == duel.MOST_KNOWN


def test_the_fake_device_raises_what_the_code_expects():
    with pytest.raises(RouteFailed):
        FakeDevice(lambda problem, route: US, failures={"upcast": "raised"}).fail("time", "upcast")
