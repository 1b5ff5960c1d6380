"""Covering sets: every value of every parameter, in few configs."""

from __future__ import annotations

from autotune.kernels import Route
from autotune.search import cover


class TestCover:
    ROUTES = tuple(Route.of("k", {"a": a, "b": b, "c": c}) for a in range(5) for b in range(4) for c in range(3))

    def test_every_value_of_every_parameter_occurs(self):
        found = cover.cover([self.ROUTES])
        assert {item for route in found for item in route.items} == {i for r in self.ROUTES for i in r.items}
        assert 5 <= len(found) <= 8

    def test_is_the_same_every_time(self):
        assert cover.cover([self.ROUTES]) == cover.cover([self.ROUTES])

    def test_earlier_sets_come_first(self):
        first = [route for route in self.ROUTES if route.config["a"] < 2]
        found = cover.cover([first, self.ROUTES])
        assert all(route in first for route in found[:4])
        assert {route.config["a"] for route in found} == set(range(5))

    def test_of_nothing_is_nothing(self):
        assert cover.cover([(), ()]) == []

    def test_a_kernel_without_parameters_is_one_route(self):
        assert cover.cover([(Route("upcast"),)]) == [Route("upcast")]
