"""Routes as text."""

from __future__ import annotations

import pytest

from autotune import kernels
from autotune.errors import UsageError
from autotune.kernels import Route
from autotune.problem import Problem


def test_a_route_reads_what_it_writes():
    for text in ("stock", "pad multiple=8 fill=zeros"):
        assert str(Route.parse(text)) == text
    assert Route.parse("pad multiple=8 fill=zeros").config == {"multiple": 8, "fill": "zeros"}


@pytest.mark.parametrize("digits", ["\u00b2", "\u0663", "-8", "8.0"])
def test_only_the_digits_0_to_9_make_a_number(digits):
    route = Route.parse(f"pad multiple={digits} fill=zeros")
    assert route.config["multiple"] == digits
    assert not kernels.accepts(route, Problem.parse("matmul M=3 N=64 K=64 f16 nt"))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "empty route"),
        ("pad multiple", "has 'multiple'"),
        ("pad multiple=", "has 'multiple='"),
        ("pad multiple=8 multiple=4 fill=zeros", "names a parameter twice: give each NAME=VALUE once"),
    ],
)
def test_other_texts_are_refused(text, part):
    with pytest.raises(UsageError, match=part):
        Route.parse(text)
