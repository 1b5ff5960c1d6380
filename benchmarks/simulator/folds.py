"""Whether the general fit gains from sources that a constant was read from: leave-one-out over the fitted sources.

Held-out rows have no part in it. Each fitted source (or each thread, which may have several) is predicted in turn by
constants that were fitted to the others, with and without the sources of role ``read``; those are never predicted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

import fit
import rows
from rows import FIT, READ, Source

BY = ("source", "thread")


@dataclass(frozen=True)
class Fold:
    """How well what was left out is predicted where the fit takes the sources ``taken`` besides.

    ``cost`` is the fit's own: squares of log errors over ``fit.NOISE``, linear beyond ``fit.TURN``, mean over sources.
    ``errors`` are the absolute relative errors of all rows.
    """

    by: str
    taken: tuple[str, ...]
    cost: float
    errors: tuple[float, ...]


def folds(every: Sequence[Source]) -> list[Fold]:
    """All ways to take the read sources (none, each, all) by all ways to leave out."""
    read = [source.id for source in every if source.role == READ]
    chosen = [(), *((each,) for each in read), tuple(read)]
    return [_fold(every, by, taken) for by in BY for taken in dict.fromkeys(chosen)]


def _fold(every: Sequence[Source], by: str, taken: tuple[str, ...]) -> Fold:
    pool = [source for source in every if source.role == FIT or source.id in taken]
    costs, errors = [], []
    for left in (source for source in every if source.role == FIT):
        rest = [each for each in pool if (each.id != left.id if by == "source" else each.url != left.url)]
        constants = fit.fit(rest)
        logs = [math.log(rows.seconds(left, row, constants) / row.seconds) for row in left.rows]
        costs.append(mean(fit.cost(each / fit.NOISE) for each in logs))
        errors += [abs(math.exp(each) - 1) for each in logs]
    return Fold(by, taken, mean(costs), tuple(errors))
