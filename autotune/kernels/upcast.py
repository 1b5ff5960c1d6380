"""float16 and bfloat16 computed in float32, the result rounded back.

Why it pays: where a backend has a good float32 kernel and a poor one for the narrow type (MLX's CPU build multiplies
float16 quantized weights one element at a time), casting both sides is cheaper than using the poor kernel. Weights stay
packed: only x, scales and biases are cast.

Cost model: the float32 product plus one cast of each dense operand and of the result.

It may be used only where it is at least as accurate as stock, which accumulating in float32 should make it always be.

Source of the idea: measured here; MLX's routing has no such rule.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from ..mlx_ops import ORIGINAL
from ..problem import OPS, Problem
from .base import Config, Kernel, Op

_matmul, _addmm, _quantized_matmul = (ORIGINAL["matmul"], ORIGINAL["addmm"], ORIGINAL["quantized_matmul"])


class Upcast(Kernel):
    name = "upcast"
    summary = "computed in float32, rounded back"
    ops = OPS
    smooth = True
    accuracy = 1.0

    def legal(self, problem: Problem, config: Config) -> bool:
        return problem.dtype != "f32"

    def build(self, problem: Problem, config: Config) -> Op:
        def wide(array: mx.array, stream: Any) -> mx.array:
            return array.astype(mx.float32, stream=stream)

        if problem.op == "matmul":

            def matmul(a, b, /, *, stream=None):
                return _matmul(wide(a, stream), wide(b, stream), stream=stream).astype(a.dtype, stream=stream)

            return matmul

        if problem.op == "addmm":

            def addmm(c, a, b, /, alpha=1.0, beta=1.0, *, stream=None):
                out = _addmm(wide(c, stream), wide(a, stream), wide(b, stream), alpha, beta, stream=stream)
                return out.astype(a.dtype, stream=stream)

            return addmm

        def quantized_matmul(
            x, w, /, scales, biases=None, transpose=True, group_size=None, bits=None, mode="affine", *, stream=None
        ):
            if mode == "affine":
                scales = wide(scales, stream)
                biases = None if biases is None else wide(biases, stream)
            out = _quantized_matmul(
                wide(x, stream), w, scales, biases, transpose, group_size, bits, mode, stream=stream
            )
            return out.astype(x.dtype, stream=stream)

        return quantized_matmul
