"""What the Metal kernels of our own share: where they run, what happens under transformations, and the first try.

A family is one kernel text with its parameters (``kernels/msl/<text>.metal``), started through ``launch``. Its class
says which configs are legal and what a call of certain shapes launches; this module does the rest.

Under ``mx.grad``, ``mx.jvp`` and ``mx.vmap`` a custom kernel has no rule of its own: ``mx.custom_function`` hands those
transformations to the stock op. That costs 2.4 to 4.8 us a call (``benchmarks/launch.py``), nearly all of it for taking
the arguments apart and together again, which programs without such transformations can save (:meth:`Family.bare`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Optional

import mlx.core as mx

from ..mlx_ops import ORIGINAL
from ..problem import LAYOUTS, MODES, Problem, Quantization
from . import cuda, launch, program
from .base import Config, Kernel, Op, Parameter
from .launch import Start

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


Shape = tuple[int, ...]
Starts = tuple[Start, Optional[Start]]
"""What a call launches: the kernel and, where that leaves partial sums, their reduction."""
Rules = Callable[[Callable[..., mx.array], Callable[..., mx.array]], Callable[..., mx.array]]
MOST_SHAPES = 1024
"""Combinations of shapes for which a route keeps its launches ready."""


class Family(Kernel):
    """A Metal kernel of our own. Subclasses define ``legal`` and ``dense`` or ``quantized``, which get shapes that are
    checked already."""

    backends: tuple[str, ...] = ("metal", "cuda")
    searched = True
    rounded: tuple[str, ...] | None = ()
    texts: tuple[str, ...] = ()
    """Files of ``msl/`` that make the program, the kernel's own last."""
    compact = False
    """Whether a and c of a dense product have to be row-contiguous, while b's strides are read."""

    def serves(self, problem: Problem) -> bool:
        """As every kernel, but only operands that lie in device memory: MLX passes arrays of fewer than eight elements
        in constant memory, another program, which the first try would not have covered."""
        q = problem.quantization
        groups = LEAST_DEVICE if q is None else problem.n * problem.k // q.group_size
        return min(problem.n, problem.k, groups) >= LEAST_DEVICE and super().serves(problem)

    def sources(self) -> Iterable[str]:
        families = [each.__module__ for each in type(self).__mro__ if issubclass(each, Family)]
        own = (*families, program.__name__)  # how a launch gets to MLX decides nothing of what it computes
        return (*own, cuda.__name__) if "cuda" in self.backends else own

    def files(self) -> Iterable[Path]:
        texts = tuple(program.MSL / (name + ".metal") for name in self.texts)
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

    def dense(self, config: Config, dtype: mx.Dtype, a: Shape, b: Shape, c: Optional[Shape]) -> Starts:
        """For a (..., M, K) times b (K, N), or (..., K, N) with a's leading axes, in any layouts; ``c`` is the shape of
        what ``addmm`` adds: (N,), (1, N) or the result's. A program that adds takes (a, b, factors, c), a reduction
        (partial sums, factors, c)."""
        raise NotImplementedError

    def quantized(self, config: Config, dtype: mx.Dtype, q: Quantization, x: Shape, w: Shape) -> Starts:
        """For x (..., M, K) times w, which is packed (N, K * bits / 32), transposed or, where the layout is ``nn``,
        (K, N * bits / 32) as it is. The program takes (x, w, scales) and, of affine weights, biases."""
        raise NotImplementedError

    def settled(self, problem: Problem, config: Config) -> Config:
        """The config with what else the launches need to know of the problem."""
        return config

    def build(self, problem: Problem, config: Config) -> Op:
        return self._build(problem, config, with_rules)

    def bare(self, problem: Problem, config: Config) -> Op:
        return self._build(problem, config, None)

    def _build(self, problem: Problem, config: Config, rules: Optional[Rules]) -> Op:
        config, dtype = self.settled(problem, config), DTYPES[problem.dtype]
        q = problem.quantization
        if q is not None:
            starts = lru_cache(MOST_SHAPES)(partial(self.quantized, config, dtype, q))
            bare = _bare_quantized_op(starts)
            return bare if rules is None else _quantized_op(bare, q, problem.layout == "nt", rules)
        starts = lru_cache(MOST_SHAPES)(partial(self.dense, config, dtype))
        compact = mx.contiguous if self.compact else _as_it_is
        return (_matmul_op if problem.op == "matmul" else _addmm_op)(starts, compact, rules or _no_rules)


def _no_rules(ours: Callable[..., mx.array], stock: Callable[..., mx.array]) -> Callable[..., mx.array]:
    return ours


def _as_it_is(array: mx.array, stream: Any = None) -> mx.array:
    return array


def _matmul_op(starts: Callable[..., Starts], compact: Callable[..., mx.array], rules: Rules) -> Op:
    stock = ORIGINAL["matmul"]

    def make(stream: Any) -> Callable[..., mx.array]:
        def ours(a, b):
            first, last = starts(a.shape, b.shape, None)
            out = first(compact(a, stream=stream), b, stream=stream)
            return out if last is None else last(out, stream=stream)

        return rules(ours, lambda a, b: stock(a, b, stream=stream))

    made = kept(make)

    def matmul(a, b, /, *, stream=None):
        return made(stream)(a, b)

    return matmul


def _addmm_op(starts: Callable[..., Starts], compact: Callable[..., mx.array], rules: Rules) -> Op:
    stock = ORIGINAL["addmm"]

    def make(stream: Any, alpha: float, beta: float) -> Callable[..., mx.array]:
        factors = launch.scalars(alpha, beta)

        def ours(c, a, b):
            first, last = starts(a.shape, b.shape, c.shape)
            a, c = compact(a, stream=stream), compact(c, stream=stream)
            if last is None:
                return first(a, b, factors, c, stream=stream)
            return last(first(a, b, stream=stream), factors, c, stream=stream)

        return rules(ours, lambda c, a, b: stock(c, a, b, alpha, beta, stream=stream))

    made = kept(make)

    def addmm(c, a, b, /, alpha=1.0, beta=1.0, *, stream=None):
        return made(stream, float(alpha), float(beta))(c, a, b)

    return addmm


def _bare_quantized_op(starts: Callable[..., Starts]) -> Op:
    # Of all ops the one that is called most often in the shortest time: it has no function more than it needs.
    def quantized_matmul(
        x, w, /, scales, biases=None, transpose=True, group_size=None, bits=None, mode="affine", *, stream=None
    ):
        first, last = starts(x.shape, w.shape)
        out = first(x, w, scales, stream=stream) if biases is None else first(x, w, scales, biases, stream=stream)
        return out if last is None else last(out, stream=stream)

    return quantized_matmul


def _quantized_op(bare: Op, q: Quantization, transposed: bool, rules: Rules) -> Op:
    stock = ORIGINAL["quantized_matmul"]

    def make(stream: Any) -> Callable[..., mx.array]:
        def theirs(x, w, scales, biases=None):
            return stock(x, w, scales, biases, transposed, q.group_size, q.bits, q.mode, stream=stream)

        return rules(partial(bare, stream=stream), theirs)

    made = kept(make)

    def quantized_matmul(
        x, w, /, scales, biases=None, transpose=True, group_size=None, bits=None, mode="affine", *, stream=None
    ):
        run = made(stream)
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


def of_packing(q: Quantization) -> program.Constants:
    """The constants of ``packs.metal``."""
    modes = ((mode.upper(), int(mode == q.mode)) for mode in MODES)
    return ("BITS", q.bits), ("GROUP", q.group_size), *modes


def packed_inputs(q: Quantization) -> tuple[str, ...]:
    """Names of the inputs of a program for packed weights."""
    return ("sizes", "x", "w", "scales", *(("biases",) if q.has_biases else ()))


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
