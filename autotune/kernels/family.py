"""What the Metal kernels of our own share.

A family is one kernel text with its parameters (``kernels/msl/<text>.metal``), started through ``launch``. Its class
says which configs are legal and what a call of certain shapes launches; ``calls`` makes an op of that, and ``trial``
tries it before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from pathlib import Path
from typing import Optional

import mlx.core as mx

from ..problem import MODES, Problem, Quantization
from . import calls, cuda, program, trial
from .base import Config, Kernel, Op, Parameter
from .launch import Shape, Starts
from .program import DTYPES

TYPES = {mx.float32: "float", mx.float16: "half", mx.bfloat16: "bfloat"}
"""Metal's names of the dtypes."""
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
        trial.once((self.name, *config.items()), lambda: self.build(problem, config), problem)

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
        return calls.op(*self._launches(problem, config), problem)

    def bare(self, problem: Problem, config: Config) -> Op:
        return calls.bare(*self._launches(problem, config), problem)

    def _launches(self, problem: Problem, config: Config) -> tuple[Callable[..., Starts], calls.Compact]:
        """What a call of certain shapes launches, kept by the shapes; and what its a and c go through before."""
        config, dtype, q = self.settled(problem, config), DTYPES[problem.dtype], problem.quantization
        made = partial(self.dense, config, dtype) if q is None else partial(self.quantized, config, dtype, q)
        return lru_cache(MOST_SHAPES)(made), mx.contiguous if self.compact else calls.as_it_is


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
