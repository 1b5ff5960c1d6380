"""A program's own calls as a session: what its check says of results that are not stock's."""

from __future__ import annotations

import math

import mlx.core as mx
import pytest

from autotune.devices.chain import ROUTED, ChainSession
from autotune.problem import Problem

PRODUCTS = (Problem.parse("matmul M=3 N=32 K=16 f32 nt"), Problem.parse("matmul M=3 N=8 K=32 f32 nt"))


@pytest.fixture
def session():
    return ChainSession(PRODUCTS, cache_bytes=0)


def last(session, op):
    """Puts ``op`` in the place of the chain's last routed product."""
    session._ops[ROUTED][-1] = lambda a, b, *, stream: op(mx.matmul(a, b))


def test_the_same_result(session):
    last(session, lambda out: out)
    assert session.check(ROUTED).apart == 0


def test_half_of_it(session):
    last(session, lambda out: out / 2)
    assert session.check(ROUTED).apart == pytest.approx(0.5)


@pytest.mark.parametrize(
    "op",
    [
        lambda out: mx.where(mx.arange(8) == 7, math.nan, out),
        lambda out: mx.where(mx.arange(8) == 7, math.inf, out),
        lambda out: out[:, :1],
        lambda out: out.astype(mx.float16),
    ],
    ids=["not a number", "infinite", "another shape", "another dtype"],
)
def test_what_cannot_be_compared_is_infinitely_far(session, op):
    last(session, op)
    assert math.isinf(session.check(ROUTED).apart)


@pytest.mark.parametrize("column", [0, 5])
def test_a_column_that_is_forgotten_strays(session, column):
    """The first one too, which operands for a timing make zero."""
    last(session, lambda out: mx.where(mx.arange(8) == column, 0, out))
    assert session.check(ROUTED).stray > 0.3
