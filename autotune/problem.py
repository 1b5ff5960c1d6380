"""What a problem is: one matrix product to compute, with a one-line text that people can read and type.

``quantized_matmul M=3 N=13824 K=5120 f16 affine-b4-g64 nt`` is a product of a 3x5120 float16 matrix with the
transpose of a 13824x5120 matrix that is stored in 4 bits, in groups of 64. The text is canonical: it is the key in
studies, result files, routing tables and ``--problem`` options.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from .errors import UsageError, unknown

OPS = ("matmul", "addmm", "quantized_matmul")
DTYPES = {"f32": 4, "f16": 2, "bf16": 2}
"""Tuned dtypes and the bytes of one element."""
_SPELLINGS = {"half": "f16", "float": "f32", "single": "f32"}
LAYOUTS = ("nn", "nt", "tn", "tt")
"""How A and B lie in memory: ``n`` row-major as the product needs it, ``t`` the transpose of a row-major matrix."""
EPILOGUES = ("row", "full")
"""What ``addmm`` adds: one row that is broadcast over M, or a whole MxN matrix."""

MODES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "affine": ((1, 2, 3, 4, 5, 6, 8), (32, 64, 128)),
    "mxfp4": ((4,), (32,)),
    "mxfp8": ((8,), (32,)),
    "nvfp4": ((4,), (16,)),
}
"""Quantization modes of MLX 0.32 with the bits and group sizes that each takes; the first of MLX's documentation's
table (``mx.quantize``). An older MLX may take fewer: then the stock op says so, and nothing is routed."""
DEFAULTS = {"affine": (4, 64), "mxfp4": (4, 32), "mxfp8": (8, 32), "nvfp4": (4, 16)}
"""Bits and group size that MLX assumes where a call names neither."""


@dataclass(frozen=True)
class Quantization:
    """How a weight matrix is stored: mode, bits per element, elements per group along the last axis."""

    mode: str
    bits: int
    group_size: int

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise unknown("quantization mode", self.mode, MODES)
        bits, groups = MODES[self.mode]
        if self.bits not in bits or self.group_size not in groups:
            raise UsageError(
                f"{self.mode} has no b{self.bits}-g{self.group_size}",
                f"bits {', '.join(map(str, bits))}; groups {', '.join(map(str, groups))}",
            )

    @property
    def has_biases(self) -> bool:
        """Only affine weights carry biases."""
        return self.mode == "affine"

    def __str__(self) -> str:
        return f"{self.mode}-b{self.bits}-g{self.group_size}"

    @classmethod
    @lru_cache(maxsize=256)
    def parse(cls, text: str) -> Quantization:
        match = re.fullmatch(r"([a-z0-9]+)-b(\d+)-g(\d+)", text)
        if not match:
            raise UsageError(f"quantization {text!r} is not MODE-bBITS-gGROUP", "for instance affine-b4-g64")
        return cls(match[1], int(match[2]), int(match[3]))


@dataclass(frozen=True, order=True)
class Family:
    """All problems that differ in M alone: the unit in which routes are looked up.

    ``op``, ``N``, ``K``, ``dtype`` and ``layout`` as in :class:`Problem`; ``quantization`` and ``epilogue`` are their
    texts or empty; ``batch`` is the number of independent products.
    """

    op: str
    n: int
    k: int
    dtype: str
    layout: str
    quantization: str = ""
    batch: int = 1
    epilogue: str = ""

    def __str__(self) -> str:
        return str(self.at(1)).replace(" M=1 ", " ")

    def at(self, m: int) -> Problem:
        quantization = Quantization.parse(self.quantization) if self.quantization else None
        return Problem(self.op, m, self.n, self.k, self.dtype, self.layout, quantization, self.batch, self.epilogue)


@dataclass(frozen=True)
class Problem:
    """One product: C (MxN) = A (MxK) times B (KxN), ``batch`` times over.

    ``m`` counts rows of A; leading axes of A are folded into it where B is shared. ``quantization`` says how B is
    stored and is absent for dense products. ``layout`` has two letters for A and B; a quantized B is ``t`` where the
    op's ``transpose`` is true. Raises :class:`UsageError` where the fields do not make a product.
    """

    op: str
    m: int
    n: int
    k: int
    dtype: str
    layout: str = "nt"
    quantization: Quantization | None = None
    batch: int = 1
    epilogue: str = ""

    def __post_init__(self) -> None:
        if self.op not in OPS:
            raise unknown("op", self.op, OPS)
        if self.dtype not in DTYPES:
            raise _unknown_dtype(self.dtype)
        if self.layout not in LAYOUTS:
            raise unknown("layout", self.layout, LAYOUTS)
        if min(self.m, self.n, self.k, self.batch) < 1:
            raise UsageError(f"{self.op} with an empty dimension is no problem to tune", "M, N, K and B start at 1")
        if (self.quantization is not None) != (self.op == "quantized_matmul"):
            raise UsageError(
                f"{self.op} {'needs a' if self.quantization is None else 'takes no'} quantization",
                "add one, such as affine-b4-g64" if self.quantization is None else "leave it out",
            )
        if (self.epilogue in EPILOGUES) != (self.op == "addmm") or (self.epilogue and self.op != "addmm"):
            raise UsageError(f"{self.op} with epilogue {self.epilogue!r}", "addmm takes row or full; others take none")
        if self.quantization:
            if self.layout[0] == "t":
                raise UsageError("a quantized product has no transposed A", "use nt or nn")
            grouped = self.k if self.layout == "nt" else self.n
            if grouped % self.quantization.group_size:
                axis = "K" if self.layout == "nt" else "N"
                raise UsageError(
                    f"{axis}={grouped} is no multiple of the group size {self.quantization.group_size}",
                    "MLX quantizes whole groups along the last axis of the stored matrix",
                )

    def __str__(self) -> str:
        parts = [self.op, f"M={self.m}", f"N={self.n}", f"K={self.k}"]
        if self.batch > 1:
            parts.append(f"B={self.batch}")
        parts.append(self.dtype)
        if self.quantization:
            parts.append(str(self.quantization))
        parts.append(self.layout)
        if self.epilogue:
            parts.append(self.epilogue)
        return " ".join(parts)

    @property
    def family(self) -> Family:
        quantization = str(self.quantization) if self.quantization else ""
        return Family(self.op, self.n, self.k, self.dtype, self.layout, quantization, self.batch, self.epilogue)

    @property
    def flops(self) -> int:
        """Multiplications and additions of the product alone."""
        return 2 * self.batch * self.m * self.n * self.k

    @property
    def weight_bytes(self) -> int:
        """Bytes of B as stored: packed weights, scales and biases, or dense elements."""
        if self.quantization is None:
            return self.batch * self.n * self.k * DTYPES[self.dtype]
        q = self.quantization
        groups = self.n * self.k // q.group_size
        scale = 2 * DTYPES[self.dtype] if q.has_biases else 1
        return self.batch * (self.n * self.k * q.bits // 8 + groups * scale)

    @property
    def bytes(self) -> int:
        """Least bytes moved: every input read once, the output written once."""
        element = DTYPES[self.dtype]
        addend = {"": 0, "row": self.n, "full": self.m * self.n}[self.epilogue]
        return self.weight_bytes + element * self.batch * (self.m * self.k + self.m * self.n + addend)

    def with_m(self, m: int) -> Problem:
        return replace(self, m=m)

    def with_layout(self, layout: str) -> Problem:
        return replace(self, layout=layout)

    @classmethod
    def parse(cls, text: str) -> Problem:
        """Reads the text that ``str`` writes; words may come in any order and case after the op.

        Raises :class:`UsageError` that names the word which is not understood, or which gives a field again.
        """
        words = text.split()
        if not words:
            raise UsageError("empty problem", _EXAMPLE)
        op = words[0].lower()
        fields: dict[str, Any] = {}
        if op not in OPS:
            raise unknown("op", words[0], OPS)
        for word in words[1:]:
            name, value = _field(word, text)
            if name in fields:
                raise UsageError(
                    f"problem {text!r} gives {name} twice, again as {word!r}", "give each of its words once"
                )
            fields[name] = value
        missing = [name for name in ("M", "N", "K", "dtype") if name not in fields]
        if missing:
            raise UsageError(f"problem {text!r} lacks {', '.join(missing)}", _EXAMPLE)
        return cls(
            op,
            fields["M"],
            fields["N"],
            fields["K"],
            fields["dtype"],
            fields.get("layout", "nt"),
            fields.get("quantization"),
            fields.get("B", 1),
            fields.get("epilogue", "row" if op == "addmm" else ""),
        )


def _field(word: str, text: str) -> tuple[str, Any]:
    """The field of a problem that a word of ``text`` gives, and its value. Raises :class:`UsageError`."""
    lower = word.lower()
    if lower[1:2] == "=" and lower[0] in "mnkb" and lower[2:].isdecimal():
        return lower[0].upper(), int(lower[2:])
    if lower in DTYPES:
        return "dtype", lower
    if lower in LAYOUTS:
        return "layout", lower
    if lower in EPILOGUES:
        return "epilogue", lower
    if "-b" in lower:
        return "quantization", Quantization.parse(lower)
    if lower in _SPELLINGS or re.fullmatch(r"(b?fp?|b?float|u?int|[ius])\d+", lower):
        raise _unknown_dtype(word)
    raise UsageError(f"{word!r} is not understood in problem {text!r}", _EXAMPLE)


def _unknown_dtype(word: str) -> UsageError:
    """The error for a dtype that is not tuned, with the one that is meant where it is written as elsewhere."""
    lower = word.lower()
    meant = _SPELLINGS.get(lower, re.sub(r"^(b?)(fp|float)", r"\1f", lower))
    known = f"known: {', '.join(DTYPES)}"
    return UsageError(f"unknown dtype {word!r}", f"did you mean {meant}? {known}" if meant in DTYPES else known)


_EXAMPLE = "for instance 'quantized_matmul M=3 N=13824 K=5120 f16 affine-b4-g64 nt' or 'matmul M=64 N=512 K=512 f16 nn'"
