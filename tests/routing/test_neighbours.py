import itertools
import random

import pytest

from autotune.problem import Family
from autotune.routing.neighbours import LIMIT, REACH, Bound, Shapes, alignment, class_of, factor


def shape(n, k):
    return Family("quantized_matmul", n, k, "f16", "nt", "affine-b4-g64")


def shapes(*pairs):
    return Shapes(shape(n, k) for n, k in pairs)


GRID = [(n, k) for n in (1024, 2048, 4096, 8192) for k in (1024, 2048, 4096)]


class TestClass:
    def test_is_the_family_without_n_and_k(self):
        assert class_of("matmul N=64 K=256 B=2 bf16 nn") == "matmul B=2 bf16 nn"
        assert class_of(str(shape(64, 256))) == class_of(str(shape(128, 512)))

    @pytest.mark.parametrize("other", ["f16 affine-b4-g32 nt", "f16 affine-b8-g64 nt", "bf16 affine-b4-g64 nt"])
    def test_another_dtype_or_quantization_is_another_class(self, other):
        assert class_of(f"quantized_matmul N=64 K=256 {other}") != class_of(str(shape(64, 256)))


class TestFactor:
    def test_is_the_larger_of_the_two_sides(self):
        assert factor(shape(1024, 4096), shape(2048, 4096)) == 2
        assert factor(shape(1024, 4096), shape(2048, 1024)) == 4
        assert factor(shape(512, 512), shape(512, 512)) == 1

    def test_a_product_of_the_same_size_is_not_the_same_shape(self):
        assert factor(shape(1024, 13824), shape(13824, 1024)) == 13.5

    def test_is_symmetric(self):
        for a, b in itertools.combinations(GRID, 2):
            assert factor(shape(*a), shape(*b)) == factor(shape(*b), shape(*a)) > 1


class TestNearest:
    def test_the_nearest_and_how_far_it_is(self):
        found, apart = shapes(*GRID).nearest(shape(3072, 3072))
        assert (found.n, found.k) == (4096, 4096)
        assert apart == 4096 / 3072

    def test_a_tuned_shape_is_not_its_own_neighbour(self):
        found, apart = shapes(*GRID).nearest(shape(2048, 2048))
        assert (found.n, found.k) != (2048, 2048)
        assert apart == 2

    def test_ties_go_to_the_other_side_and_then_to_the_smaller_shape(self):
        tied = shapes((1024, 1024), (2048, 1024), (4096, 4096), (8192, 8192))
        assert tied.nearest(shape(2048, 2048))[0] == shape(2048, 1024)
        square = shapes((1024, 1024), (1024, 4096), (4096, 1024), (4096, 4096))
        assert square.nearest(shape(2048, 2048))[0] == shape(1024, 1024)

    @pytest.mark.parametrize(("n", "k"), [(512, 2048), (16384, 2048), (2048, 512), (2048, 8192)])
    def test_outside_of_the_tuned_shapes_there_is_none(self, n, k):
        assert shapes(*GRID).nearest(shape(n, k)) is None

    def test_shapes_at_the_rim_have_no_neighbour_once_left_out(self):
        """Else leaving one out would measure an extrapolation that the rule never makes."""
        corner = shapes((1024, 1024), (2048, 2048), (2048, 1024), (1024, 2048))
        assert corner.nearest(shape(1024, 1024)) is not None
        line = shapes((1024, 1024), (2048, 1024), (4096, 1024))
        assert line.nearest(shape(1024, 1024)) is None
        assert line.nearest(shape(2048, 1024)) is not None

    def test_what_is_too_far_is_none(self):
        few = shapes((1024, 1024), (8192, 8192))
        assert few.nearest(shape(2048, 2048))[1] == REACH
        assert few.nearest(shape(2560, 2560)) is None
        assert few.nearest(shape(2048, 2048), 1.9) is None

    @pytest.mark.parametrize(("n", "k"), [(3073, 3072), (3080, 3072), (3104, 3072), (3072, 3008), (3072, 3328)])
    def test_another_alignment_has_no_neighbour(self, n, k):
        assert alignment(shape(n, k // 64 * 64)) != alignment(shape(3072, 3072))
        assert shapes(*GRID).nearest(shape(n, k)) is None

    def test_without_shapes(self):
        assert Shapes([]).nearest(shape(64, 64)) is None
        assert shapes((64, 64)).nearest(shape(64, 64)) is None

    def test_agrees_with_the_rule_written_out(self):
        """The same as asking every shape, on random sets."""
        rng = random.Random(3)
        for _ in range(200):
            tuned = {(64 * rng.randint(1, 40), 512 * rng.randint(1, 9)) for _ in range(rng.randint(1, 25))}
            asked = shape(64 * rng.randint(1, 40), 512 * rng.randint(1, 9))
            others = [shape(n, k) for n, k in tuned if (n, k) != (asked.n, asked.k)]
            inside = all(
                min(getattr(each, side) for each in others)
                <= getattr(asked, side)
                <= max(getattr(each, side) for each in others)
                for side in ("n", "k")
                if others
            )
            near = sorted(factor(asked, each) for each in others if factor(asked, each) <= REACH)
            found = shapes(*sorted(tuned)).nearest(asked)
            assert (found is not None) == bool(inside and near)
            if found:
                assert found[1] == near[0] == factor(asked, found[0])


class TestBound:
    BOUND = Bound("matmul f16 nt", 0.031, 1.75, 24, 512, 3, 1)

    def test_survives_being_written_and_read(self):
        assert Bound.from_json(self.BOUND.as_json()) == self.BOUND
        none = Bound("matmul f16 nt", None, 1.0, 0, 0, 0, 0)
        assert Bound.from_json(none.as_json()) == none

    @pytest.mark.parametrize(("regret", "holds"), [(0.0, True), (LIMIT, True), (0.0501, False), (None, False)])
    def test_holds_up_to_the_limit(self, regret, holds):
        assert Bound("c", regret, 2.0, 30, 90, 0, 0).holds is holds

    @pytest.mark.parametrize(
        "change",
        [
            {"class": 3}, {"regret": "0"}, {"regret": -0.1}, {"regret": float("nan")}, {"regret": True},
            {"reach": None}, {"reach": float("inf")}, {"shapes": 1.5}, {"problems": -1}, {"unmeasured": "2"},
        ],
    )  # fmt: skip
    def test_what_is_no_bound_is_refused(self, change):
        with pytest.raises((KeyError, TypeError, ValueError)):
            Bound.from_json({**self.BOUND.as_json(), **change})

    @pytest.mark.parametrize("field", list(BOUND.as_json()))
    def test_every_field_is_needed(self, field):
        raw = self.BOUND.as_json()
        del raw[field]
        with pytest.raises(KeyError):
            Bound.from_json(raw)
