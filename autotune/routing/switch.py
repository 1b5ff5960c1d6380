"""Turning routing on and off: for this package's ops, and for programs that call MLX's.

``enable`` puts the routed ops in the place of MLX's own: ``mlx.nn`` and ``mlx-lm`` then route without a changed line.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

import mlx.core as mx

from ..errors import TableError
from ..mlx_ops import ORIGINAL
from . import ops, ready, table, transforms
from .router import ROUTERS, Router, disabled, warn_once

_TRACERS = {name: getattr(mx, name) for name in ("compile", "export_function", "exporter") if hasattr(mx, name)}
_array_matmul = mx.array.__matmul__


def enable(*, rules: Optional[bool] = None) -> None:
    """Routes the program's own MLX calls: ``mx.matmul``, ``mx.addmm``, ``mx.quantized_matmul`` and ``a @ b``.

    Modules that did ``from mlx.core import matmul`` before keep stock. ``AUTOTUNE_DISABLE`` in the environment wins:
    then nothing is replaced. Warns once where this machine has no table. Calling it twice is harmless; :func:`disable`
    undoes it.

    Kernels of our own need MLX's rules for ``mx.grad``, ``mx.jvp`` and ``mx.vmap`` where a call is transformed, and
    cost the CPU much less without: 5 us a call on an H100's host (``benchmarks/launch.py``). So calls have them inside
    these transformations, which can be told for what is taken from ``mlx.core`` from here on; where the program has
    taken one before, by name or by making a function of it (``transforms.taken``), every call has them. ``rules``
    decides it instead: True is for a program that transforms in ways that Python's garbage collector does not see, and
    False for one that has transformed before, but not what it routes. What is wrongly called without them raises MLX's
    error that a ``CustomKernel`` has no such rule.

    Traces made with ``shapeless=True`` run on stock, since they have to hold for shapes that were not looked up; so do
    exported functions on CUDA, where our kernels are this machine's. A function that was decorated with
    ``mx.compile(shapeless=True)`` before this call is out of reach, and has to run its products inside :func:`stock`.
    """
    if disabled():
        return
    _put_back()
    bare = not transforms.taken() if rules is None else not rules
    ROUTERS.switch(True, bare=bare)
    _warn_without_table()
    for op in ORIGINAL:
        setattr(mx, op, getattr(ops, op))
    mx.array.__matmul__ = _routed_matmul  # type: ignore[method-assign]
    if bare:
        for name in transforms.TRANSFORMS:
            setattr(mx, name, _with_rules(transforms.TRANSFORMS[name]))
    for name, trace in _TRACERS.items():
        setattr(mx, name, _elsewhere_on_stock(trace))


def _warn_without_table() -> None:
    from ..machine import default_kind

    if not any(verdict.used for verdict in ROUTERS.of(default_kind()).verdicts()):
        warn_once("no table is for this device, every call goes to stock: run autotune sweep && autotune export")


def disable() -> None:
    """Puts MLX's own ops back, and makes this package's ops call stock."""
    ROUTERS.switch(False)
    _put_back()


def _put_back() -> None:
    for op, original in ORIGINAL.items():
        setattr(mx, op, original)
    mx.array.__matmul__ = _array_matmul  # type: ignore[method-assign]
    for name, original in {**transforms.TRANSFORMS, **_TRACERS}.items():
        setattr(mx, name, original)


def use_table(path: str | Path | None, *, simulated: bool = False) -> None:
    """Makes ``path`` the first table to look in; ``None`` goes back to the tables found by themselves.

    ``simulated`` allows a table whose numbers come from a model of a chip. Raises :class:`TableError` where the file
    cannot be read as a table or belongs to another device, and then leaves everything as it was.
    """
    if path is None:
        ROUTERS.use(None, False)
        return
    file = Path(path).expanduser()
    table.load(file)
    verdicts = [Router(kind, (file,), simulated).judge(file) for kind in _kinds()]
    if not any(verdict.used for verdict in verdicts):
        raise TableError(f"{file} is not used here", verdicts[0].reason)
    ROUTERS.use(file, simulated)


@contextmanager
def stock() -> Iterator[None]:
    """Runs the calls inside on stock, for instance a function that is traced with ``shapeless=True`` by hand."""
    ops.suspended += 1
    try:
        with ready.holding():
            yield
    finally:
        ops.suspended -= 1


def _kinds() -> list[str]:
    from ..machine import has

    return [kind for kind in ("gpu", "cpu") if has(kind)]


def _routed_matmul(a: mx.array, b: Any) -> mx.array:
    return ops.matmul(a, b) if isinstance(b, mx.array) else _array_matmul(a, b)


def _with_rules(transform: Callable[..., Any]) -> Callable[..., Any]:
    """``mx.grad`` and its like, with the function's products under MLX's rules for them."""

    @functools.wraps(transform)
    def transforming(*args: Any, **kwargs: Any) -> Any:
        if "fun" in kwargs:
            kwargs["fun"] = _ruled(kwargs["fun"])
        elif args and _is_function(args[0]):
            args = (_ruled(args[0]), *args[1:])
        return transform(*args, **kwargs)

    return transforming


def _ruled(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function, updated=())
    def under_rules(*args: Any, **kwargs: Any) -> Any:
        with ROUTERS.transforming():
            return function(*args, **kwargs)

    return under_rules


def _elsewhere_on_stock(trace: Callable[..., Any]) -> Callable[..., Any]:
    """``mx.compile`` and its like, with functions that are traced for any shape kept on stock, and on CUDA those that
    are traced for other processes.

    Slicing and splitting, which the row compositions need, cannot be traced for shapes yet unknown: MLX would raise at
    the second shape where stock would not. And on CUDA a call hands MLX a kernel's name alone (``kernels.mlx_cache``),
    which means nothing elsewhere.
    """

    @functools.wraps(trace)
    def tracing(*args: Any, **kwargs: Any) -> Any:
        compiles = trace is _TRACERS["compile"]
        exports = not compiles and _on_cuda()
        if exports or kwargs.get("shapeless") or (compiles and len(args) > 3 and args[3]):
            args = tuple(_on_stock(arg) if _is_function(arg) else arg for arg in args)
            if "fun" in kwargs:
                kwargs["fun"] = _on_stock(kwargs["fun"])
        return trace(*args, **kwargs)

    return tracing


def _on_cuda() -> bool:
    return bool(mx.cuda.is_available())


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, (mx.array, type))


def _on_stock(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function, updated=())
    def traced(*args: Any, **kwargs: Any) -> Any:
        with stock():
            return function(*args, **kwargs)

    return traced
