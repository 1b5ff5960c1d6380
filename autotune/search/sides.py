"""Which of MLX's two families of kernels a route takes for a quantized product: matrix-vector or matrix-matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .. import kernels, stock_rules
from ..kernels import Config, Route
from ..problem import Problem
from ..routing.table import ChipKey
from ..stock_rules import MATRIX


# What reaches the stock op in a composition: rows of x, N and K. The compositions' own modules do not say it: whatever
# stands in them counts for their fingerprints, and a word that only reports read would make measured routes stale.
def _same(problem: Problem, config: Config) -> tuple[int, int, int]:
    return problem.m, problem.n, problem.k


def _padded(problem: Problem, config: Config) -> tuple[int, int, int]:
    multiple = int(config["multiple"])
    return -(-problem.m // multiple) * multiple, problem.n, problem.k


def _piece(problem: Problem, config: Config) -> tuple[int, int, int]:
    """A whole piece: at least half of the rows go through such, and the rest, which may be on the other side, through
    one smaller call."""
    return int(config["rows"]), problem.n, problem.k


def _slice(problem: Problem, config: Config) -> tuple[int, int, int]:
    return problem.m, problem.n, problem.k // int(config["parts"])


def _folded(problem: Problem, config: Config) -> tuple[int, int, int]:
    parts = int(config["parts"])
    return problem.m * parts, problem.n * parts, problem.k // parts


_REACHES_STOCK: Mapping[str, Callable[[Problem, Config], tuple[int, int, int]]] = {
    "stock": _same,
    "upcast": _same,
    "pad": _padded,
    "chunk": _piece,
    "split_k": _slice,
    "fold_k": _folded,
}


def side(route: Route, problem: Problem, chip: ChipKey, mlx: str = "") -> str:
    """``vector``, ``matrix``, or empty where it cannot be told: the kind of kernel that a quantized product takes.

    Kernels of our own say it themselves. Compositions take the side of the stock call that they make, which follows
    from the rows that reach it and the limit that MLX ``mlx`` has compiled in (the newest known where it is empty);
    dequantized weights go to a dense product. A route that its kernel does not accept, such as one measured before the
    kernel's parameters changed, has no side.
    """
    if not kernels.accepts(route, problem):
        return ""
    if route.kernel == "dequantize":
        return MATRIX
    reaches = _REACHES_STOCK.get(route.kernel)
    if reaches is None:
        return kernels.kernel(route.kernel).side
    rows, n, k = reaches(problem, route.config)
    if chip.backend == "cuda":
        rows *= problem.batch
    return stock_rules.quantized_side(chip.backend, chip.architecture, rows, n, k, problem.layout == "nt", mlx)


def left_to_mlx(route: Route) -> bool:
    """Whether MLX gets the very rows of the call, so that its own limit decides."""
    return _REACHES_STOCK.get(route.kernel) is _same


def moved(problem: Problem, limit: int) -> list[Route]:
    """The compositions that take the kernel on the other side of MLX's own ``limit`` with the fewest rows too many or
    the fewest pieces, whether or not a sweep's candidate values have them."""
    if problem.m < limit:
        routes = [Route.of("pad", {"multiple": limit, "fill": fill}) for fill in ("zeros", "repeat")]
    elif limit > 1:
        pieces = -(-problem.m // (limit - 1))
        routes = [Route.of("chunk", {"rows": rows}) for rows in sorted({limit - 1, -(-problem.m // pieces)})]
    else:
        routes = []
    return [route for route in routes if kernels.accepts(route, problem)]
