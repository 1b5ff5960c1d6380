"""What the Metal kernels of our own share: where they run, what happens under transformations, and the first try.

A family is one kernel text with its parameters (``kernels/msl/<text>.metal``), started through ``launch``. Its class
says which configs are legal and how a call becomes launches; this module does the rest.

Under ``mx.grad``, ``mx.jvp`` and ``mx.vmap`` a custom kernel has no rule of its own: ``mx.custom_function`` hands those
transformations to the stock op. That costs about 2.3 us a call (``benchmarks/launch.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Optional

import mlx.core as mx

from ..mlx_ops import ORIGINAL
from ..problem import LAYOUTS, Problem
from . import cuda, launch
from .base import Config, Kernel, Op, Parameter

TYPES = {mx.float32: "float", mx.float16: "half", mx.bfloat16: "bfloat"}
"""Metal's names of the dtypes."""
DTYPES = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}
LANES = 32
"""Threads of a simdgroup on every Apple GPU, and of a warp."""
THREADS = 1024
"""Most threads of a threadgroup on every Apple GPU since the A11 (Metal feature set tables)."""
THREADGROUP_BYTES = 32 << 10
"""Threadgroup memory of every Apple GPU that MLX runs on (Metal feature set tables)."""


LEAST_DEVICE = 8
"""Elements from which MLX passes an input in device memory (``max_constant_array_size`` in metal_kernel.cpp)."""
MATH = Parameter(words=("safe", "relaxed"))
"""Metal's math mode, as a parameter. ``relaxed`` lets the compiler reorder sums, which stays within the bound of any
order of summation, and honours infinities and NaNs; ``fast`` does not, and is not offered. A system that does not know
``relaxed`` refuses the config."""


class Settled(dict[str, Any]):
    """A config that changes no more, hashable by identity: families keep what they derive from it under it."""

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other


class Family(Kernel):
    """A Metal kernel of our own. Subclasses define ``legal`` and one of ``dense``, ``addmm`` and ``quantized`` for each
    op that they serve; these get arrays whose shapes are checked already, and a :class:`Settled` config."""

    backends: tuple[str, ...] = ("metal", "cuda")
    searched = True
    rounded: tuple[str, ...] | None = ()
    texts: tuple[str, ...] = ()
    """Files of ``msl/`` that make the program, the kernel's own last."""

    def serves(self, problem: Problem) -> bool:
        """As every kernel, but only operands that lie in device memory: MLX passes arrays of fewer than eight elements
        in constant memory, another program, which the first try would not have covered."""
        q = problem.quantization
        groups = LEAST_DEVICE if q is None else problem.n * problem.k // q.group_size
        return min(problem.n, problem.k, groups) >= LEAST_DEVICE and super().serves(problem)

    def sources(self) -> Iterable[str]:
        own = (type(self).__module__, launch.__name__, __name__)
        return (*own, cuda.__name__) if "cuda" in self.backends else own

    def files(self) -> Iterable[Path]:
        texts = tuple(launch.MSL / (name + ".metal") for name in self.texts)
        return (*texts, *cuda.headers()) if "cuda" in self.backends else texts

    def probe(self, problem: Problem, config: Config) -> None:
        """Compiles the config on this machine and runs it on a small product of the problem's kind, once in a process.

        Raises what MLX or Apple's compiler raises, and :class:`ArithmeticError` where the result is wrong.
        """
        batched = problem.batch > 1
        kind = (problem.op, problem.dtype, problem.layout, problem.quantization, problem.epilogue, batched)
        key = (self.name, tuple(config.items()), *kind)
        if key not in _PROBED:
            _probe(self.build(problem, config), problem)
            _PROBED.add(key)

    def matmul(self, config: Config, a: mx.array, b: mx.array, stream: Any) -> mx.array:
        """a (..., M, K) times b (K, N), or (..., K, N) with a's leading axes; b may be a transposed view."""
        raise NotImplementedError

    def addmm(
        self, config: Config, c: mx.array, a: mx.array, b: mx.array, alpha: float, beta: float, stream: Any
    ) -> mx.array:
        """alpha * a b + beta * c, with c (N,), (1, N) or of the result's shape."""
        raise NotImplementedError

    def quantized(
        self,
        config: Config,
        x: mx.array,
        w: mx.array,
        scales: mx.array,
        biases: Optional[mx.array],
        group_size: int,
        bits: int,
        mode: str,
        stream: Any,
    ) -> mx.array:
        """x (..., M, K) times the transpose of w, which is packed (N, K * bits / 32)."""
        raise NotImplementedError

    def build(self, problem: Problem, config: Config) -> Op:
        config = Settled(config)
        if problem.op == "matmul":
            return self._build_matmul(config)
        if problem.op == "addmm":
            return self._build_addmm(config)
        return self._build_quantized(problem, config)

    def _build_matmul(self, config: Config) -> Op:
        stock = ORIGINAL["matmul"]

        def make(stream: Any) -> Callable[..., mx.array]:
            return with_rules(lambda a, b: self.matmul(config, a, b, stream), lambda a, b: stock(a, b, stream=stream))

        made = kept(make)

        def matmul(a, b, /, *, stream=None):
            return made(stream)(a, b)

        return matmul

    def _build_addmm(self, config: Config) -> Op:
        stock = ORIGINAL["addmm"]

        def make(stream: Any, alpha: float, beta: float) -> Callable[..., mx.array]:
            return with_rules(
                lambda c, a, b: self.addmm(config, c, a, b, alpha, beta, stream),
                lambda c, a, b: stock(c, a, b, alpha, beta, stream=stream),
            )

        made = kept(make)

        def addmm(c, a, b, /, alpha=1.0, beta=1.0, *, stream=None):
            return made(stream, float(alpha), float(beta))(c, a, b)

        return addmm

    def _build_quantized(self, problem: Problem, config: Config) -> Op:
        stock = ORIGINAL["quantized_matmul"]
        q = problem.quantization
        assert q is not None
        transposed = problem.layout == "nt"

        def make(stream: Any, has_biases: bool) -> Callable[..., mx.array]:
            def ours(x, w, scales, biases=None):
                return self.quantized(config, x, w, scales, biases, q.group_size, q.bits, q.mode, stream)

            def theirs(x, w, scales, biases=None):
                return stock(x, w, scales, biases, transposed, q.group_size, q.bits, q.mode, stream=stream)

            return with_rules(ours, theirs)

        made = kept(make)

        def quantized_matmul(
            x, w, /, scales, biases=None, transpose=True, group_size=None, bits=None, mode="affine", *, stream=None
        ):
            run = made(stream, biases is not None)
            return run(x, w, scales) if biases is None else run(x, w, scales, biases)

        return quantized_matmul


def with_rules(ours: Callable[..., mx.array], stock: Callable[..., mx.array]) -> Callable[..., mx.array]:
    """``ours`` with the stock op's rules for gradients, forward derivatives and vectorization."""
    made: Any = mx.custom_function(ours)

    @made.vjp
    def _vjp(primals, cotangents, outputs):
        # Packed weights and minifloat scales are integers, for which there is no gradient; what is built for arrays
        # that nobody asked for is never evaluated.
        primals = _tuple(primals)
        real = [at for at, primal in enumerate(primals) if mx.issubdtype(primal.dtype, mx.floating)]

        def of_real(*given):
            every = list(primals)
            for at, array in zip(real, given):
                every[at] = array
            return stock(*every)

        found = dict(zip(real, mx.vjp(of_real, [primals[at] for at in real], list(_tuple(cotangents)))[1]))
        return tuple(found.get(at, mx.zeros_like(primal)) for at, primal in enumerate(primals))

    @made.jvp
    def _jvp(primals, tangents):
        known = [mx.zeros_like(p) if t is None else t for p, t in zip(_tuple(primals), _tuple(tangents))]
        return mx.jvp(stock, list(_tuple(primals)), known)[1][0]

    @made.vmap
    def _vmap(inputs, axes):
        inputs, axes = _tuple(inputs), _tuple(axes)
        return mx.vmap(stock, in_axes=tuple(axes))(*inputs), 0

    return made


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


MOST_KEPT = 64
"""Pairs of alpha and beta for which an ``addmm`` is kept ready: a schedule of them must not fill the memory."""


def kept(make: Callable[..., Any]) -> Callable[..., Any]:
    """``make``, whose first argument is a stream, with its results kept by the others where the stream is None.

    Streams and devices hash by identity and MLX makes new ones at each asking, so that they are no keys: a call that
    names one pays for the rules anew, about ten microseconds.
    """
    known: dict[Any, Any] = {}

    def find(stream: Any, *rest: Any) -> Any:
        if stream is not None:
            return make(stream, *rest)
        found = known.get(rest)
        if found is None:
            if len(known) >= MOST_KEPT:
                known.clear()
            found = known[rest] = make(None, *rest)
        return found

    return find


def rows_of(a: mx.array) -> int:
    """M of a (..., M, K) array whose leading axes are folded into it."""
    return a.size // a.shape[-1]


def tiles(length: int, tile: int) -> int:
    """How many tiles cover a length."""
    return -(-length // tile)


_PROBED: set[tuple[Any, ...]] = set()
PROBE_M, PROBE_N, PROBE_K = 69, 96, 256
"""Shape of the product on which a config is tried: whole tiles and a rest in M, whole groups in K. Weights that are
quantized along N are square, since their groups have to be whole there."""
PROBE_FARTHEST = {"f32": 1e-3, "f16": 0.05, "bf16": 0.3}
"""Largest difference from the float32 product over its root mean square at which a compiled kernel passes its first
try: about ten times what rounding the result gives, far below what a wrong index does."""


def _probe(op: Op, problem: Problem) -> None:
    """One small product through ``op``, against MLX's float32 product on the CPU: the stock kernel of the device is no
    reference, since some were wrong (``addmm`` on M5, ml-explore/mlx #3422). A dense call may have any layout, whatever
    the problem says, so all of them are tried."""
    for layout in LAYOUTS if problem.quantization is None else (problem.layout,):
        _probe_layout(op, problem, layout)


def _probe_layout(op: Op, problem: Problem, layout: str) -> None:
    dtype, key = DTYPES[problem.dtype], mx.random.key(0)
    keys = mx.random.split(key, 3)
    lead = () if problem.batch == 1 else (2,)
    stream = mx.gpu if mx.metal.is_available() else None  # wherever the program's default device is
    a = mx.random.normal((*lead, PROBE_M, PROBE_K), key=keys[0]).astype(dtype)
    if layout[0] == "t":
        a = _turned(a)
    wide = a.astype(mx.float32)
    cpu = mx.cpu
    if problem.quantization is not None:
        q, across = problem.quantization, problem.layout == "nt"
        stored = mx.random.normal((PROBE_N, PROBE_K) if across else (PROBE_K, PROBE_K), key=keys[1])
        packed = mx.quantize(stored.astype(dtype), group_size=q.group_size, bits=q.bits, mode=q.mode, stream=cpu)
        biases = packed[2] if len(packed) > 2 else None
        out = op(a, packed[0], packed[1], biases, across, q.group_size, q.bits, q.mode, stream=stream)
        exact = mx.dequantize(*packed, group_size=q.group_size, bits=q.bits, mode=q.mode, stream=cpu)
        exact = exact.astype(mx.float32, stream=cpu)
        b = mx.swapaxes(exact, 0, 1) if across else exact
    else:
        b = mx.random.normal((*lead, PROBE_K, PROBE_N), key=keys[1]).astype(dtype)
        if layout[1] == "t":
            b = _turned(b)
        out = op(a, b, stream=stream) if problem.op == "matmul" else None
    expected = ORIGINAL["matmul"](wide, b.astype(mx.float32), stream=cpu)
    if problem.op == "addmm":
        shape = (PROBE_N,) if problem.epilogue == "row" else (*lead, PROBE_M, PROBE_N)
        c = mx.random.normal(shape, key=keys[2]).astype(dtype)
        out = op(c, a, b, 0.5, 2.0, stream=stream)
        expected = 0.5 * expected + 2.0 * c.astype(mx.float32)
    mx.eval(out, expected)
    if out.shape != expected.shape or out.dtype != dtype or reach(out, expected) > PROBE_FARTHEST[problem.dtype]:
        raise ArithmeticError("its result on a first small product is wrong")


def _turned(array: mx.array) -> mx.array:
    """The same matrix, its columns contiguous."""
    return mx.swapaxes(mx.contiguous(mx.swapaxes(array, -1, -2)), -1, -2)


def reach(values: mx.array, expected: mx.array) -> float:
    """Largest difference over the root mean square of what is expected."""
    wide, other = values.astype(mx.float32), expected.astype(mx.float32)
    scale = mx.maximum(mx.sqrt(mx.mean(mx.square(other))), 1e-30)
    largest: Any = (mx.max(mx.abs(wide - other)) / scale).item()
    return float(largest) if math.isfinite(largest) else math.inf
