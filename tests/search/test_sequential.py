import math
import random

import pytest

from autotune.search.sequential import ERROR, LEAST_DEGREES, Noise, Rival, slower

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
