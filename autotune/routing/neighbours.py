"""Shapes that nobody measured: which tuned shape speaks for one, and where it may.

The rule is the nearest tuned (N, K) of the same class. How good that is, an export measures by leaving shapes out
(:mod:`autotune.search.generalize`) and writes into the table's header; a table routes a class beyond its tuned shapes
only where that bound is small enough. This module is the rule alone, which export, router and reports share.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Optional, Protocol, TypeVar

from ..problem import Family

LIMIT = 0.05
"""Largest regret (a ratio minus one) at which a class is routed beyond its tuned shapes."""
REACH = 2.0
"""Farthest neighbour that is ever asked, as a factor. Fixed before any data were seen: a reach that is picked because
it looks good makes its own bound too small."""


WRITES_WEIGHTS = ("dequantize", "upcast")
"""Kernels that write the weights, N K elements, to memory in another dtype. A first call at a new shape is not tried
out beforehand, and where the weights are larger than any that the tuned shape had they might not fit."""


class Sized(Protocol):
    """What has an N and a K: a family, or its size alone."""

    @property
    def n(self) -> int: ...

    @property
    def k(self) -> int: ...


class Size(NamedTuple):
    """N and K of a family whose class is known: ten thousand of them cost a tenth of as many families."""

    n: int
    k: int


Tuned = TypeVar("Tuned", bound=Sized)


@dataclass(frozen=True)
class Bound:
    """What leaving shapes out showed of one class (``class_``: a family's text without N and K).

    ``regret`` is how much longer a problem takes by its neighbour's route than by the best measured there, as a ratio
    minus one, at the 95 % quantile over left-out shapes that weigh the same, however many problems each has, and the
    next one; None where the data bound nothing, and for classes that take routes of searched kernels. It is a statement
    about one further shape before anyone picks the classes that pass, under the conditions that
    :mod:`autotune.search.generalize` names. It rests on ``shapes`` left-out shapes with ``problems`` problems that the
    rule takes off stock. ``unmeasured`` of them have no time for that route,
    which counts as an unbounded regret; on ``slower`` the route lost to stock. No neighbour was farther away than
    ``reach``, a factor, and none is asked that is.
    """

    class_: str
    regret: Optional[float]
    reach: float
    shapes: int
    problems: int
    unmeasured: int
    slower: int

    @property
    def holds(self) -> bool:
        """Whether the class is routed beyond its tuned shapes."""
        return self.regret is not None and self.regret <= LIMIT

    def as_json(self) -> dict[str, Any]:
        return {
            "class": self.class_,
            "regret": self.regret,
            "reach": self.reach,
            "shapes": self.shapes,
            "problems": self.problems,
            "unmeasured": self.unmeasured,
            "slower": self.slower,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Bound:
        """Raises ArithmeticError, KeyError, TypeError or ValueError for what :meth:`as_json` would not have written."""
        regret = raw["regret"]
        numbers = [raw["reach"]] + ([] if regret is None else [regret])
        counts = [raw[name] for name in ("shapes", "problems", "unmeasured", "slower")]
        if not isinstance(raw["class"], str):
            raise ValueError("a class is no text")
        if not all(type(each) in (int, float) and math.isfinite(each) and each >= 0 for each in numbers):
            raise ValueError("a bound is no number")
        if not all(type(each) is int and each >= 0 for each in counts):
            raise ValueError("a count is no number")
        return cls(raw["class"], None if regret is None else float(regret), float(raw["reach"]), *counts)


@dataclass(frozen=True)
class Neighbour:
    """A tuned family that speaks for another one ``factor`` away, and the bound under which it does."""

    family: Family
    factor: float
    bound: Bound


def class_of(text: str) -> str:
    """A family's or a problem's text without N and K (and M): shapes of different classes say nothing of each other."""
    return " ".join(word for word in text.split() if word[:2] not in ("M=", "N=", "K="))


def factor(a: Sized, b: Sized) -> float:
    """How far two shapes are apart: the larger of the factors between their N and between their K, 1 for the same.

    Factors, since what N and K decide goes by ratios: how many times the tiles of N fill the GPU's cores, how often a
    simdgroup walks along K. The larger one and not a sum: N and K do different things, and a shape with the right K
    does not make up for a wrong N. N K alone would call 1024 x 13824 and 13824 x 1024 the same.
    """
    return max(a.n / b.n, b.n / a.n, a.k / b.k, b.k / a.k)


def alignment(family: Sized) -> tuple[int, int]:
    """What N and K are multiples of, as far as MLX's kernels ask.

    Its Metal and CUDA kernels have other code for N that is no multiple of 8, 32 or 64 and K that is none of 64 or 512
    (mlx/backend/metal/quantized.cpp, matmul.cpp), so that 5120 says little of 5121.
    """
    return math.gcd(family.n, 64), math.gcd(family.k, 512)


def speaks(kernel: str, family: Family, tuned: Family) -> bool:
    """Whether a route of that kernel may pass from the tuned shape to the other one."""
    return kernel not in WRITES_WEIGHTS or family.n * family.k <= tuned.n * tuned.k


class Shapes(Generic[Tuned]):
    """The tuned shapes of one class, arranged for :meth:`nearest`."""

    def __init__(self, families: Iterable[Tuned]) -> None:
        alike: dict[tuple[int, int], list[Tuned]] = {}
        for family in families:
            alike.setdefault(alignment(family), []).append(family)
        self._alike = {key: _Box(sorted(each, key=lambda f: (f.n, f.k))) for key, each in alike.items()}

    def nearest(self, family: Sized, reach: float = REACH) -> Optional[tuple[Tuned, float]]:
        """The tuned shape that speaks for ``family``, with its factor; None where none may.

        It has the same alignment, is no more than ``reach`` away, and the shapes of that alignment surround this one:
        its N and its K lie between their smallest and largest. Of two that are as near, the one whose other side is
        nearer, then the smaller one. The family itself, where it is tuned, is left out of all of this.
        """
        box = self._alike.get(alignment(family))
        if box is None:
            return None
        own = any(each.k == family.k for each in box.of(family.n, family.n))
        if not (_surrounded(family.n, box.ns, own) and _surrounded(family.k, box.ks, own)):
            return None
        others = box.of(family.n / reach, family.n * reach)
        within = [
            (apart, each)
            for each in others
            if (apart := factor(family, each)) <= reach and (each.n != family.n or each.k != family.k)
        ]
        if not within:
            return None
        least = min(apart for apart, _ in within)
        near = [each for apart, each in within if apart == least]
        return min(near, key=lambda each: (_both(family, each), each.n, each.k)), least


class _Box(Generic[Tuned]):
    """Shapes of one alignment by N, with their N and their K in order."""

    def __init__(self, families: list[Tuned]) -> None:
        self.families = families
        self.ns = [each.n for each in families]
        self.ks = sorted(each.k for each in families)

    def of(self, low: float, high: float) -> list[Tuned]:
        """The shapes whose N lies in that range, ends included."""
        return self.families[bisect_left(self.ns, low) : bisect_right(self.ns, high)]


def _surrounded(value: int, ordered: list[int], own: bool) -> bool:
    """Whether there are values on both sides of this one, itself (``own``: it is among them) not counted."""
    below, above = bisect_right(ordered, value), len(ordered) - bisect_left(ordered, value)
    return min(below, above) > own


def _both(a: Sized, b: Sized) -> float:
    return max(a.n / b.n, b.n / a.n) * max(a.k / b.k, b.k / a.k)
