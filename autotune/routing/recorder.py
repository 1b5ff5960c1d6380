"""Records every product that a program computes through the routed ops, with how many calls each had.

While a recorder is on, functions that note each call stand in the place of the routed ops in :mod:`.ops`. They cost a
call some microseconds; where nothing records, nothing of this is loaded.
"""

from __future__ import annotations

import functools
import threading
from collections import Counter
from typing import Any

from ..problem import Problem
from . import ops, products
from .products import MOST, Product

_OPS = {op: getattr(ops, op) for op in ("matmul", "addmm", "quantized_matmul")}


class Recorder:
    """``calls``: how many calls each product had. ``outside``: how many calls were no product that autotune tunes, by
    the reason. A call counts when Python makes it: those of a compiled function when it is traced. What runs inside
    ``autotune.stock`` or a shapeless trace counts as outside, since no table is asked for it.
    """

    def __init__(self) -> None:
        self.calls: dict[Product, int] = {}
        self.outside: Counter[str] = Counter()
        self._lock = threading.Lock()

    def start(self) -> None:
        """From here on the ops of this package note their calls. To be called before ``switch.enable``, which puts
        these very functions into ``mlx.core``."""
        for op, note in (("matmul", self._matmul), ("addmm", self._addmm), ("quantized_matmul", self._quantized)):
            setattr(ops, op, _noting(_OPS[op], note))

    @staticmethod
    def stop() -> None:
        """Puts the ops of this package back. What ``switch.enable`` took into ``mlx.core`` stays there."""
        for op, routed in _OPS.items():
            setattr(ops, op, routed)

    def _matmul(self, a: Any, b: Any, *, stream: Any = None) -> None:
        self._count(products.of_dense("matmul", a, b), ops.on_gpu(stream))

    def _addmm(self, c: Any, a: Any, b: Any, alpha: Any = 1.0, beta: Any = 1.0, *, stream: Any = None) -> None:
        self._count(products.of_dense("addmm", a, b, c, alpha, beta), ops.on_gpu(stream))

    def _quantized(
        self,
        x: Any,
        w: Any,
        scales: Any,
        biases: Any = None,
        transpose: Any = True,
        group_size: Any = None,
        bits: Any = None,
        mode: Any = "affine",
        *,
        stream: Any = None,
    ) -> None:
        product = products.of_quantized(x, w, scales, biases, transpose, group_size, bits, mode)
        self._count(product, ops.on_gpu(stream))

    def _count(self, product: Problem | str, gpu: bool) -> None:
        if ops.suspended:
            product = "calls kept on stock"
        if product == products.WRONG:
            return
        with self._lock:
            if isinstance(product, str):
                self.outside[product] += 1
            elif (product, gpu) in self.calls or len(self.calls) < MOST:
                self.calls[product, gpu] = self.calls.get((product, gpu), 0) + 1
            else:
                self.outside[f"products beyond the first {MOST}"] += 1


def _noting(routed: Any, note: Any) -> Any:
    """The op, with its calls noted that did not raise. A call that cannot be noted is a call all the same."""

    @functools.wraps(routed)
    def op(*args: Any, **kwargs: Any) -> Any:
        out = routed(*args, **kwargs)
        try:
            note(*args, **kwargs)
        except Exception:
            return out
        return out

    return op
