"""The versions of MLX at which a rule changed.

Each constant is the first release that has the rule, found by comparing the files of the tags v0.29.0 to v0.32.1 and
of main at commit 846d1762 (22 August 2026), which names itself 0.32.2. Of 0.32.4 only what its wheel carries was read,
the sources of the kernels: it has a kernel more, ``steel_gemm_thin_nax``, and when it is taken is not known.
"""

from __future__ import annotations

import re

from ..errors import UsageError

Version = tuple[int, int, int]
PATTERN = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?(?:(?:a|b|rc)\d+)?(?:\.post\d+)?(?:\.dev\d+)?(?:\+[a-zA-Z0-9.]+)?")
"""Versions as Python packages have them; pre-releases, builds of a day and local builds count as the release."""

OLDEST: Version = (0, 29, 0)
NEWEST: Version = (0, 32, 2)
"""The newest version whose routing was read. A newer one is taken to route alike, but for :data:`BEYOND`."""

GEMV_SHORT_K: Version = (0, 29, 2)
"""gemv has tiles of its own for K up to 64, and for K of at least 16 outputs."""
NAX: Version = (0, 30, 0)
"""Kernels for the neural accelerators."""
MORE_MODES: Version = (0, 30, 3)
"""Kernels for mxfp8 and nvfp4; before, mxfp4 was the only mode beside affine."""
QVM_BY_GROUP: Version = (0, 30, 3)
"""The columns of a qvm threadgroup follow the group size; before, they were 64."""
NAX_SPLITK: Version = (0, 30, 4)
"""Split-K on the neural accelerators, for very large products only."""
NAX_PHONES: Version = (0, 30, 5)
"""A phone needs generation 18 for the neural accelerators."""
WIDE_SPLITK: Version = (0, 30, 5)
"""The split-K gate opens to larger products, and the partitions follow the tiles."""
NAX_LARGE: Version = (0, 31, 1)
"""Large GPUs get smaller NAX tiles."""
NAX_ROUTING: Version = (0, 31, 2)
"""NAX is decided before split-K, and NAX split-K serves all long K."""
QMM_SPLITK: Version = (0, 31, 2)
"""qmm_t_splitk."""
QMV_WIDE: Version = (0, 32, 0)
"""qmv_wide: several rows of x share one read of the weights."""
GEMV_WIDE: Version = (0, 32, 1)
"""gemv_wide, the same for dense weights."""
DOT_PRODUCT: Version = (0, 32, 1)
"""A kernel of its own for the product of two vectors."""
LIMITS_BY_GENERATION: Version = (0, 32, 1)
"""vector_limit has rows for M3 and M4, and for M5."""
QMV_FAST_BY_BITS: Version = (0, 32, 1)
"""The K that qmv_fast needs follows the bits; before, it was a multiple of 512."""
QMV_NARROW: Version = (0, 32, 1)
"""qmv_fast makes half as many outputs a simdgroup for nvfp4 on one architecture."""
SPLITK_WHOLE_TILES: Version = (0, 32, 1)
"""A partition of qmm_t_splitk is a multiple of 32 as well as of the group."""
QVM_SPLITK_ROUNDS_UP: Version = (0, 32, 1)
"""qvm_split_k launches a threadgroup for the last, incomplete block of columns too."""
QMM_NAX_SHORT: Version = (0, 32, 2)
"""qmm_t_nax has tiles of 32 rows for M up to 32."""
SPLITK_FLOAT32: Version = (0, 32, 4)
"""The partial tiles of qmm_t_splitk are float32; before, they had the dtype of x. 0.32.3 was not seen."""
ONE_BIT: Version = (0, 32, 4)
"""Affine weights of one bit. 0.32.3 was not seen."""

BEYOND: dict[str, Version] = {"float32 partial sums of qmm_splitk": SPLITK_FLOAT32, "one-bit weights": ONE_BIT}
"""What is known, and applied, of versions after :data:`NEWEST`: what their kernels' sources alone show."""


def parse(text: str) -> Version:
    """The version of ``"0.31.1"``, ``"0.32"`` (0.32.0) or ``"0.32.2.dev20260822"``. Raises :class:`UsageError` where
    it is none, or older than :data:`OLDEST`."""
    match = PATTERN.fullmatch(text)
    if not match:
        raise UsageError(f"{text!r} is no version of MLX", "for instance 0.32.1")
    version = (int(match[1]), int(match[2]), int(match[3] or 0))
    if version < OLDEST:
        raise UsageError(f"the rules of MLX {text} are not known", f"{show(OLDEST)} is the oldest that is")
    return version


def known(text: str) -> bool:
    """Whether :func:`parse` takes the text."""
    try:
        parse(text)
    except UsageError:
        return False
    return True


def standing_in(text: str) -> str:
    """The version whose routing answers for that of ``text``: itself, or the newest that is known. What is known of a
    newer one besides is in :func:`beyond`. Raises as :func:`parse`."""
    return show(min(parse(text), NEWEST))


def beyond(text: str) -> tuple[str, ...]:
    """What is applied to the version of ``text`` that the one standing in for it does not have. Raises as
    :func:`parse`."""
    version = parse(text)
    return tuple(what for what, since in BEYOND.items() if version >= since)


def said(text: str) -> str:
    """The version of ``text`` for people, with the one that stands in for it where its own rules were not read, and
    what is known of its own. Raises as :func:`parse`."""
    if parse(text) <= NEWEST:
        return text
    own = " and ".join(beyond(text))
    return f"{text}, by the rules of {show(NEWEST)}" + (f" with {show(max(BEYOND.values()))}'s {own}" if own else "")


def show(version: Version) -> str:
    return ".".join(map(str, version))
