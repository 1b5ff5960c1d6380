"""Families made of stock ops, which stand for kernels of our own."""

from __future__ import annotations

import mlx.core as mx

from autotune.kernels import Parameter
from autotune.kernels.family import Family
from autotune.mlx_ops import ORIGINAL
from autotune.problem import OPS, Problem

QUANTIZED = "quantized_matmul M=3 N=64 K=128 f32 affine-b4-g64 nt"
PROBLEMS = [
    Problem.parse(text)
    for text in (
        "matmul M=3 N=64 K=128 f32 nt",
        "matmul M=3 N=64 K=128 f16 nn",
        "matmul M=3 N=64 K=128 B=2 bf16 nn",
        "addmm M=3 N=64 K=128 f32 nt row",
        "addmm M=3 N=64 K=128 f16 nn full",
        QUANTIZED,
        "quantized_matmul M=3 N=64 K=128 f16 affine-b8-g32 nt",
        "quantized_matmul M=3 N=64 K=128 bf16 mxfp4-b4-g32 nt",
        "quantized_matmul M=3 N=64 K=128 f16 nvfp4-b4-g16 nt",
        "quantized_matmul M=3 N=64 K=128 f16 affine-b4-g64 nn",
    )
]


class Right(Family):
    """A family whose launches are products in float32; ``shift`` is added to every result."""

    name = "right"
    summary = "a stand-in"
    ops = OPS
    backends = ("cpu",)
    parameters = {"shift": Parameter(0, 9)}

    def __init__(self):
        self.calls = 0

    def _product(self, config, a, b, stream):
        self.calls += 1
        wide = ORIGINAL["matmul"](a.astype(mx.float32), b.astype(mx.float32), stream=stream)
        return wide + config["shift"]

    def dense(self, config, dtype, a, b, c):
        def start(a, b, *added, stream):
            return epilogue(self._product(config, a, b, stream), *added).astype(dtype)

        return start, None

    def quantized(self, config, dtype, q, x, w):
        def start(x, *packed, stream):
            dense = mx.dequantize(*packed, group_size=q.group_size, bits=q.bits, mode=q.mode)
            dense = dense if dense.shape[0] == x.shape[-1] else dense.T
            return self._product(config, x, dense, stream).astype(dtype)

        return start, None


class Split(Right):
    """A family whose first launch leaves partial sums, which the second adds up."""

    name = "split"

    def dense(self, config, dtype, a, b, c):
        half = a[-1] // 2

        def first(a, b, *, stream):
            parts = ((a[..., :half], b[..., :half, :]), (a[..., half:], b[..., half:, :]))
            return mx.stack([self._product(config, *part, stream) for part in parts])

        def last(partials, *added, stream):
            return epilogue(partials.sum(axis=0), *added).astype(dtype)

        return first, last


def epilogue(product, factors=None, c=None):
    return product if factors is None else factors[0] * product + factors[1] * c.astype(mx.float32)


class Refused(Right):
    """A family that the device's compiler does not take."""

    name = "refused"

    def _product(self, config, a, b, stream):
        self.calls += 1
        raise RuntimeError("unable to build metal library from source")


def operands(problem):
    x = mx.random.normal((problem.m, problem.k), key=mx.random.key(1))
    return x, mx.quantize(mx.random.normal((problem.n, problem.k), key=mx.random.key(2)), group_size=64, bits=4)
