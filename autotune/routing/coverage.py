"""How much of a program is routed: its products, counted once each, by what this machine's tables say of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..kernels import STOCK
from ..problem import Family, Problem
from . import products, resolve
from .decision import Reason
from .products import Product
from .router import ROUTERS

_WORST_FIRST = ("untuned", "failed", "stock", "routed")


@dataclass(frozen=True)
class Coverage:
    """The products that a program has computed, each problem once, however many calls it had.

    ``routed``: a table has a route for it. ``stock``: a table has measured it and keeps it on MLX's own op.
    ``untuned``: no table has it at this M, or only by a route that is stale: ``autotune sweep`` is what is missing.
    ``failed``: its route failed in this process. A problem that ran on both kinds of device is where it is worse off.
    ``outside`` names the kinds of calls that autotune does not tune (vectors, other dtypes), with the number of
    different ones. Dense problems are written with layout ``nt``, since MLX does not tell Python which one it is.

    ``str`` gives :attr:`line` and below it the problems, those that differ in M alone together.
    """

    routed: tuple[Problem, ...]
    stock: tuple[Problem, ...]
    untuned: tuple[Problem, ...]
    failed: tuple[Problem, ...] = ()
    outside: tuple[tuple[str, int], ...] = ()

    @property
    def products(self) -> int:
        """How many different problems there were."""
        return len(self.routed) + len(self.stock) + len(self.untuned) + len(self.failed)

    @property
    def line(self) -> str:
        """The numbers, for people."""
        parts = [
            f"{len(self.routed)} routed",
            f"{len(self.stock)} on stock as the table says",
            f"{len(self.untuned)} not tuned",
        ]
        if self.failed:
            parts.append(f"{len(self.failed)} whose route failed")
        text = f"{self.products} different product{'' if self.products == 1 else 's'}: {', '.join(parts)}"
        return f"{text}; not tunable: {counted(self.outside)}" if self.outside else text

    def __str__(self) -> str:
        lines = [self.line]
        for name in ("routed", "stock", "untuned", "failed"):
            lines += [f"{name:8} {each}" for each in _by_family(getattr(self, name))]
        return "\n".join(lines)


def coverage() -> Coverage:
    """What this process has computed so far through the routed ops, and what the tables say of it now.

    Products are noted when the ops look up a shape for the first time, at no cost to later calls: those of compiled
    functions when they are traced; those that MLX computes by itself, in gradients and in its fused attention, never.
    What runs inside :func:`autotune.stock` counts as if it ran outside. One shape in float16 and bfloat16, or an
    ``addmm`` with addends of one row and of all rows, counts once, as first seen. At most 65536 products are kept.
    Takes some microseconds for each product. Raises nothing.
    """
    return of(list(products.SEEN), Counter(list(products.OUTSIDE.values())))


def of(seen: Iterable[Product], outside: Mapping[str, int]) -> Coverage:
    """The coverage of these products."""
    standings: dict[Problem, str] = {}
    for problem, gpu in seen:
        standing = resolve.safely(_standing, "untuned", problem, resolve.kind_of(gpu))
        before = standings.get(problem, standing)
        standings[problem] = min(standing, before, key=_WORST_FIRST.index)
    listed: dict[str, list[Problem]] = {name: [] for name in _WORST_FIRST}
    for problem in sorted(standings, key=lambda each: (each.family, each.m)):
        listed[standings[problem]].append(problem)
    most_first = sorted(outside.items(), key=lambda each: (-each[1], each[0]))
    return Coverage(**{name: tuple(each) for name, each in listed.items()}, outside=tuple(most_first))


def counted(reasons: Iterable[tuple[str, int]]) -> str:
    """Reasons with their numbers, for people: ``2 of vectors, 1 of int32``."""
    return ", ".join(f"{number} of {reason}" for reason, number in reasons)


def _standing(problem: Problem, kind: str) -> str:
    """Where a product stands by the tables, whether routing is on now or not."""
    taken = ROUTERS.of(kind).call(problem)
    if taken.route != STOCK:
        return "failed" if ROUTERS.failed(taken.problem.family, taken.route) else "routed"
    return "stock" if taken.followed or taken.reason is Reason.LAYOUTS else "untuned"


def _by_family(problems: Iterable[Problem]) -> list[str]:
    ms: dict[Family, list[int]] = {}
    for problem in problems:
        ms.setdefault(problem.family, []).append(problem.m)
    return [str(family.at(1)).replace(" M=1 ", f" M={','.join(map(str, of_m))} ") for family, of_m in ms.items()]
