"""Weights dequantized into memory, then a dense product.

Why it pays: with many rows the weights are used often enough that unpacking them once is cheaper than unpacking them
in every tile of rows, and the dense product has the better kernel; MLX's own matrix-matrix kernels for quantized
weights unpack a tile again for every block of rows. Where MLX's quantized kernel for a dtype is poor (float16 on the
CPU), it pays from the first row.

Cost model: read N*K*bits/8, write and read N*K elements, then the dense product.

Parameter: ``compute``, the dtype of the dense product: ``native`` (that of x) or ``float32``.

Source of the idea: what users of MLX do by hand for prefill (ml-explore/mlx #3086, where dense beat quantized).
"""

from __future__ import annotations

import mlx.core as mx

from ..mlx_ops import ORIGINAL
from ..problem import Problem
from .base import Config, Kernel, Op, Parameter

_matmul = ORIGINAL["matmul"]


class Dequantize(Kernel):
    name = "dequantize"
    summary = "weights dequantized into memory, then a dense product"
    ops = ("quantized_matmul",)
    smooth = True
    parameters = {"compute": Parameter(words=("native", "float32"))}

    def legal(self, problem: Problem, config: Config) -> bool:
        q = problem.quantization
        # MLX's CUDA build reads these scales in pairs, which one scale too few or too many leaves misaligned.
        odd = q is not None and q.mode == "nvfp4" and problem.n * problem.k // q.group_size % 2 == 1
        return not odd and not (config["compute"] == "float32" and problem.dtype == "f32")

    def build(self, problem: Problem, config: Config) -> Op:
        widen = config["compute"] == "float32"

        def quantized_matmul(
            x, w, /, scales, biases=None, transpose=True, group_size=None, bits=None, mode="affine", *, stream=None
        ):
            dtype = x.dtype
            if widen:
                x = x.astype(mx.float32, stream=stream)
                if mode == "affine":
                    scales = scales.astype(mx.float32, stream=stream)
                    biases = None if biases is None else biases.astype(mx.float32, stream=stream)
            dense = mx.dequantize(w, scales, biases, group_size, bits, mode, dtype=x.dtype, stream=stream)
            if transpose:
                dense = mx.swapaxes(dense, -1, -2, stream=stream)
            out = _matmul(x, dense, stream=stream)
            return out.astype(dtype, stream=stream) if widen else out

        return quantized_matmul
