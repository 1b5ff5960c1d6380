"""What came of trying a kernel: failures, a verdict for each kernel, and the outcome of them all."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field

from .. import kernels
from ..devices.bounds import UNIT_ROUNDOFF
from ..devices.cases import Case, Kind
from ..devices.proof import CHECK, Element, Proof
from ..errors import FAILED, OK, WRONG
from ..kernels import Route
from . import accuracy

REFUSED = "refused"
"""A failure that is MLX's own."""


@dataclass(frozen=True)
class Failure:
    """What went wrong on one case. ``kind`` is ``wrong``, or how it failed to run: raised, crashed, hung, memory; or
    ``refused``, where MLX does not compute what a composition is made of (``Proof.refused``)."""

    route: Route
    case: Case
    way: str
    kind: str
    detail: str
    element: Element | None = None

    def command(self, device: str, seed: int) -> str:
        """The command that repeats it."""
        words = ["autotune", "verify", "--device", device, "--route", str(self.route), "--case", str(self.case)]
        words += ["--seed", str(seed)]
        if self.way:
            words += ["--check"] if self.way == CHECK else ["--schedule", self.way]
        return shlex.join(words)


@dataclass
class Verdict:
    """One kernel on one device. ``worst`` is the largest error as a share of its bound, on ``worst_case``; ``promised``
    says whether the kernel is held to a bound of its own; ``failures`` are the first few of each route and kind."""

    kernel: str
    fingerprint: str
    promised: bool
    configs: set[Route] = field(default_factory=set)
    kinds: set[Kind] = field(default_factory=set)
    runs: int = 0
    worst: float = 0.0
    worst_case: str = ""
    failures: list[Failure] = field(default_factory=list)
    beyond: int = 0

    @property
    def wrong(self) -> list[Failure]:
        return [each for each in self.failures if each.kind == "wrong"]

    @property
    def refused(self) -> list[Failure]:
        """What MLX does not compute, called alone on the same operands: a routed call takes stock there."""
        return [each for each in self.failures if each.kind == REFUSED]

    @property
    def failed(self) -> list[Failure]:
        """What did not run to its end, and should have."""
        return [each for each in self.failures if each.kind not in ("wrong", REFUSED)]

    @property
    def said(self) -> str:
        """``right``, ``wrong``, ``failed``, ``refused`` where MLX refused all of it, or ``not run`` where no config of
        it is legal here."""
        if self.wrong or self.failed:
            return "wrong" if self.wrong else "failed"
        return "right" if self.runs > len(self.refused) else REFUSED if self.runs else "not run"


@dataclass
class Outcome:
    """What a verification found: a verdict for each kernel, by name."""

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """6 where a result is wrong, else 1 where something did not run, else 0."""
        said = {verdict.said for verdict in self.verdicts.values()}
        return WRONG if "wrong" in said else FAILED if "failed" in said else OK


def judged(route: Route, case: Case, proof: Proof) -> tuple[str, float]:
    """Why a run is wrong, or an empty text; and its worst error as a share of what is allowed.

    A composition beyond its elements' bound may still be as good as the sweep demands: its error, as a multiple of
    stock's, is then the share.
    """
    if proof.share <= 1:
        return "", proof.share
    if proof.finding or proof.element is None:
        return proof.finding or "no element to judge", float("inf")
    if proof.accuracy is not None:
        mine, stock = proof.accuracy
        factor = kernels.kernel(route.kernel).accuracy
        objection = accuracy.objection(mine, stock, case.problem.dtype, factor)
        limit = accuracy.SLACK * factor * max(stock.error, UNIT_ROUNDOFF[case.problem.dtype] / 2)
        return objection, mine.error / limit
    e = proof.element
    return f"element {list(e.index)} is {e.got:.9g}, not {e.expected:.9g} within {e.allowed:.3g}", e.share
