"""Recorded spaces of a folder, for the benchmarks: whole ones alone."""

from __future__ import annotations

from pathlib import Path

from autotune import kernels
from autotune.errors import UsageError
from autotune.kernels import Route
from autotune.problem import Problem
from autotune.search import recorded, space
from autotune.search.recorded import Recorded


def paths(folder: Path) -> list[Path]:
    """Its files in order, none where there is no such folder. Raises :class:`UsageError` where it cannot be read."""
    try:
        return sorted(each for each in folder.iterdir() if each.name.endswith((".json", ".json.gz")))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"{folder} cannot be read ({error.strerror})", "name a folder of recorded spaces") from None


def read(path: Path) -> Recorded:
    """A space. Raises :class:`UsageError` for a file that is none, and where a kernel of our own has other legal
    configs for the problem than the file has: a search in a part of a space says nothing of the whole."""
    found = recorded.read(path)
    about = found.about
    if about.get("kernel_name") not in kernels.KERNELS or "problem" not in about:
        return found
    kernel = kernels.kernel(about["kernel_name"])
    problem = Problem.parse(about["problem"])
    legal = set(space.legal_routes(problem, about["backend"], [kernel.name], about["nax"]))
    legal = {route for route in legal if route.kernel == kernel.name}
    if legal != {Route.of(kernel.name, found.points.config(number)) for number in range(len(found.points))}:
        raise UsageError(
            f"{found.name}: the space of {kernel.name} has changed since, or is not whole", "record the problem again"
        )
    return found
