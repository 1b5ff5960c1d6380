"""The seam between deciding what to measure and measuring it.

Everything above this line of the house (search, reports, commands) sees a device as three questions about a route on an
open problem: is it right, how long does it take, did it survive. Tests answer them with a fake that takes no time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..errors import AutotuneError
from ..kernels import Route
from ..machine import Machine
from ..problem import Problem

LOADS = ("chained", "queued")
"""``chained``: each call needs the result of the one before, as in decoding. ``queued``: calls are independent."""


@dataclass(frozen=True)
class Accuracy:
    """How far a route's result is from a float64 reference.

    ``error`` is the Frobenius norm of the difference over that of the reference; ``worst`` the largest single
    difference over the reference's root mean square; ``apart`` the relative Frobenius distance from the stock op's
    result over all elements (the reference covers a sample of them), and ``stray`` the largest single distance from it
    over its root mean square. Infinite where an element is not finite.
    """

    error: float
    worst: float
    apart: float
    stray: float = 0.0


class RouteFailed(AutotuneError):
    """A route raised, crashed, hung or ran out of memory while it was measured; ``kind`` says which."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


class Session(Protocol):
    """One problem on one device, with its inputs in place."""

    def check(self, route: Route) -> Accuracy:
        """Runs the route once on fresh inputs and compares. Raises :class:`RouteFailed`."""

    def time(self, route: Route, calls: int) -> float:
        """Seconds that one evaluation of ``calls`` calls takes. Raises :class:`RouteFailed`."""

    def host(self, route: Route, calls: int) -> float:
        """Seconds that the program is busy with ``calls`` calls, independent ones: to build them and to hand them to
        the device, not to wait for it. 0 where that is not known. Raises :class:`RouteFailed`."""


class Device(Protocol):
    """Something that opens sessions."""

    machine: Machine

    def open(self, problem: Problem, seed: int, load: str) -> Session:
        """Makes the problem's inputs, random under ``seed``; closes the session before. Raises :class:`RouteFailed`."""

    def close(self) -> None:
        """Lets go of everything. Harmless if called twice."""
