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

_TRACERS = tuple(name for name in ("compile", "export_function", "exporter") if hasattr(mx, name))
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

    Exported functions run on stock, and traces made with ``shapeless=True``, since they have to hold for shapes that
    were not looked up. A function that was decorated with ``mx.compile(shapeless=True)`` before this call is out of
    reach, and has to run its products inside :func:`stock`.
    """
    if disabled():
        return
    ROUTERS.switch(True, bare=False)
    _warn_without_table()
    for op in ORIGINAL:
        _put(op, getattr(ops, op))
    mx.array.__matmul__ = _routed_matmul  # type: ignore[method-assign]
    for name in _TRACERS:
        if not _is_ours(name):
            _put(name, _elsewhere_on_stock(getattr(mx, name), name == "compile"))
    # First what is there from now on, then a look at what was taken before: nothing gets in between.
    for name, transform in transforms.TRANSFORMS.items():
        if getattr(mx, name) is transform:
            _put(name, _with_rules(name))
    if rules is None:
        rules = not all(map(_is_ours, transforms.TRANSFORMS)) or bool(transforms.taken())
    if not rules:
        ROUTERS.switch(True, bare=True)


def _warn_without_table() -> None:
    from ..machine import default_kind

    if not any(verdict.used for verdict in ROUTERS.of(default_kind()).verdicts()):
        warn_once("no table is for this device, every call goes to stock: run autotune sweep && autotune export")


def disable() -> None:
    """Puts MLX's own ops back, and makes this package's ops call stock."""
    ROUTERS.switch(False)
    _put_back()


_BEFORE: dict[str, Any] = {}
_OURS: dict[str, Any] = {}
"""By their names in ``mlx.core``: what was there, but for the transformations, which nothing else is to hold; and what
of ours is there instead."""


def _put(name: str, ours: Any) -> None:
    if not _is_ours(name) and name not in transforms.TRANSFORMS:
        _BEFORE[name] = getattr(mx, name)
    _OURS[name] = ours
    setattr(mx, name, ours)


def _is_ours(name: str) -> bool:
    return name in _OURS and getattr(mx, name) is _OURS[name]


def _put_back() -> None:
    """But for what the program has put in our place since."""
    for name in [*_OURS]:
        if _is_ours(name):
            setattr(mx, name, transforms.TRANSFORMS.get(name) or _BEFORE[name])
        _OURS.pop(name)
        _BEFORE.pop(name, None)
    mx.array.__matmul__ = _array_matmul  # type: ignore[method-assign]


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


def _with_rules(name: str) -> Callable[..., Any]:
    """``mx.grad`` or one of its like, by name, with products under MLX's rules while the function runs, and while what
    was made of it does: the default rules of ``mx.custom_function`` run their function after the one around it."""

    def transforming(*args: Any, **kwargs: Any) -> Any:
        if callable(kwargs.get("fun")):
            kwargs["fun"] = _ruled(kwargs["fun"])
        elif args and callable(args[0]):
            args = (_ruled(args[0]), *args[1:])
        with ROUTERS.transforming():
            made = transforms.TRANSFORMS[name](*args, **kwargs)
        return _ruled(made) if callable(made) and not isinstance(made, mx.array) else made

    functools.update_wrapper(transforming, transforms.TRANSFORMS[name])
    del vars(transforming)["__wrapped__"]  # it would be MLX's own, held by name
    return transforming


def _ruled(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function, updated=())
    def under_rules(*args: Any, **kwargs: Any) -> Any:
        with ROUTERS.transforming():
            return function(*args, **kwargs)

    setattr(under_rules, transforms.OURS, True)
    return under_rules


def _elsewhere_on_stock(trace: Callable[..., Any], compiles: bool) -> Callable[..., Any]:
    """``mx.compile`` and its like, with functions that are traced for any shape, or for other processes, kept on stock.

    Slicing and splitting, which the row compositions need, cannot be traced for shapes yet unknown: MLX would raise at
    the second shape where stock would not. What is exported is for machines that no table here is for, MLX cannot
    export a call under rules, and on CUDA a call hands MLX a kernel's name alone (``kernels.mlx_cache``).
    """

    @functools.wraps(trace)
    def tracing(*args: Any, **kwargs: Any) -> Any:
        if not compiles or kwargs.get("shapeless") or (len(args) > 3 and args[3]):
            args = tuple(_on_stock(arg) if _is_function(arg) else arg for arg in args)
            if "fun" in kwargs:
                kwargs["fun"] = _on_stock(kwargs["fun"])
        return trace(*args, **kwargs)

    return tracing


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, (mx.array, type))


def _on_stock(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function, updated=())
    def traced(*args: Any, **kwargs: Any) -> Any:
        with stock():
            return function(*args, **kwargs)

    return traced
