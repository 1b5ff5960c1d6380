"""A few configs of a kernel in which every value of every parameter occurs: the least that combinatorial testing asks
for."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from ..devices import cases
from ..devices.cases import Kind
from ..kernels import STOCK, Config, Kernel, Route
from . import space

CORNERS = ((3, 70, 261), (13, 130, 2070), (61, 520, 2070), (250, 1030, 4130), (13, 1030, 16500))
"""M, N and K where configs are enumerated, smallest first: a value is covered where it first becomes legal."""
MOST_ENUMERATED = 6000
"""Points of a space, or of a part of it drawn at random, among which covering configs are looked for."""


def configs(kernel: Kernel, backend: str, of: Kind | None = None) -> list[Route]:
    """Covering configs of a kernel, found on a float16 kind of each layout, or on the kind given, where most kinds that
    are asked for have none."""
    first = [k for k in cases.kinds(kernel.ops[:1]) if k.dtype == "f16" and k.batch == 1]
    shown = [of] if of else [k for k in first if k.quantization is None or str(k.quantization) == cases.USUAL]
    corners = CORNERS[2:3] if of else CORNERS
    return list(dict.fromkeys(route for kind in shown for route in cover(_corners(kernel, kind, backend, corners))))


def _corners(
    kernel: Kernel, kind: Kind, backend: str, corners: Sequence[tuple[int, int, int]]
) -> Iterator[Sequence[Route]]:
    """Legal configs of the kind at each corner in turn: all of them, or of a large space a random part (always the
    same) in which each value has its chance."""
    if kernel.name == STOCK.kernel:
        yield [STOCK]
        return
    for corner in corners:
        problem = kind.problem(*corner)
        if space.raw_size(kernel, backend) <= MOST_ENUMERATED:
            yield space.legal_set(kernel, problem, backend)
        else:
            # Candidates lie in the declared space, so legality alone is asked for: it is a third of the work.
            yield [route for route, config in _drawn(kernel, backend) if kernel.legal(problem, config)]


@lru_cache(maxsize=64)
def _drawn(kernel: Kernel, backend: str) -> tuple[tuple[Route, Config], ...]:
    """Points of a large space: as many for each value of each parameter, the others at random."""
    values, rng = space.candidates(kernel, backend), random.Random(0)
    found: dict[Route, None] = {}
    for number, choices in enumerate(values):
        for choice in choices:
            for _ in range(MOST_ENUMERATED // sum(map(len, values))):
                point = [rng.choice(each) for each in values]
                point[number] = choice
                found[Route.of(kernel.name, dict(zip(kernel.parameters, point)))] = None
    return tuple((route, route.config) for route in found)


def cover(sets: Iterable[Sequence[Route]]) -> list[Route]:
    """A few routes in which every value of every parameter occurs that occurs in any of the sets, from the first set in
    which it does.

    Greedy: the route with most values that are still missing comes next. The order of looking is shuffled, always in
    the same way, so that values meet in other pairs than the first of each list.
    """
    found: list[Route] = []
    for routes in sets:
        left = list(routes)
        random.Random(0).shuffle(left)
        missing = {item for route in left for item in route.items}.difference(*(route.items for route in found))
        if left and not found and not missing:
            found.append(left[0])
        while missing:
            best = max(left, key=lambda route: len(missing.intersection(route.items)))
            missing.difference_update(best.items)
            found.append(best)
    return found
