"""K in parts: a batched product over slices of K, the partial results summed in float32.

Why it pays: a small M and N with a long K makes few tiles of output, too few to fill a GPU; slices of K are
independent work. MLX has split-K kernels of its own behind compiled-in gates (ml-explore/mlx #3422 and #3087 list where
those gates were wrong); this is the same idea from outside, for shapes that the gates miss.

Cost model: the product at parts times as many tiles, plus parts*M*N elements written, read and summed.

Parameter: ``parts``, the number of slices; it divides K. For quantized weights only the layout ``nn`` is served: with
``nt`` a slice of K is not contiguous in the packed weights, and copying them costs more than the product (``fold_k``
serves those). Of dense products only float32 ones are served: partial results pass through the op's own dtype, and
where large ones cancel, rounding them to 16 bits loses what stock keeps (45 times stock's error was seen). MLX keeps
the partials of its dense split-K in float32, and those of its quantized one in x's dtype; the line here is the same.

Source of the idea: split-K as in CUTLASS (``media/docs/cpp/efficient_gemm.md``).
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from ..mlx_ops import ORIGINAL
from ..problem import OPS, Problem
from .base import Config, Kernel, Op, Parameter

_matmul, _quantized_matmul = (ORIGINAL["matmul"], ORIGINAL["quantized_matmul"])

LEAST_K = 64
"""Shortest slice of K worth a product of its own."""


class SplitK(Kernel):
    name = "split_k"
    summary = "K in parts, partial results summed in float32"
    ops = OPS
    smooth = True
    parameters = {"parts": Parameter(2, 64)}

    def legal(self, problem: Problem, config: Config) -> bool:
        parts = int(config["parts"])
        return (
            problem.batch == 1
            and problem.k % parts == 0
            and problem.k // parts >= LEAST_K
            and problem.k >= max(problem.m, problem.n) // 4
            and (problem.layout == "nn" if problem.quantization else problem.dtype == "f32")
        )

    def build(self, problem: Problem, config: Config) -> Op:
        parts = int(config["parts"])
        stored_transposed = problem.layout[1] == "t"

        def left(a: mx.array, stream: Any) -> mx.array:
            """(..., M, K) to (parts, rows, K / parts), without a copy where A is contiguous."""
            a = mx.reshape(a, (-1, parts, a.shape[-1] // parts), stream=stream)
            return mx.swapaxes(a, 0, 1, stream=stream)

        def right(b: mx.array, stream: Any) -> mx.array:
            """(K, N) to (parts, K / parts, N), through the stored (N, K) where that is how B lies in memory."""
            k, n = b.shape[-2:]
            b = mx.reshape(b, (k, n), stream=stream) if b.ndim > 2 else b
            if stored_transposed:
                b = mx.reshape(mx.swapaxes(b, 0, 1, stream=stream), (n, parts, k // parts), stream=stream)
                return mx.transpose(b, (1, 2, 0), stream=stream)
            return mx.reshape(b, (parts, k // parts, n), stream=stream)

        def total(partials: mx.array, a: mx.array, stream: Any) -> mx.array:
            wide = mx.sum(partials.astype(mx.float32, stream=stream), axis=0, stream=stream)
            return mx.reshape(wide, (*a.shape[:-1], wide.shape[-1]), stream=stream)

        if problem.op == "matmul":

            def matmul(a, b, /, *, stream=None):
                partials = _matmul(left(a, stream), right(b, stream), stream=stream)
                return total(partials, a, stream).astype(a.dtype, stream=stream)

            return matmul

        if problem.op == "addmm":

            def addmm(c, a, b, /, alpha=1.0, beta=1.0, *, stream=None):
                wide = total(_matmul(left(a, stream), right(b, stream), stream=stream), a, stream)
                out = mx.multiply(wide, alpha, stream=stream)
                if beta != 0:  # BLAS's rule, which stock follows: a c that is not wanted may hold NaNs
                    scaled = mx.multiply(c.astype(mx.float32, stream=stream), beta, stream=stream)
                    out = mx.add(out, scaled, stream=stream)
                return out.astype(a.dtype, stream=stream)

            return addmm

        def quantized_matmul(
            x, w, /, scales, biases=None, transpose=True, group_size=None, bits=None, mode="affine", *, stream=None
        ):
            def slices(array: mx.array) -> mx.array:
                return mx.reshape(array, (parts, array.shape[0] // parts, array.shape[1]), stream=stream)

            partials = _quantized_matmul(
                left(x, stream),
                slices(w),
                slices(scales),
                None if biases is None else slices(biases),
                transpose,
                group_size,
                bits,
                mode,
                stream=stream,
            )
            return total(partials, x, stream).astype(x.dtype, stream=stream)

        return quantized_matmul
