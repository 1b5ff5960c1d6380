"""One route on one case, judged element by element against float64, in this process.

A kernel that says what it rounds (``Kernel.rounded``) is held to the bound that follows from it. Stock and compositions
of stock ops promise nothing: an element of theirs is right where a kernel that rounds operands and partial sums to the
dtype would be right, or where it equals stock's; beyond that, their errors are compared with stock's as a whole, by the
rule of the sweep, which the caller applies to ``Proof.accuracy``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import mlx.core as mx
import numpy as np

from .. import kernels
from ..kernels import STOCK, Kernel, Op, Route
from ..kernels.family import Family
from ..kernels.program import DTYPES
from .base import Accuracy
from .bounds import ANYTHING, bound, shares
from .cases import Case
from .reference import Doubles
from .specimens import Specimen, doubles, specimen

CHECK = "check"
"""The way of the MSL host that finds races and accesses out of bounds, whatever the schedule."""
WAYS = ("in-order", "reverse", "random", CHECK)
"""How the MSL host can run a kernel: schedules of its threads, or with every access checked."""


@dataclass(frozen=True)
class Element:
    """The worst element of a result: where, what the reference is, what came out, and the error that is allowed.
    ``share`` is the error over what is allowed, infinite where one of them is not finite and the other is."""

    index: tuple[int, ...]
    expected: float
    got: float
    allowed: float
    share: float


@dataclass(frozen=True)
class Proof:
    """What a run showed. ``finding`` says what is wrong besides the numbers (a shape, a race); ``accuracy`` is filled
    for kernels without a promise whose elements leave their bound: the route's and stock's. ``refused`` is what MLX
    raised where it does not compute a composition's own building block on these operands."""

    element: Element | None = None
    finding: str = ""
    accuracy: tuple[Accuracy, Accuracy] | None = None
    refused: str = ""

    def as_json(self) -> dict[str, Any]:
        """For :meth:`of_json`, in Python's dialect of JSON, which has infinities."""
        return asdict(self)

    @classmethod
    def of_json(cls, raw: dict[str, Any]) -> Proof:
        """Reads what :meth:`as_json` gave, through JSON."""
        element, pair = raw["element"], raw["accuracy"]
        return cls(
            Element(**{**element, "index": tuple(element["index"])}) if element else None,
            raw["finding"],
            (Accuracy(**pair[0]), Accuracy(**pair[1])) if pair else None,
            raw["refused"],
        )

    @property
    def share(self) -> float:
        """Worst error as a share of what is allowed; infinite for what is wrong besides."""
        return float("inf") if self.finding or self.element is None else self.element.share


def promise(kernel: Kernel) -> tuple[str, ...] | None:
    """What a kernel rounds to the dtype besides its result, or None if it promises nothing of its own."""
    rounded: tuple[str, ...] | None = getattr(kernel, "rounded", () if isinstance(kernel, Family) else None)
    return rounded


def prove(route: Route, case: Case, seed: int, way: str = "") -> Proof:
    """Runs the route on the case's inputs and judges what comes out.

    ``way`` runs Metal kernels on the MSL host: one of ``WAYS``, or ``random:SEED``. Raises whatever the route raises,
    what a compiler says included, but for what MLX refuses (:func:`_refusal`).
    """
    made, rounded = specimen(case, seed), promise(kernels.kernel(route.kernel))
    try:
        with _host(way, seed):
            out = _run(kernels.build(route, case.problem), case, made)
    except Exception as error:
        finding = _finding(error)
        refused = "" if finding else _refusal(route, made, error)
        if not finding and not refused:
            raise
        return Proof(finding=finding, refused=refused)
    if out.shape != made.reference.shape or out.dtype != DTYPES[case.problem.dtype]:
        return Proof(finding=f"the result is {out.dtype} {out.shape}, not {case.problem.dtype} {made.reference.shape}")
    return _judged(route, case, seed, made, doubles(out), rounded)


def _judged(
    route: Route, case: Case, seed: int, made: Specimen, out: Doubles, rounded: tuple[str, ...] | None
) -> Proof:
    p = case.problem
    of = ANYTHING if rounded is None else rounded
    allowed = bound(p, made.reference, made.magnitudes, of, case.alpha, case.beta)
    share = shares(out, made.reference, allowed, p)
    if rounded is not None or route == STOCK:
        return Proof(_worst(share, out, made.reference, allowed))
    stock = _stock(case, seed)
    share = np.where((out == stock) | (np.isnan(out) & np.isnan(stock)), 0.0, share)
    worst = _worst(share, out, made.reference, allowed)
    if worst.share <= 1:
        return Proof(worst)
    if np.isfinite(out[np.isfinite(made.reference) & np.isfinite(stock)]).all():
        return Proof(worst, accuracy=_accuracies(out, stock, made.reference))
    return Proof(worst)


def _worst(share: Doubles, out: Doubles, reference: Doubles, allowed: Doubles) -> Element:
    at = np.unravel_index(int(np.argmax(share)), share.shape)
    whole = np.broadcast_to(allowed, share.shape)
    index = tuple(int(axis) for axis in at)
    return Element(index, float(reference[at]), float(out[at]), float(whole[at]), float(share[at]))


def _accuracies(out: Doubles, stock: Doubles, reference: Doubles) -> tuple[Accuracy, Accuracy]:
    """The route's and stock's, over the elements where the reference and stock are finite."""
    use = np.isfinite(reference) & np.isfinite(stock)
    seen, theirs, exact = out[use], stock[use], reference[use]
    norm = float(np.linalg.norm(exact)) or 1.0
    rms = norm / max(exact.size, 1) ** 0.5

    def of(values: Doubles) -> Accuracy:
        error, apart = np.abs(values - exact), np.abs(values - theirs)
        scale = float(np.linalg.norm(theirs)) or 1.0
        return Accuracy(
            float(np.linalg.norm(error)) / norm,
            float(error.max(initial=0.0)) / rms,
            float(np.linalg.norm(apart)) / scale,
            float(apart.max(initial=0.0)) / (scale / max(exact.size, 1) ** 0.5),
        )

    return of(seen), of(theirs)


@lru_cache(maxsize=64)
def _stock(case: Case, seed: int) -> Doubles:
    return doubles(_run(kernels.build(STOCK, case.problem), case, specimen(case, seed)))


def _run(op: Op, case: Case, made: Specimen) -> mx.array:
    """Runs with MLX's buffer cache full of NaNs of the output's size: an element that is not written shows."""
    dtype = DTYPES[case.problem.dtype]
    poison = [mx.full(made.reference.shape, float("nan"), dtype) for _ in range(3)]
    mx.eval(poison)
    del poison
    out: mx.array = op(*made.arguments, stream=None)
    mx.eval(out)
    return out


@contextlib.contextmanager
def _host(way: str, seed: int) -> Iterator[None]:
    """Sends launches to the MSL host while it is open, or leaves them where they go if ``way`` is empty."""
    if not way:
        yield
        return
    from ..kernels import launch
    from .msl_host.host import MslHost
    from .msl_host.native import Options, Schedule
    from .msl_host.runner import Runner

    order, _, given = way.partition(":")
    schedule: Any = Schedule("in-order" if order == CHECK else order, int(given or seed))  # type: ignore[arg-type]
    # One thread: a verification runs in as many processes as there are processors.
    with launch.through(Runner(MslHost(Options(schedule, check=order == CHECK, threads=1)))):
        yield


def _dequantize(
    x: mx.array, w: mx.array, scales: mx.array, biases: Any, transpose: bool, group_size: int, bits: int, mode: str
) -> mx.array:
    return mx.dequantize(w, scales, biases, group_size, bits, mode, dtype=x.dtype)


_BLOCKS: dict[str, Op] = {"dequantize": _dequantize}
"""The op of MLX's that a composition is made of besides the one that it stands for, called with the op's arguments."""


def _refusal(route: Route, made: Specimen, error: Exception) -> str:
    """MLX's words, where the building block of a composition raises this very error on the same operands when it is
    called alone: a limit of MLX's and no fault of the kernel. Empty for everything else."""
    block = _BLOCKS.get(route.kernel)
    if block is None or not isinstance(error, ValueError):  # MLX's type for arguments that it does not take
        return ""
    try:
        mx.eval(block(*made.arguments))
    except ValueError as alone:
        if str(alone) == str(error):
            return f"ValueError: {error} (so does mx.{route.kernel} alone)"
    return ""


REFUSALS = ("source", "compile", "lint")
"""Kinds of the MSL host's errors that are a compiler's: the kernel did not run, so nothing is known to be wrong."""


def _finding(error: Exception) -> str:
    """What the MSL host found wrong with a kernel that ran; empty for any other error."""
    kind, lines = getattr(error, "kind", ""), getattr(error, "lines", None)
    if lines is None or not isinstance(kind, str) or kind in REFUSALS:
        return ""
    return str(error)
