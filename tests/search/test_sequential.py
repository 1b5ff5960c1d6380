import math
import random

import pytest

from autotune.kernels import STOCK, Route
from autotune.search.measure import EFFORTS, Meter
from autotune.search.sequential import ERROR, LEAST_DEGREES, Noise, Rival, luck, rival, slower
from autotune.search.stats import NONE

LOOKS = 2


def noise_of(rng, spread, rounds=8):
    """What a session knows after stock against itself."""
    noise = Noise()
    noise.add([rng.gauss(0, spread) for _ in range(rounds)])
    return noise


def dropped(rng, truth, spread, rival_rounds, looks=LOOKS):
    """The round after which a candidate was dropped, None if it was not; truth is its log speed over the rival's,
    and the rival is known from rounds of its own."""
    noise = noise_of(rng, spread)
    rival = sum(rng.gauss(0, spread) for _ in range(rival_rounds)) / rival_rounds
    rounds = []
    for look in range(1, looks + 1):
        rounds.append(rng.gauss(truth, spread))
        if slower(rounds, Rival(rival, rival_rounds), noise, looks):
            return look
    return None


class TestErrorRate:
    @pytest.mark.parametrize("spread", [0.005, 0.03, 0.2])
    @pytest.mark.parametrize("looks", [1, 2, 3])
    def test_an_equal_one_is_dropped_as_rarely_as_stated(self, spread, looks):
        rng = random.Random(f"{spread} {looks}")
        count = 8000
        share = sum(dropped(rng, 0.0, spread, 4, looks) is not None for _ in range(count)) / count
        assert share < ERROR + 3 * math.sqrt(ERROR / count)

    def test_a_faster_one_hardly_ever(self):
        rng = random.Random(1)
        assert sum(dropped(rng, 0.05, 0.03, 4) is not None for _ in range(4000)) <= 4

    def test_the_best_survives_a_rival_that_was_lucky(self):
        """The rival is the luckiest of fifty equal routes with three rounds each, which flatters it; a route that
        is truly 5 % faster than these has to come through at noise of 2 %."""
        rng = random.Random(2)
        lost = 0
        for _ in range(1000):
            noise = noise_of(rng, 0.02)
            lucky = max(sum(rng.gauss(0, 0.02) for _ in range(3)) / 3 for _ in range(50))
            rounds = []
            for _ in range(LOOKS):
                rounds.append(rng.gauss(math.log(1.05), 0.02))
                if slower(rounds, Rival(lucky, 3), noise, LOOKS):
                    lost += 1
                    break
        assert lost / 1000 < ERROR


class TestSelection:
    """The rival as a sweep picks it: the third of all that were measured so far, which had luck."""

    @staticmethod
    def dropped(effort, truths, seed, noise=0.01):
        """Of the routes that are as fast as the rival or faster in truth, how many were dropped, and how many there
        were; ``truths`` are seconds of a call."""
        rng = random.Random(seed)
        routes = [Route.of("chunk", {"rows": number + 1}) for number in range(len(truths))]
        seconds = dict(zip(routes, truths))

        class Session:
            def time(self, route, calls):
                return calls * seconds.get(route, 1.0) * math.exp(rng.gauss(0, noise))

        meter = Meter(Session(), effort, lambda seconds: None)
        meter.settle(meter.compare(STOCK))
        left, best, dropped, asked = {}, NONE, 0, 0
        for number, route in enumerate(rng.sample(routes, len(routes))):
            held = rival([(mean, rounds) for mean, rounds in left.values()], 3, number)
            place = sorted(left, key=lambda each: -left[each][0])[2] if held else None
            comparison, lost = meter.screen(route, best, held)
            if held and seconds[route] <= seconds[place]:
                dropped, asked = dropped + lost, asked + 1
            if not lost:
                left[route] = math.log(comparison.interval.value), len(comparison.ratios)
                best = max(best, comparison.interval, key=lambda each: each.value)
        return dropped, asked

    @pytest.mark.parametrize(("effort", "sweeps"), [("quick", 150), ("standard", 30), ("full", 6)])
    @pytest.mark.parametrize("slower_share", [0.0, 0.9])
    def test_an_equal_one_is_dropped_as_rarely_as_stated(self, effort, sweeps, slower_share):
        """All routes equal, or a tenth of them and the others 15 % slower; without regard to the luck of the rival up
        to 10 % were dropped, and never less than 1.6."""
        found = EFFORTS[effort]
        slower_ones = round(slower_share * found.searched)
        truths = [1.0] * (found.searched - slower_ones) + [1.15] * slower_ones
        counts = [self.dropped(found, truths, f"{effort} {seed}") for seed in range(sweeps)]
        dropped, asked = map(sum, zip(*counts))
        assert asked > 400
        assert dropped / asked < ERROR + 3 * math.sqrt(ERROR / asked)

    def test_what_is_clearly_slower_still_gets_one_round(self):
        """15 % slower than the third of 500, at noise of 1 %."""
        noise = noise_of(random.Random(1), 0.01)
        assert slower([-0.15 + 0.02], Rival(0.025, 4, 500), noise, 3)

    def test_luck_is_that_of_the_highest_of_so_many(self):
        rng = random.Random(1)
        assert luck(1) == pytest.approx(0, abs=1e-12)
        for count in (3, 20, 100):
            seen = [max(rng.gauss(0, 1) for _ in range(count)) for _ in range(2000)]
            assert luck(count) == pytest.approx(sum(seen) / len(seen), abs=0.06)

    def test_is_the_last_place_and_none_while_there_are_too_few(self):
        assert rival([(0.1, 2), (0.3, 4)], 3, 5) is None
        assert rival([(0.1, 2), (0.3, 4), (0.2, 3), (0.0, 1)], 3, 9) == Rival(0.1, 2, 9)


class TestPower:
    def test_a_clearly_slower_one_mostly_gets_one_round(self):
        """A round times a candidate twice. 15 % slower at noise of 1 %."""
        rng = random.Random(3)
        looks = [dropped(rng, -0.15, 0.01, 4) for _ in range(500)]
        assert looks.count(1) > 0.99 * len(looks)

    def test_a_little_slower_one_is_not_decided_early(self):
        rng = random.Random(4)
        looks = [dropped(rng, -0.01, 0.02, 4) for _ in range(500)]
        assert looks.count(None) > 0.9 * len(looks)


class TestNoise:
    def test_is_pooled_about_each_route_own_mean(self):
        noise = Noise()
        noise.add([1.0, 1.2, 1.1, 1.3])
        noise.add([5.0, 5.2])
        assert noise.degrees == 4
        assert noise.spread == pytest.approx(math.sqrt((0.05 + 0.02) / 4))

    def test_too_little_decides_nothing(self):
        noise = Noise()
        noise.add([0.0])
        noise.add([0.0] * LEAST_DEGREES)
        assert math.isinf(noise.spread)
        assert not slower([-9.0], Rival(0.0, 4), noise, LOOKS)
        noise.add([0.0, 0.0])
        assert slower([-9.0], Rival(0.0, 4), noise, LOOKS)

    def test_perfect_silence_is_not_believed(self):
        noise = Noise()
        noise.add([0.0] * 20)
        assert not slower([-1e-4], Rival(0.0, 10**6), noise, LOOKS)

    def test_no_rounds_decide_nothing(self):
        assert not slower([], Rival(9.0, 4), noise_of(random.Random(5), 0.01), LOOKS)
