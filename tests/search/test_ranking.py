import math

import numpy as np
import pytest

from autotune.search import ranking

GROUPS, LENGTHS = [0, 1], [ranking.LENGTH] * 2


def observed(count, noise=0.0, seed=1):
    """A valley along the first of two coordinates; the second does nothing."""
    rng = np.random.default_rng(seed)
    x = rng.random((count, 2))
    y = (x[:, 0] - 0.3) ** 2 + noise * rng.standard_normal(count)
    return x, (y - y.mean()) / y.std()


class TestScores:
    def test_keep_the_order_and_are_standardized(self):
        costs = np.exp(np.random.default_rng().normal(size=50))
        scores = ranking.scores(costs)
        assert (np.argsort(scores) == np.argsort(costs)).all()
        assert abs(scores.mean()) < 1e-9
        assert abs(scores.std() - 1) < 1e-9

    def test_do_not_depend_on_the_unit(self):
        costs = np.exp(np.random.default_rng().normal(size=20))
        assert np.allclose(ranking.scores(costs), ranking.scores(1e6 * costs))

    def test_a_failure_is_as_bad_as_the_worst(self):
        scores = ranking.scores(np.array([1.0, math.inf, 3.0, 2.0]))
        assert scores[1] == scores[2] == scores.max()

    def test_beyond_the_median_distances_shrink(self):
        scores = ranking.scores(np.exp(np.array([0.0, 1.0, 2.0, 4.0, 8.0])))
        assert (scores[4] - scores[2]) / 6 < (scores[2] - scores[0]) / 4

    @pytest.mark.parametrize("costs", [[math.inf, math.inf], [2.0], [3.0, 3.0, 3.0]])
    def test_nothing_to_tell_apart(self, costs):
        assert np.allclose(ranking.scores(np.array(costs)), 0)


class TestBest:
    @pytest.mark.parametrize("count", [5, 60])
    def test_is_where_the_expected_improvement_is_largest(self, count):
        """More points than are predicted at a time, and a bound that rules most of them out."""
        x, y = observed(count, noise=0.1, seed=count)
        process = ranking.Ranking(x, y, ranking.fit(x, y, GROUPS, LENGTHS))
        points = np.random.default_rng(count).random((5 * ranking.CHUNK + 7, 2))
        worth = ranking.expected_improvement(*process.predict(points), y.min())
        assert worth[process.best(points, y.min())] == pytest.approx(worth.max(), rel=1e-4)

    def test_does_not_look_at_what_cannot_be_better(self, monkeypatch):
        x, y = observed(60)
        process = ranking.Ranking(x, y, ranking.fit(x, y, GROUPS, LENGTHS))
        looked, deviation = [], process._deviation
        monkeypatch.setattr(process, "_deviation", lambda rows: looked.append(len(rows)) or deviation(rows))
        process.best(np.random.default_rng(1).random((10 * ranking.CHUNK, 2)), y.min())
        assert sum(looked) <= 5 * ranking.CHUNK


class TestFit:
    def test_a_coordinate_that_does_nothing_drops_out(self):
        scales = ranking.fit(*observed(60), GROUPS, LENGTHS)
        assert scales.inverse[0] > scales.inverse[1] + 1

    def test_noise_is_noticed(self):
        clean, noisy = (ranking.fit(*observed(60, noise), GROUPS, LENGTHS) for noise in (0.0, 0.2))
        assert noisy.noise > clean.noise + 1

    def test_columns_of_a_group_share_a_scale(self):
        scales = ranking.fit(*observed(30), [0, 0], LENGTHS[:1])
        assert scales.inverse[0] == scales.inverse[1]

    def test_climbs_to_where_the_slope_ends(self, monkeypatch):
        """Against the posterior computed the plain way: given time, no small step away from the fit gains anything."""
        monkeypatch.setattr(ranking, "STEPS", 1000)
        monkeypatch.setattr(ranking, "RATE", 0.02)
        x, y = observed(40, 0.02)

        def posterior(place):
            inverse, amplitude, noise = np.array(place[:2]), place[2], place[3]
            distance = np.sqrt(5 * (((x[:, None] - x) * np.exp(inverse)) ** 2).sum(-1))
            k = math.exp(amplitude) * (1 + distance + distance**2 / 3) * np.exp(-distance)
            k += (math.exp(noise) + 1e-8) * np.eye(len(y))
            prior = ((inverse + math.log(ranking.LENGTH)) ** 2).sum() + amplitude**2
            prior += (noise - math.log(ranking.NOISE)) ** 2 / 4
            return -0.5 * (y @ np.linalg.solve(k, y) + np.linalg.slogdet(k)[1] + prior)

        found = ranking.fit(x, y, GROUPS, LENGTHS)
        place = [*found.inverse, found.amplitude, found.noise]
        start = [-math.log(ranking.LENGTH)] * 2 + [0.0, math.log(ranking.NOISE)]
        assert posterior(place) > posterior(start)
        for at in range(4):
            for step in (-0.1, 0.1):
                other = list(place)
                other[at] += step
                assert posterior(other) < posterior(place)

    def test_is_the_same_every_time(self):
        one, two = (ranking.fit(*observed(20), GROUPS, LENGTHS) for _ in range(2))
        assert one.inverse.tolist() == two.inverse.tolist()

    def test_no_coordinates(self):
        scales = ranking.fit(np.zeros((5, 0)), np.arange(5.0) - 2, [], [])
        assert len(scales.inverse) == 0


class TestRanking:
    def test_predicts_what_it_did_not_see(self):
        x, y = observed(60)
        model = ranking.Ranking(x[:40], y[:40], ranking.fit(x[:40], y[:40], GROUPS, LENGTHS))
        mean, deviation = model.predict(x[40:])
        assert np.abs(mean - y[40:]).max() < 0.2
        assert (np.abs(mean - y[40:]) < 4 * deviation + 0.05).all()

    def test_agrees_with_the_equations(self):
        """Rasmussen and Williams, equations 2.25 and 2.26, in double precision."""
        x, y = observed(20, 0.1)
        z = np.random.default_rng().random((7, 2))
        scales = ranking.fit(x, y, GROUPS, LENGTHS)

        def kernel(a, b):
            distance = np.sqrt(5 * (((a[:, None] - b) * np.exp(scales.inverse)) ** 2).sum(-1))
            return math.exp(scales.amplitude) * (1 + distance + distance**2 / 3) * np.exp(-distance)

        known = kernel(x, x) + math.exp(scales.noise) * np.eye(20)
        mean, deviation = ranking.Ranking(x, y, scales).predict(z)
        assert np.allclose(mean, kernel(z, x) @ np.linalg.solve(known, y), atol=2e-3)
        variance = math.exp(scales.amplitude) - np.diag(kernel(z, x) @ np.linalg.solve(known, kernel(x, z)))
        assert np.allclose(deviation**2, variance, atol=2e-3)

    def test_is_sure_where_it_was_and_unsure_elsewhere(self):
        x, y = observed(15)
        scales = ranking.fit(x, y, GROUPS, LENGTHS)
        model = ranking.Ranking(x, y, scales)
        near, far = model.predict(x)[1].max(), model.predict(np.array([[9.0, 9.0]]))[1][0]
        assert near < far
        assert far == pytest.approx(math.exp(scales.amplitude / 2), rel=0.01)

    def test_equal_observations_are_no_trouble(self):
        x = np.zeros((12, 2))
        mean, deviation = ranking.Ranking(x, np.zeros(12), ranking.fit(x, np.zeros(12), GROUPS, LENGTHS)).predict(x)
        assert np.isfinite(mean).all()
        assert np.isfinite(deviation).all()


class TestExpectedImprovement:
    def test_agrees_with_drawing(self):
        draws = np.random.default_rng(3).standard_normal(400_000)
        for mean, deviation, best in [(0.0, 1.0, 0.0), (1.0, 0.5, 0.3), (-1.0, 2.0, 0.5)]:
            drawn = np.maximum(best - (mean + deviation * draws), 0).mean()
            found = ranking.expected_improvement(np.array([mean]), np.array([deviation]), best)[0]
            assert found == pytest.approx(drawn, abs=0.01)

    def test_more_is_expected_of_a_lower_mean_and_of_a_wider_spread(self):
        found = ranking.expected_improvement(np.array([0.0, -1.0, 0.0]), np.array([1.0, 1.0, 2.0]), 0.0)
        assert found[1] > found[0]
        assert found[2] > found[0]
