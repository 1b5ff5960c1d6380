"""Whether a route's numbers are good enough to time it.

A route is compared with what the stock op itself achieves on the same inputs. The floor is the error of a result that
is computed exactly and rounded once: with unit roundoff u, a relative error spread evenly over [-u, u] within a binade
has a root mean square near u / 2 (Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed., section 2.1).
"""

from __future__ import annotations

from ..devices.base import Accuracy

UNIT_ROUNDOFF = {"f32": 2.0**-24, "f16": 2.0**-11, "bf16": 2.0**-8}
SLACK = 1.05
"""Two routes that round the same sums in another order differ by a few per cent in measured error."""


def objection(route: Accuracy, stock: Accuracy, dtype: str, factor: float) -> str:
    """Why the route must not be used, or an empty string.

    ``factor`` is the kernel's: the largest error as a multiple of stock's. Single elements may be off by twice that,
    since the largest of many errors scatters; and over all elements, of which the reference covers a sample only, the
    route may be no farther from stock than their errors together allow, as a whole and at any single element.
    """
    u = UNIT_ROUNDOFF[dtype]
    limits = {
        "error": (route.error, SLACK * factor * max(stock.error, u / 2)),
        "largest error": (route.worst, 2 * SLACK * factor * max(stock.worst, 4 * u)),
        "distance from stock": (route.apart, 2 * (stock.error + route.error) + u),
        "largest distance from stock": (route.stray, 2 * SLACK * (max(stock.worst, 4 * u) + max(route.worst, 4 * u))),
    }
    for what, (value, limit) in limits.items():
        if not value <= limit:
            return f"{what} {value:.2g} is above {limit:.2g} (stock's is {stock.error:.2g})"
    return ""
