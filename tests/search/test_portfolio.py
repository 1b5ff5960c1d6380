import math

import numpy as np
import pytest

from autotune.search import portfolio
from autotune.search.points import enumerate_points
from autotune.search.portfolio import FIRST, Known, Portfolio

VALUES = {
    "bm": [8, 16, 32, 64, 128],
    "bn": [8, 16, 32, 64, 128],
    "bk": [8, 16, 32],
    "split": [1, 2, 4, 8],
    "simdgroups": [1, 2, 4, 8],
    "fill": ["zeros", "repeat"],
}
POINTS = enumerate_points(VALUES, [(("bm", "bn", "bk"), lambda bm, bn, bk: (bm + bn) * bk <= 4096)])


def costs(points, middle=32, seed=0, failing=0.1):
    """A made-up kernel: factors of its parameters, a roughness, and some configs that fail."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(len(points)):
        c = points.config(number)
        found.append(
            (1 + 0.3 * abs(math.log2(c["bm"] / middle)))
            * (1 + 0.2 * abs(math.log2(c["bn"] / middle)))
            * (1 + 0.1 * abs(math.log2(c["simdgroups"] * c["split"] / 8)))
            * (1.3 if c["fill"] == "repeat" else 1.0)
            * math.exp(0.03 * rng.standard_normal())
        )
    found = np.array(found)
    found[(rng.random(len(found)) < failing) & (found > found.min())] = math.inf
    return found


def search(points, cost, budget, **options):
    """Numbers in the order in which they were proposed, and the portfolio."""
    found, asked = Portfolio(points, **options), []
    for _ in range(budget):
        asked.append(found.propose())
        found.tell(asked[-1], cost[asked[-1]])
    return asked, found


COSTS = costs(POINTS)


class TestProposals:
    def test_every_config_once_and_then_none(self):
        points = POINTS.keep(range(0, len(POINTS), 40))
        asked, found = search(points, costs(points), len(points))
        assert sorted(asked) == list(range(len(points)))
        with pytest.raises(IndexError):
            found.propose()

    def test_the_same_seed_gives_the_same_ones_and_another_seed_others(self):
        one, two, other = (search(POINTS, COSTS, 30, seed=seed)[0] for seed in (1, 1, 2))
        assert one == two
        assert one != other

    def test_a_restart_changes_nothing(self):
        whole, _ = search(POINTS, COSTS, 40)
        again = Portfolio(POINTS)
        for index in whole[:25]:
            again.tell(index, COSTS[index])
        for index in whole[25:]:
            assert again.propose() == index
            again.tell(index, COSTS[index])

    def test_asking_twice_gives_the_same_answer(self):
        _, found = search(POINTS, COSTS, 20)
        assert found.propose() == found.propose()

    def test_seeds_come_first_in_their_order(self):
        asked, _ = search(POINTS, COSTS, 12, seeds=[30, 7, 30, 19])
        assert asked[:3] == [30, 7, 19]
        assert len(set(asked)) == 12

    def test_what_was_told_unasked_is_not_proposed(self):
        points = POINTS.keep(range(20))
        found = Portfolio(points, seeds=[3])
        for index in range(19):
            found.tell(index, 1.0 + index)
        assert found.propose() == 19

    def test_one_config_and_no_choice(self):
        assert search(enumerate_points({"a": [1]}), [1.0], 1)[0] == [0]

    def test_all_fail(self):
        asked, _ = search(POINTS, np.full(len(POINTS), math.inf), 30)
        assert len(set(asked)) == 30

    def test_all_cost_the_same(self):
        asked, _ = search(POINTS, np.ones(len(POINTS)), 30)
        assert len(set(asked)) == 30

    @pytest.mark.parametrize("cost", [0.0, -1.0, math.nan])
    def test_costs_that_are_none_are_refused(self, cost):
        with pytest.raises(ValueError, match="not positive"):
            Portfolio(POINTS).tell(0, cost)

    def test_a_config_is_told_once(self):
        found = Portfolio(POINTS)
        found.tell(0, 1.0)
        with pytest.raises(ValueError, match="told before"):
            found.tell(0, 1.0)


class TestSearch:
    def reached(self, budget, **options):
        """Best found over the optimum, for ten seeds."""
        return [COSTS[search(POINTS, COSTS, budget, seed=seed, **options)[0]].min() / COSTS.min() for seed in range(10)]

    def test_comes_close_in_few_measurements(self):
        assert np.median(self.reached(60)) < 1.03

    def test_does_better_than_chance(self):
        rng = np.random.default_rng(0)
        chance = [COSTS[rng.permutation(len(POINTS))[:60]].min() / COSTS.min() for _ in range(10)]
        assert np.mean(self.reached(60)) < np.mean(chance)

    def test_a_good_seed_helps_at_once(self):
        good = int(np.argsort(COSTS)[3])
        assert max(self.reached(1, seeds=[good])) < 1.1

    def test_what_one_problem_taught_starts_the_next(self):
        """Ten measurements that start from sixty of a neighbour's do better than ten that start from none."""
        other = costs(POINTS, seed=5)
        asked, _ = search(POINTS, other, 60)
        known = [Known(POINTS.config(index), (0.0,), other[index]) for index in asked]
        warm = self.reached(10, problem=(0.2,), known=known)
        assert np.mean(warm) < np.mean(self.reached(10)) - 0.05

    def test_known_costs_of_an_unlike_problem_do_not_mislead_for_long(self):
        other = costs(POINTS, middle=128, seed=5)
        asked, _ = search(POINTS, other, 60)
        known = [Known(POINTS.config(index), (0.0,), other[index]) for index in asked]
        assert np.median(self.reached(60, problem=(1.0,), known=known)) < 1.05

    def test_known_configs_of_another_space_are_passed_over(self):
        known = [Known({"bm": 7}, (0.0,), 1.0), Known({**POINTS.config(0), "bk": 5}, (0.0,), 1.0)]
        assert search(POINTS, COSTS, 12, problem=(1.0,), known=known)[0] == search(POINTS, COSTS, 12)[0]


class TestCost:
    def test_known_costs_give_way_to_the_sets_own(self, monkeypatch):
        """What a fit and a prediction rest on is bounded, however much is known and told."""
        sizes, rests = [], []
        fit, process = portfolio.ranking.fit, portfolio.ranking.Ranking
        monkeypatch.setattr(portfolio, "FITTED", 30)
        monkeypatch.setattr(portfolio, "RESTED", 50)
        monkeypatch.setattr(portfolio.ranking, "fit", lambda x, *rest: sizes.append(len(x)) or fit(x, *rest))
        monkeypatch.setattr(portfolio.ranking, "Ranking", lambda x, *rest: rests.append(len(x)) or process(x, *rest))
        known = [Known(POINTS.config(number), (0.5,), 1.0 + number) for number in range(60)]
        search(POINTS, COSTS, 80, problem=(0.0,), known=known)
        assert max(sizes) == 30
        assert max(rests) == 50
        assert min(sizes) >= 25  # the best and the newest may be the same


class TestArbitration:
    def test_a_strategy_that_pays_gets_more_turns(self):
        found = Portfolio(POINTS, seed=3)
        found._paid = [[0.1, 10.0], [9.0, 10.0], [0.1, 10.0]]
        turns = []
        for index in range(FIRST, 200):
            turns.append(found._strategy())
            found._told.append(index)
        assert turns.count(portfolio.ROUGH) > 0.9 * len(turns)

    def test_success_is_credited_to_whoever_had_the_turn(self):
        _, found = search(POINTS, COSTS, FIRST)
        turn, before = found._strategy(), [list(each) for each in found._paid]
        index = found.propose()
        found.tell(index, COSTS.min() / 2)
        for strategy, (paid, turns) in enumerate(found._paid):
            assert (paid > before[strategy][0], turns > before[strategy][1]) == (strategy == turn, strategy == turn)

    def test_a_seeds_success_is_nobodys(self):
        """With known costs a strategy is asked from the start, so that every told cost would count."""
        known = [Known(POINTS.config(number), (0.5,), 2.0 + number) for number in range(20)]
        found = Portfolio(POINTS, seeds=[7, 3, 5], problem=(0.0,), known=known)
        before = [list(each) for each in found._paid]
        for cost in (3.0, 2.0, 1.0):
            found.tell(found.propose(), cost)
        assert found._paid == before
        found.tell(found.propose(), 0.5)
        assert found._paid != before
