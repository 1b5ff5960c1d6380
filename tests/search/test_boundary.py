import random
from itertools import pairwise

import pytest

from autotune.search import boundary
from autotune.search.boundary import LEAST, MOST, Sign, find, sign


def clean(second_from, second_to=10**9):
    """Clean data: the second route is faster in this range of M."""
    asked = []

    def compare(m):
        asked.append(m)
        return Sign(1 if second_from <= m < second_to else -1, True)

    return compare, asked


class TestFind:
    @pytest.mark.parametrize("limit", range(2, 65))
    def test_every_limit_takes_eight_comparisons_at_most(self, limit):
        compare, asked = clean(limit)
        found = find(compare, 1, 64)
        assert (found.limit.at, found.limit.low, found.limit.high) == (limit, limit - 1, limit)
        assert len(asked) <= 8
        assert len(set(asked)) == len(asked)

    @pytest.mark.parametrize("second_from", [1, 100])
    def test_no_crossing(self, second_from):
        compare, asked = clean(second_from)
        found = find(compare, 1, 64)
        assert found.limit is None
        assert found.crossings == ()
        assert asked == [1, 64]

    def test_the_wrong_way_round_is_no_limit(self):
        compare, _ = clean(1, 20)
        found = find(compare, 1, 64)
        assert found.limit is None
        assert [(each.at, each.second) for each in found.crossings] == [(20, False)]

    def test_a_dead_zone_is_found_by_checks_and_reported(self):
        compare, asked = clean(20, 40)
        assert find(compare, 1, 64).crossings == ()
        found = find(compare, 1, 64, checks=3)
        assert [(each.at, each.second) for each in found.crossings] == [(20, True), (40, False)]
        assert found.limit is None
        assert len(asked) < 20

    def test_checks_look_into_the_widest_stretches(self):
        compare, asked = clean(64)
        find(compare, 1, 64, checks=2)
        assert asked[-2:] == [16, 24]

    def test_an_unclear_sign_widens_the_interval(self):
        found = find(lambda m: Sign(1 if m >= 30 else -1, not 28 <= m <= 33), 1, 64)
        crossing = found.limit
        assert crossing.at == 30
        assert crossing.low < 28
        assert crossing.high > 33
        assert all(found.signs[m].clear for m in (crossing.low, crossing.high))

    def test_nothing_clear_is_no_crossing(self):
        assert find(lambda m: Sign(1 if m >= 30 else -1, False), 1, 64).crossings == ()

    def test_unclear_signs_belong_to_the_gap_between_clear_ones(self):
        """Else the walk to a clear sign would pass those of the other side, and two intervals contradict each other."""
        signs = {1: Sign(-1, True), 20: Sign(1, False), 40: Sign(-1, True), 64: Sign(1, True)}
        (crossing,) = find(lambda m: signs[m], 1, 64, 4, lambda m: m in signs).crossings
        assert (crossing.at, crossing.low, crossing.high) == (64, 40, 64)

    def test_intervals_of_crossings_never_overlap(self):
        for seed in range(50):
            rng = random.Random(seed)
            signs = {m: Sign(rng.choice([-1, 1]), rng.random() < 0.5) for m in range(1, 33)}
            for a, b in pairwise(find(lambda m, signs=signs: signs[m], 1, 32, 8).crossings):
                assert a.low < a.at <= a.high <= b.low < b.at <= b.high
                assert a.second != b.second

    def test_what_cannot_be_compared_is_passed_over(self):
        compare, asked = clean(21)
        found = find(compare, 2, 64, checks=4, usable=lambda m: m % 2 == 0)
        assert (found.limit.at, found.limit.low, found.limit.high) == (22, 20, 22)
        assert all(m % 2 == 0 for m in asked)

    def test_a_gap_of_a_thousand_million_takes_no_longer(self):
        compare, asked = clean(123_456_789, 2 * 10**9)
        assert find(compare, 1, 10**9).limit.at == 123_456_789
        assert len(asked) <= 32
        assert find(clean(5, 2 * 10**9)[0], 1, 10**9, usable=lambda m: False).crossings[0].high == 10**9

    def test_no_sign_does_not_steer(self):
        found = find(lambda m: Sign((1 if m >= 21 else -1) if m % 2 == 0 else 0, m % 2 == 0), 2, 64, checks=4)
        assert [(each.at, each.low, each.high) for each in found.crossings] == [(22, 20, 22)]
        assert find(lambda m: Sign(0, False), 1, 64, checks=4).crossings == ()

    def test_one_m_and_none(self):
        assert find(clean(1)[0], 5, 5).crossings == ()
        assert find(clean(6)[0], 5, 6).limit.at == 6
        with pytest.raises(ValueError, match=r"6\.\.5"):
            find(clean(1)[0], 6, 5)


class TestSign:
    def test_a_clear_one_takes_few_rounds(self):
        asked = []

        def rounds():
            asked.append(1)
            return -0.1 + 0.001 * (len(asked) % 3)

        assert sign(rounds) == Sign(-1, True)
        assert len(asked) == LEAST

    def test_an_unclear_one_takes_all(self):
        asked = []

        def rounds():
            asked.append(1)
            return 0.1 * (-1) ** len(asked)

        assert not sign(rounds).clear
        assert len(asked) == MOST

    def test_equal_routes_get_a_clear_sign_as_rarely_as_stated(self):
        rng = random.Random(1)
        clear = sum(sign(lambda: rng.gauss(0, 0.03)).clear for _ in range(2000))
        assert clear / 2000 < boundary.ERROR

    def test_its_interval_is_clear_where_it_is(self):
        rng = random.Random(3)
        for _ in range(300):
            seen, mean, allowed = [], rng.gauss(0, 0.03), (rng.choice([0.0, 0.03]), rng.choice([0.0, 0.03]))

            def rounds(seen=seen, mean=mean):
                seen.append(rng.gauss(mean, 0.02))
                return seen[-1]

            found = sign(rounds, *allowed)
            held = boundary.bounds(seen, *allowed)
            assert found.clear == (not held.low <= 1 <= held.high)

    def test_what_is_clearly_within_an_allowance_takes_few_rounds(self):
        asked = []

        def rounds():
            asked.append(1)
            return 0.01 + 0.001 * (len(asked) % 3)

        assert sign(rounds, 0.03, 0.0) == Sign(1, False)
        assert len(asked) == LEAST

    def test_silence_is_clear(self):
        assert sign(lambda: 0.01) == Sign(1, True)


def test_on_noisy_data_the_interval_holds_the_limit():
    """One route costs 1 + M/16, the other 2.1, at noise of 2 % a round: they cross between 17 and 18."""
    rng = random.Random(7)
    held = 0
    for _ in range(100):
        found = find(lambda m: sign(lambda: rng.gauss(-0.047 * (17.6 - m), 0.02)), 1, 64)
        assert found.limit is not None
        held += found.limit.low < 18 <= found.limit.high
    assert held >= 95


def test_noise_invents_no_crossings():
    """A slope so low that noise of 2 % a round leaves twenty M and more on either side of the limit in doubt."""
    more = 0
    for seed in range(200):
        rng = random.Random(seed)
        found = find(lambda m, rng=rng: sign(lambda: rng.gauss(0.0005 * (m - 30), 0.02)), 1, 64, checks=4)
        more += len(found.crossings) > 1
    assert more / 200 <= boundary.ERROR
