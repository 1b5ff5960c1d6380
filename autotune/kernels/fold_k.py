"""K folded into rows: x (M, K) read as (M*parts, K/parts), packed weights (N, K) read as (N*parts, K/parts).

Both readings are reshapes of contiguous memory: nothing is copied. One stock product of the two gives every slice of a
row of x against every slice of a row of the weights; the results of slices that belong together, a diagonal, are
summed. It computes ``parts`` times as many products as needed, all in the same tile where M*parts rows fit in one.

Why it pays: MLX's matrix-matrix kernel for quantized weights walks K in one loop per tile, so a small product takes as
long as that loop however idle the GPU is (on an H100, K=5120, about 66 us for N=1024 and N=5120 alike), and its tiles
have 16 rows or more, most of them empty when M is small. Folding fills the empty rows, makes ``parts`` times as many
tiles for the idle cores, and shortens the loop by ``parts``. It is split-K for a layout in which slices of K are not
contiguous; M*parts also lifts small M over the compiled-in ``vector_limit``.

Cost model: the same weight bytes; a loop of K/parts; M*parts*N*parts elements written, one in ``parts`` of them read.

Partial results pass through x's dtype, as in MLX's own quantized split-K (``qmm_t_splitk``): where large ones cancel,
more is lost than in stock's single sum, and in float16 one beyond 65504 becomes infinite even where the whole sum would
not. A table without it: ``autotune export --without fold_k``.

Parameters: ``parts``; ``sum``, the dtype in which the ``parts`` partial results are added: ``float32``, or ``native``
(that of x, one small kernel less).

Source of the idea: our own; the arithmetic is that of split-K (see ``split_k``).
"""

from __future__ import annotations

import mlx.core as mx

from ..mlx_ops import ORIGINAL
from ..problem import Problem
from .base import Config, Kernel, Op, Parameter

_quantized_matmul = ORIGINAL["quantized_matmul"]

MOST_ROWS = 512
"""Rows of the folded product: beyond this the surplus products cost more than any idle core is worth."""


class FoldK(Kernel):
    name = "fold_k"
    summary = "K folded into rows of both matrices, a diagonal of the product summed"
    ops = ("quantized_matmul",)
    smooth = True
    parameters = {"parts": Parameter(2, 64), "sum": Parameter(words=("float32", "native"))}

    def legal(self, problem: Problem, config: Config) -> bool:
        parts, q = int(config["parts"]), problem.quantization
        return (
            q is not None
            and problem.layout == "nt"
            and problem.batch == 1
            and problem.k % (parts * q.group_size) == 0
            and problem.k // parts * q.bits % 32 == 0
            and problem.m * parts <= MOST_ROWS
            and not (config["sum"] == "native" and problem.dtype == "f32")
        )

    def build(self, problem: Problem, config: Config) -> Op:
        parts, wide = int(config["parts"]), config["sum"] == "float32"

        def quantized_matmul(
            x, w, /, scales, biases=None, transpose=True, group_size=None, bits=None, mode="affine", *, stream=None
        ):
            def fold(array: mx.array) -> mx.array:
                return mx.reshape(array, (-1, array.shape[-1] // parts), stream=stream)

            n, rows = w.shape[0], x.size // x.shape[-1]
            every = _quantized_matmul(
                fold(x),
                fold(w),
                fold(scales),
                None if biases is None else fold(biases),
                transpose,
                group_size,
                bits,
                mode,
                stream=stream,
            )
            # Element (m*parts + s, n*parts + s) for each s: the slices that belong together. The axis that is summed
            # comes first, since summing over many short rows is slower (62 against 56 us at N=13824 on an H100).
            line = n * parts
            partials = mx.as_strided(every, (parts, rows, n), (line + 1, parts * line, parts), stream=stream)
            if wide:
                partials = partials.astype(mx.float32, stream=stream)
            out = mx.sum(partials, axis=0, stream=stream).astype(x.dtype, stream=stream)
            return mx.reshape(out, (*x.shape[:-1], n), stream=stream)

        return quantized_matmul
