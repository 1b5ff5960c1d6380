"""How fresh a route's evidence is, graded for each route by itself.

A file as a whole is never thrown away for one stale route: another kernel's change, or a patch of MLX, says nothing
against the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

from .. import kernels
from ..machine import mlx_version
from .table import Row


@dataclass(frozen=True)
class Grade:
    """``valid``, ``recheck`` (another MLX patch: usable, worth a look) or ``stale`` (not used), and why."""

    level: str
    reason: str = ""

    @property
    def usable(self) -> bool:
        return self.level != "stale"


VALID = Grade("valid")


def same_minor(one: str, other: str) -> bool:
    """Whether two versions of MLX are the same but for the patch."""
    return one.split(".")[:2] == other.split(".")[:2]


def grade(row: Row, mlx: str | None = None) -> Grade:
    """Grades a row against the kernels of this code and the MLX that is installed (or ``mlx``, if given).

    The kernel's fingerprint must agree. Another patch of the same MLX minor version keeps the route and advises a
    re-check; another minor version may have other kernels under the same names, and makes it stale.
    """
    found = kernels.KERNELS.get(row.route.kernel)
    if found is None:
        return Grade("stale", f"kernel {row.route.kernel} is gone")
    if kernels.fingerprint.of(found) != row.kernel:
        return Grade("stale", f"kernel {row.route.kernel} changed since it was measured")
    ours = mlx or mlx_version()
    if row.mlx == ours:
        return VALID
    if same_minor(row.mlx, ours):
        return Grade("recheck", f"measured with MLX {row.mlx}, this is {ours}")
    return Grade("stale", f"measured with MLX {row.mlx}, this is {ours}")
