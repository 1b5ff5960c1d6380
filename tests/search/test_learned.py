import math

from autotune.kernels import Route
from autotune.problem import Problem
from autotune.search.learned import Learned, coordinates
from autotune.search.portfolio import FITTED


def problem(m, n=1024, bits=4):
    return Problem.parse(f"quantized_matmul M={m} N={n} K=1024 f16 affine-b{bits}-g64 nt")


def pads(count):
    return [(Route.of("pad", {"multiple": number, "fill": "zeros"}), 1.0 + number) for number in range(count)]


def test_coordinates_differ_by_octaves():
    assert math.dist(coordinates(problem(4)), coordinates(problem(8))) == 1 / 8
    assert math.dist(coordinates(problem(4)), coordinates(problem(4, n=4096))) == 2 / 8


def test_nothing_is_known_at_first_nor_from_the_problem_itself():
    learned = Learned()
    assert learned.known(problem(4)) == {}
    learned.keep(problem(4), pads(3))
    assert learned.known(problem(4)) == {}


def test_the_nearest_come_first_and_other_kinds_never():
    learned = Learned()
    for each in (problem(64), problem(5), problem(4, bits=8)):
        learned.keep(each, pads(2))
    found = learned.known(problem(4))
    assert list(found) == ["pad"]
    assert [known.problem for known in found["pad"]] == [coordinates(problem(5))] * 2 + [coordinates(problem(64))] * 2
    assert found["pad"][0].config == {"multiple": 0, "fill": "zeros"}


def test_of_many_the_good_and_the_bad_are_kept():
    learned = Learned()
    for m in (5, 6, 7, 8):
        learned.keep(problem(m), [*pads(500), (Route.of("pad", {"multiple": 999, "fill": "zeros"}), math.inf)])
    found = learned.known(problem(4))["pad"]
    assert len(found) <= FITTED
    assert {known.problem for known in found} == {coordinates(problem(m)) for m in (5, 6, 7)}
    costs = [known.cost for known in found if known.problem == coordinates(problem(5))]
    assert costs[0] == 1.0
    assert costs[-1] > 450


def test_later_costs_replace_earlier_ones():
    learned = Learned()
    learned.keep(problem(5), pads(3))
    learned.keep(problem(5), pads(1))
    assert len(learned.known(problem(4))["pad"]) == 1
