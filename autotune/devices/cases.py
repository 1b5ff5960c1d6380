"""The cases on which kernels are proven: which problems, in which shapes, and how their arrays lie in memory.

A kind is a problem without its sizes. For each kind there is a fixed table of shapes where indexing goes wrong (single
elements, primes, tails, edges of tiles), and for each config, whose own tiles set further edges, shapes around each of
its values and every variant of the inputs. A case has a canonical text, which together with a seed repeats it exactly.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..errors import UsageError, unknown
from ..problem import DTYPES, EPILOGUES, LAYOUTS, MODES, Problem, Quantization

VARIANTS = {
    "plain": "contiguous arrays",
    "transposed": "x is stored by columns",
    "strided": "x is every second column of a wider array that is NaN elsewhere",
    "offset": "views into the middle of buffers that are NaN elsewhere, x at an odd element",
    "surrounded": "blocks of larger matrices that are NaN elsewhere, so that no row follows the one before it",
    "broadcast": "all rows of x are one row in memory, and so are those of a whole addend",
    "crossed": "b is stored in the other order than the layout says, which MLX does not tell",
    "special": "some rows of x hold an infinity or a NaN, and no other row may",
    "zeros": "rows of x and columns of b are zero",
    "subnormal": "half of x, or of the scales, are subnormal numbers of the dtype",
    "large": "float32 sums are in range, and their parts are beyond float16's",
}
"""How a case's inputs are made, and lie."""
STRICT = frozenset({"large"})
"""Variants that only kernels have to get right which promise float32 sums: stock and compositions of it do not."""

LIMITS = (6, 12, 18, 33)
"""Limits of M that MLX has compiled in for Apple GPUs (``get_qmv_batch_limit``): least, greatest, two between."""
SHAPES = (
    (1, 1, 1),
    (1, 37, 130),
    (7, 1, 64),
    (3, 40, 2),
    (2, 3, 257),
    (13, 61, 37),
    (5, 31, 101),
    (9, 2, 96),
    (4, 24, 127),
    (8, 64, 128),
    (6, 33, 513),
)
"""M, N and K: single elements, vectors, primes, K one more and one less than tiles, N smaller than any tile."""
FILLING = (257, 1031, 320)
"""More tiles than a GPU has cores; too slow for a processor that stands in for one."""
LEADS = ((2, 3), (3, 1, 2))
"""Leading axes of x where b is shared; they count as rows."""
FACTORS = ((1.0, 1.0), (0.5, -2.0), (1.0, 0.0), (-1.25, 0.75))
"""alpha and beta of ``addmm``, exact in float32. Where beta is 0 the addend is NaN: BLAS's rule is not to read it."""
LADDER_N = (7, 33, 70, 130, 260, 520, 1030)
LADDER_K = (37, 70, 130, 261, 520, 1030, 2070, 4130, 8330, 16500)
"""Sizes that are tried, smallest product first, until a config is legal."""


@dataclass(frozen=True)
class Kind:
    """All problems that differ in M, N and K alone; fields as in :class:`Problem`."""

    op: str
    dtype: str
    layout: str
    quantization: Quantization | None = None
    batch: int = 1
    epilogue: str = ""

    def problem(self, m: int, n: int, k: int) -> Problem:
        """The problem of these sizes, the quantized axis rounded up to whole groups."""
        if self.quantization is not None:
            group = self.quantization.group_size
            n, k = (n, _up(k, group)) if self.layout == "nt" else (_up(n, group), k)
        return Problem(self.op, m, n, k, self.dtype, self.layout, self.quantization, self.batch, self.epilogue)

    @classmethod
    def of(cls, problem: Problem) -> Kind:
        p = problem
        return cls(p.op, p.dtype, p.layout, p.quantization, p.batch, p.epilogue)

    def __str__(self) -> str:
        words = (self.op, f"B={self.batch}" if self.batch > 1 else "", self.dtype)
        return " ".join(filter(None, (*words, str(self.quantization or ""), self.layout, self.epilogue)))

    @property
    def usual(self) -> bool:
        """Whether it is what most programs compute: these kinds see every config, the others one each. ``addmm`` is
        what ``matmul`` is but for its end."""
        q = self.quantization
        return self.batch == 1 and self.layout == "nt" and not self.epilogue and (q is None or str(q) == USUAL)


USUAL = "affine-b4-g64"


@dataclass(frozen=True)
class Case:
    """One call: a problem, a variant of its inputs, leading axes of x (``problem.m`` is their product with the rows),
    and ``addmm``'s factors. ``str`` gives ``matmul M=6 N=33 K=70 f16 nt | offset lead=2x3``."""

    problem: Problem
    variant: str = "plain"
    lead: tuple[int, ...] = ()
    alpha: float = 1.0
    beta: float = 1.0

    def __str__(self) -> str:
        words = [self.variant]
        if self.lead:
            words.append("lead=" + "x".join(map(str, self.lead)))
        if (self.alpha, self.beta) != (1.0, 1.0):
            words += [f"alpha={self.alpha:g}", f"beta={self.beta:g}"]
        return f"{self.problem} | {' '.join(words)}"

    @classmethod
    def parse(cls, text: str) -> Case:
        """Reads what ``str`` writes. Raises :class:`UsageError`."""
        problem, bar, rest = text.partition("|")
        variant, *words = rest.split() if bar else ["plain"]
        if variant not in VARIANTS:
            raise unknown("variant", variant, VARIANTS)
        fields: dict[str, str] = {}
        for word in words:
            match = re.fullmatch(r"(lead)=(\d+(?:x\d+)*)|(alpha|beta)=(-?\d+(?:\.\d+)?)", word)
            if not match:
                raise UsageError(f"{word!r} is not understood in case {text!r}", _EXAMPLE)
            fields[match[1] or match[3]] = match[2] or match[4]
        made = cls(
            Problem.parse(problem),
            variant,
            tuple(int(axis) for axis in fields.get("lead", "").split("x") if axis),
            float(fields.get("alpha", 1)),
            float(fields.get("beta", 1)),
        )
        if made.lead and (made.problem.batch > 1 or made.problem.m % math.prod(made.lead)):
            raise UsageError(f"M={made.problem.m} has no leading axes {made.lead}", _EXAMPLE)
        return made


def kinds(ops: Sequence[str]) -> list[Kind]:
    """Every kind of these ops: dtypes, layouts, epilogues, modes, bits and groups, and a batch of dense products."""
    found = []
    for op in ops:
        if op == "quantized_matmul":
            modes = [Quantization(mode, bits, group) for mode, of in MODES.items() for bits in of[0] for group in of[1]]
            found += [Kind(op, dtype, layout, q) for q in modes for layout in ("nt", "nn") for dtype in DTYPES]
            continue
        epilogues = EPILOGUES if op == "addmm" else ("",)
        every = itertools.product(epilogues, LAYOUTS, DTYPES)
        found += [Kind(op, dtype, layout, None, 1, epilogue) for epilogue, layout, dtype in every]
        found += [Kind(op, dtype, layout, None, 3, epilogues[-1]) for layout in LAYOUTS for dtype in DTYPES]
    return found


def variants(kind: Kind, strict: bool) -> list[str]:
    """The variants that mean something for the kind; ``strict`` for kernels that promise float32 sums."""
    dropped = set() if strict else set(STRICT)
    if kind.quantization is not None:
        dropped.add("crossed")
    return [name for name in VARIANTS if name not in dropped]


def table(kind: Kind, strict: bool, filling: bool) -> list[Case]:
    """The cases that every kernel of the kind is tried on, whatever its config.

    ``strict`` as in :func:`variants`; kernels that promise nothing of their own (compositions of stock ops) are tried
    around MLX's limits instead of their config's. ``filling`` adds a product that fills a GPU.
    """
    shapes = [*SHAPES, *([FILLING] if filling else [])]
    if not strict:
        shapes += [(limit + step, 40, 64) for limit in LIMITS for step in (-1, 0, 1)]
    found = [Case(kind.problem(*shape)) for shape in shapes]
    if kind.batch == 1:
        found += [Case(kind.problem(2 * math.prod(lead), 19, 70), "plain", lead) for lead in LEADS]
    return list(dict.fromkeys(factored(found)))


def around(kind: Kind, values: Sequence[int], n: int, k: int, strict: bool, most: int) -> list[Case]:
    """A config's own cases at N and K, where it is legal: M around each of its ``values`` up to ``most``, then every
    variant of the inputs at an M that no tile divides."""
    edges = sorted({m for value in values if value <= most for m in (value - 1, value, value + 1) if m > 0})
    found = [Case(kind.problem(m, n, k)) for m in edges]
    m = next((m for m in (5, 7, 11) if all(m % value for value in values if value > 1)), 5)
    found += [Case(kind.problem(m, n, k), variant) for variant in variants(kind, strict) if variant != "plain"]
    return list(dict.fromkeys(factored(found)))


def factored(cases: Sequence[Case]) -> Iterator[Case]:
    """The cases with ``addmm``'s factors dealt to them in turn; others as they are."""
    for number, case in enumerate(cases):
        if case.problem.op != "addmm":
            yield case
        else:
            yield Case(case.problem, case.variant, case.lead, *FACTORS[number % len(FACTORS)])


def _up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


_EXAMPLE = "for instance 'matmul M=6 N=33 K=70 f16 nt | offset lead=2x3'"
