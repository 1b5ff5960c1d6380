"""Dense tiled matrix product, with ``addmm`` as its epilogue: tiles of A and B in threadgroup memory, split-K.

Why it pays: MLX has one such kernel with a handful of tile shapes, picked by rules on the chip's class and M * N, and a
split-K variant behind compiled-in gates (ml-explore/mlx #3422 and #3087 list where those were wrong). Here every choice
is a parameter: small tiles for small M and N, more slices of K where tiles are too few to fill the GPU, wide ones else.

Cost model: ceil(M / bm) ceil(N / bn) split_k threadgroups; each reads K (bm + bn) elements and does bm bn K
multiplications; split_k > 1 adds split_k M N float32 numbers, written and read, and a launch.

Parameters: ``bm``, ``bn``, ``bk``, the tiles; ``wm``, ``wn`` and ``wk``, the simdgroups of a threadgroup along M, N
and K, where those along K add up in threadgroup memory in the same launch; ``split_k``, the threadgroups that share K,
whose float32 results a second launch adds up; ``swizzle``, rows of tiles that are walked together, for the cache;
``stages``, 2 for two sets of tiles, so that the loads of one are under way while the other is multiplied.

Serves all layouts, slices and broadcasts of A, B and C with one program: the kernel sees strides, Python does not.
Leading axes of an A with shared B are rows whatever their strides; where these are not one stride, rows are found by
division. That needs no copy and no op to ask for one, which would cost every call (about a microsecond) for the sake of
the few that need it.

Source of the idea: MLX's ``steel`` kernels (tiles, swizzle, split-K), CUTLASS (threadgroup, simdgroup and fragment
tiles, sliced K), and the parameters of CLBlast's GEMM.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Optional

import mlx.core as mx

from ..problem import DTYPES as ITEM_BYTES
from ..problem import Problem
from . import program
from .base import Config, Parameter
from .family import LANES, THREADGROUP_BYTES, THREADS, TYPES, Family, tiles
from .launch import Shape, Start, Starts

FRAGMENT = 8
"""Side of Metal's simdgroup matrices."""
MOST_FRAGMENTS = 32
"""Fragments of results that a simdgroup may hold, each of which takes two registers of every lane. MLX's largest tile
has as many."""
LEAST_FRAGMENTS = 4
"""Fewest fragments of a simdgroup that are worth measuring: with one or two, an operand is loaded for each or every
other product."""
SMALL_TILE = 512
"""... except in tiles of no more results than this; MLX's split-K kernel has 16 x 16 for four simdgroups."""
MOST_SHARED = 1024
"""Results of a threadgroup beyond which its simdgroups have enough of them and need not share K."""
MOST_REGISTERS = 128
"""Registers of 32 bits for what a thread multiplies and loads. An Apple GPU's thread is assumed to have 128 before
fewer simdgroups fit on a core, and 256 before registers spill to memory; addresses need some too."""
MOST_SPLIT_GROUPS = 1024
"""Threadgroups beyond which K is not split: more than ten for each core of the largest Apple GPU (80), none idle."""
LEAST_SLICE = 64
"""Shortest slice of K worth a threadgroup of its own."""


Constraint = tuple[tuple[str, ...], Callable[..., Any]]
"""See :meth:`autotune.kernels.base.Kernel.constraints`."""


class Gemm(Family):
    name = "gemm"
    summary = "dense tiled kernel with free tile sizes, split-K and the addmm epilogue"
    ops = ("matmul", "addmm")
    side = "matrix"
    offered = ("metal",)
    texts = ("tile", "reduce", "gemm")
    parameters = {
        "bm": Parameter(8, 256),
        "bn": Parameter(8, 256),
        "bk": Parameter(8, 128),
        "wm": Parameter(1, 8),
        "wn": Parameter(1, 8),
        "wk": Parameter(1, 8),
        "split_k": Parameter(1, 64),
        "swizzle": Parameter(1, 16),
        "stages": Parameter(1, 2),
    }

    def legal(self, problem: Problem, config: Config) -> bool:
        return (
            tiles_fit(config)
            and registers(config, ITEM_BYTES[problem.dtype]) <= MOST_REGISTERS
            and self.threadgroup_bytes(config, ITEM_BYTES[problem.dtype]) <= THREADGROUP_BYTES
            and well_shared(config)
            and worth_trying(problem, config)
        )

    def constraints(self, problem: Problem) -> Iterable[Constraint]:
        item = ITEM_BYTES[problem.dtype]
        tile = ("bm", "bn", "bk", "wm", "wn", "wk")
        return [*constraints(problem), (tile, lambda *sizes: _registers(item, *sizes) <= MOST_REGISTERS)]

    def threadgroup_bytes(self, config: Config, item_bytes: int = 4) -> int:
        """Threadgroup memory that a config takes for elements of that size: a tile may lie either way in it."""
        bm, bn, bk = (int(config[name]) for name in ("bm", "bn", "bk"))
        operands = sum(
            max(tile_bytes(rows, columns, item_bytes), tile_bytes(columns, rows, item_bytes))
            for rows, columns in ((bm, bk), (bk, bn))
        )
        return max(int(config["stages"]) * operands, spill_bytes(config))

    def dense(self, config: Config, dtype: mx.Dtype, a: Shape, b: Shape, c: Optional[Shape]) -> Starts:
        bm, bn, wm, wn, wk = (int(config[name]) for name in ("bm", "bn", "wm", "wn", "wk"))
        n, k, batch = b[-1], a[-1], math.prod(b[:-2])
        rows, split, simdgroups = math.prod(a[:-1]), int(config["split_k"]), wm * wn * wk
        m, shape = rows // batch, (*a[:-1], n)
        made, sizes = _program(config, dtype, c is not None), (m, n, k, batch, split, int(config["swizzle"]))
        grid = (LANES * tiles(n, bn), simdgroups * tiles(m, bm), batch * split)
        return in_slices(split, made, sizes, grid, simdgroups, rows, shape, dtype, c is not None)


def in_slices(
    split: int,
    made: program.Program,
    sizes: tuple[int, ...],
    grid: program.Grid,
    simdgroups: int,
    rows: int,
    shape: Shape,
    dtype: mx.Dtype,
    added: bool,
) -> Starts:
    """The launches of a tiled program that gives a result of that shape (..., N), of ``rows`` rows in all, and dtype:
    itself or, with K in several slices, their float32 sums and a reduction. ``added`` is as for :func:`reduction`."""
    threadgroup = (LANES, simdgroups, 1)
    if split == 1:
        return Start(made, sizes, grid, threadgroup, shape, dtype), None
    partials = Start(made, sizes, grid, threadgroup, (split, rows, shape[-1]), mx.float32)
    return partials, reduction(split, rows, shape, dtype, added)


def reduction(split: int, rows: int, shape: Shape, dtype: mx.Dtype, added: bool) -> Start:
    """The sum over the first axis of (split, rows, N) float32 partial results, as an array of that shape (..., N) and
    dtype. ``added`` says whether factors and the c of ``addmm`` come with them."""
    constants = (("T", TYPES[dtype]), ("EPILOGUE", int(added)))
    inputs = ("sizes", "partials", *(("factors", "c") if added else ()))
    made = program.program(("reduce",), constants, inputs, ("y",), contiguous=False)
    return Start(made, (rows, shape[-1], split), (shape[-1], rows, 1), (LANES, 8, 1), shape, dtype)


def _program(config: Config, dtype: mx.Dtype, added: bool) -> program.Program:
    """``swizzle`` is read at run time, and of ``split_k`` only matters whether there are partial results, which leave
    the epilogue to the reduction: configs that differ in these share a compiled kernel."""
    partials = int(int(config["split_k"]) > 1)
    epilogue = int(added and not partials)
    constants = (
        ("T", TYPES[dtype]),
        *((name.upper(), value) for name, value in config.items() if name not in ("split_k", "swizzle")),
        ("PARTIALS", partials),
        ("EPILOGUE", epilogue),
    )
    inputs = ("sizes", "a", "b", *(("factors", "c") if epilogue else ()))
    return program.program(Gemm.texts, constants, inputs, ("y",), contiguous=False)


def tiles_fit(config: Config) -> bool:
    """Whether tiles divide into fragments, fragments over simdgroups, and loads over threads."""
    bm, bn, bk, wm, wn, wk = (int(config[name]) for name in ("bm", "bn", "bk", "wm", "wn", "wk"))
    threads = LANES * wm * wn * wk
    return (
        bm % (FRAGMENT * wm) == 0
        and bn % (FRAGMENT * wn) == 0
        and bk % (FRAGMENT * wk) == 0
        and (bm // wm) * (bn // wn) <= MOST_FRAGMENTS * FRAGMENT**2
        and threads <= THREADS
        and bm * bk % threads == 0
        and bk * bn % threads == 0
    )


def registers(config: Config, item_bytes: int) -> int:
    """About how many registers of 32 bits a thread needs at once: for results, fragments of operands, and its elements
    of the next tiles."""
    return int(_registers(item_bytes, *(int(config[name]) for name in ("bm", "bn", "bk", "wm", "wn", "wk"))))


def _registers(item_bytes: int, bm: Any, bn: Any, bk: Any, wm: Any, wn: Any, wk: Any) -> Any:
    down, across = bm // wm // FRAGMENT, bn // wn // FRAGMENT
    elements = 2 * (down + across) + (bm + bn) * bk // (LANES * wm * wn * wk)
    return 2 * down * across + -(-elements * item_bytes // 4)


def worth_trying(problem: Problem, config: Config) -> bool:
    """Whether nothing about the config is absurd for the problem: tiles more than half of which would lie beyond the
    matrix, slices of K too short or too many, an order of tiles where there are few to order."""
    bm, bn, bk, split, swizzle = (int(config[name]) for name in ("bm", "bn", "bk", "split_k", "swizzle"))
    along_m, along_n = tiles(problem.m, bm), tiles(problem.n, bn)
    return (
        (bm == FRAGMENT or bm < 2 * problem.m)
        and (bn == FRAGMENT or bn < 2 * problem.n)
        and (bk == FRAGMENT or bk < 2 * problem.k)
        and (split == 1 or problem.k >= split * max(bk, LEAST_SLICE))
        and (split == 1 or along_m * along_n * problem.batch * split <= MOST_SPLIT_GROUPS)
        and (swizzle == 1 or (split == 1 and swizzle <= along_m and along_n > 1))
    )


def well_shared(config: Config) -> bool:
    """Whether each simdgroup has enough to do: operands are loaded once for several fragments of results, except in
    small tiles, which have few; and K is shared only there."""
    bm, bn, wm, wn = (int(config[name]) for name in ("bm", "bn", "wm", "wn"))
    fragments = (bm // wm) * (bn // wn) // FRAGMENT**2
    return (fragments >= LEAST_FRAGMENTS or bm * bn <= SMALL_TILE) and (
        int(config["wk"]) == 1 or bm * bn <= MOST_SHARED
    )


def constraints(problem: Problem) -> list[Constraint]:
    """:func:`tiles_fit`, :func:`well_shared` and :func:`worth_trying` for arrays of values: of the declared space they
    leave about one point in fifty."""
    m, n, k, batch = problem.m, problem.n, problem.k, problem.batch
    return [
        (("bm", "wm"), lambda bm, wm: (bm % (FRAGMENT * wm) == 0) & ((bm == FRAGMENT) | (bm < 2 * m))),
        (("bn", "wn"), lambda bn, wn: (bn % (FRAGMENT * wn) == 0) & ((bn == FRAGMENT) | (bn < 2 * n))),
        (("bk", "wk"), lambda bk, wk: (bk % (FRAGMENT * wk) == 0) & ((bk == FRAGMENT) | (bk < 2 * k))),
        (("bm", "bn", "wm", "wn"), _fragments_fit),
        (("bm", "bn", "wk"), lambda bm, bn, wk: (wk == 1) | (bm * bn <= MOST_SHARED)),
        (("bm", "bn", "bk", "wm", "wn", "wk"), _loads_fit),
        (("bk", "split_k"), lambda bk, split: (split == 1) | ((k >= split * bk) & (k >= split * LEAST_SLICE))),
        (
            ("bm", "bn", "split_k"),
            lambda bm, bn, split: (split == 1) | (-(-m // bm) * -(-n // bn) * batch * split <= MOST_SPLIT_GROUPS),
        ),
        (
            ("bm", "bn", "split_k", "swizzle"),
            lambda bm, bn, split, swizzle: (swizzle == 1) | ((split == 1) & (swizzle <= -(-m // bm)) & (bn < n)),
        ),
    ]


def _fragments_fit(bm: Any, bn: Any, wm: Any, wn: Any) -> Any:
    results = (bm // wm) * (bn // wn)
    return (results <= MOST_FRAGMENTS * FRAGMENT**2) & (
        (results >= LEAST_FRAGMENTS * FRAGMENT**2) | (bm * bn <= SMALL_TILE)
    )


def _loads_fit(bm: Any, bn: Any, bk: Any, wm: Any, wn: Any, wk: Any) -> Any:
    threads = LANES * wm * wn * wk
    return (threads <= THREADS) & (bm * bk % threads == 0) & (bk * bn % threads == 0)


def tile_bytes(rows: int, columns: int, item_bytes: int) -> int:
    """Threadgroup memory of a tile; rows are padded (``tile.metal``)."""
    return rows * (columns * item_bytes + 16)


def spill_bytes(config: Mapping[str, Any]) -> int:
    """Threadgroup memory that the results pass through: a row of fragments for each simdgroup, padded, in float32."""
    wm, wn, wk = (int(config[name]) for name in ("wm", "wn", "wk"))
    return 4 * wm * wn * wk * FRAGMENT * (int(config["bn"]) // wn + 4)
