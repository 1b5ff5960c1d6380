import itertools
import time

import numpy as np
import pytest

from autotune.search.points import Points, enumerate_points

VALUES = {"bm": [16, 32, 64], "split": [1, 2, 4], "fill": ["zeros", "repeat"], "one": [7]}
SMALL = ((("bm", "split"), lambda bm, split: bm * split <= 64),)


def configs(points):
    return [tuple(points.config(number).values()) for number in range(len(points))]


class TestEnumeration:
    def test_without_constraints_is_the_product_in_order(self):
        assert configs(enumerate_points(VALUES)) == list(itertools.product(*VALUES.values()))

    def test_with_constraints_is_what_they_leave(self):
        constraints = (*SMALL, (("fill", "split"), lambda fill, split: (fill == "zeros") | (split > 1)))
        wanted = [
            each
            for each in itertools.product(*VALUES.values())
            if each[0] * each[1] <= 64 and (each[2] == "zeros" or each[1] > 1)
        ]
        assert configs(enumerate_points(VALUES, constraints)) == wanted

    def test_random_spaces_agree_with_asking_each_point(self):
        rng = np.random.default_rng()
        for _ in range(20):
            values = {f"p{place}": sorted({*rng.integers(1, 50, 4).tolist()}) for place in range(4)}
            a, b, c = rng.permutation(list(values))[:3]
            limit = int(rng.integers(10, 500))
            constraints = [((a, b), lambda x, y, limit=limit: x * y <= limit), ((c,), lambda x: x % 2 == 0)]
            wanted = [
                point
                for point in itertools.product(*values.values())
                if (each := dict(zip(values, point)))[a] * each[b] <= limit and each[c] % 2 == 0
            ]
            assert configs(enumerate_points(values, constraints)) == wanted

    def test_a_constraint_may_answer_for_all_points_at_once(self):
        assert len(enumerate_points(VALUES, [((), lambda: False)])) == 0
        assert len(enumerate_points(VALUES, [((), lambda: True)])) == 18

    def test_no_parameters_leave_the_empty_config(self):
        points = enumerate_points({})
        assert configs(points) == [()]
        assert points.find({}) == 0
        assert len(points.neighbours(0)) == 0

    def test_no_values_leave_nothing(self):
        assert len(enumerate_points({"a": [], "b": [1]})) == 0

    def test_words_and_numbers_may_mix(self):
        points = enumerate_points({"a": [1, 2, "auto"]})
        assert [points.config(number)["a"] for number in range(3)] == [1, 2, "auto"]

    def test_unknown_names_and_too_many_points_are_refused(self):
        with pytest.raises(ValueError, match="bn"):
            enumerate_points(VALUES, [(("bn",), lambda bn: bn > 0)])
        with pytest.raises(ValueError, match="more than 17 points at parameter fill"):
            enumerate_points(VALUES, most=17)
        with pytest.raises(ValueError, match="2\\^63"):
            enumerate_points({f"p{place}": range(1 << 13) for place in range(5)})

    @pytest.mark.slow
    def test_a_million_raw_points_take_less_than_a_second(self):
        values = {f"p{place}": list(range(10)) for place in range(6)}
        constraints = [(("p0", "p1"), lambda a, b: a * b <= 30), (("p4", "p5"), lambda a, b: (a + b) % 2 == 0)]
        began = time.process_time()
        points = enumerate_points(values, constraints)
        assert time.process_time() - began < 1
        assert len(points) == 370_000


class TestPoints:
    points = enumerate_points(VALUES, SMALL)

    def test_every_config_is_found_where_it_is(self):
        for number in range(len(self.points)):
            assert self.points.find(self.points.config(number)) == number
            assert self.points.find(dict(reversed(self.points.config(number).items()))) == number

    def test_what_it_does_not_have_is_not_found(self):
        assert self.points.find({"bm": 64, "split": 4, "fill": "zeros", "one": 7}) is None
        assert self.points.find({"bm": 48, "split": 1, "fill": "zeros", "one": 7}) is None
        assert self.points.find({"bm": 16}) is None
        assert enumerate_points({"a": []}).find({"a": 1}) is None
        assert self.points.keep([]).find(self.points.config(0)) is None

    def test_neighbours_differ_in_one_parameter(self):
        every = configs(self.points)
        for number, own in enumerate(every):
            differing = {other for other, config in enumerate(every) if sum(a != b for a, b in zip(own, config)) == 1}
            assert set(self.points.neighbours(number)) == differing

    def test_a_part_of_the_set_has_numbers_of_its_own(self):
        part = self.points.keep([5, 2])
        assert configs(part) == [configs(self.points)[5], configs(self.points)[2]]
        assert part.find(self.points.config(2)) == 1
        assert set(part.neighbours(0)) <= {1}

    def test_smooth_coordinates_are_logarithms_and_a_column_for_each_word(self):
        codes = np.array([self.points.encode({"bm": 32, "split": 1, "fill": "repeat", "one": 7})])
        assert np.allclose(self.points.smooth(codes), [[0.5, 0.0, 0.0, np.sqrt(0.5)]])
        assert self.points.smooth_groups == [0, 1, 2, 2]

    def test_marks_put_all_values_of_a_number_at_distance_one(self):
        codes = self.points.codes
        assert self.points.mark_groups == [0, 0, 0, 1, 1, 1]
        marks = self.points.marks(codes)
        for a, b in itertools.combinations(range(len(codes)), 2):
            differing = (codes[a, :2] != codes[b, :2]).sum()
            assert np.isclose(((marks[a] - marks[b]) ** 2).sum(), differing)

    def test_zeros_and_negative_numbers_have_coordinates_too(self):
        points = enumerate_points({"a": [0, 1, 3], "b": [-1, 0, 1], "c": [0, 1]})
        assert np.allclose(points.smooth(np.array([[1, 1, 1]])), [[0.5, 0.5, 1.0]])
        assert points.mark_groups == [0, 0, 0, 1, 1, 1]

    def test_codes_of_a_config_need_not_be_in_the_set(self):
        assert self.points.encode({"one": 7, "bm": 64, "split": 4, "fill": "zeros"}) == [2, 2, 0, 0]
        assert self.points.encode({"bm": 65, "split": 4, "fill": "zeros", "one": 7}) is None
        assert self.points.encode({"bm": 64}) is None

    def test_one_point_without_choice(self):
        points = Points(("a",), ((3,),), np.zeros((1, 1), np.int64))
        assert points.smooth(points.codes).shape == points.marks(points.codes).shape == (1, 0)
        assert len(points.neighbours(0)) == 0
