"""The routed ops: ``matmul``, ``addmm`` and ``quantized_matmul`` with MLX's signatures, results and errors.

A call builds a key of shapes and an item size and finds its callable in a dictionary. The first call with a key works
out which problem it is and asks the router (``resolve``, imported then: a program that only imports this package pays
for this module alone). Whatever is not a product of two matrices in one tuned dtype goes to stock.

The keys hold as little as tells stock from routed, since every attribute read costs 40 to 100 ns of the microsecond
that a call may lose (a dtype, which is a new object each time and compares slowly, 200). What else a route depends on
(dtypes, the shape of the addend) is checked by the route's own callable, which only routed calls pay for.
"""

from __future__ import annotations

import mlx.core as mx

from ..mlx_ops import ORIGINAL
from . import ready

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_matmul, _addmm, _quantized_matmul = (ORIGINAL[op] for op in ("matmul", "addmm", "quantized_matmul"))
_default_device = mx.default_device
_GPU, _PACKED = mx.gpu, mx.uint32

_MATMUL: dict[Any, Any] = {}
_ADDMM: dict[Any, Any] = {}
_QUANTIZED: dict[Any, Any] = {}
_WEIGHTS, _HELD = ready.WEIGHTS, ready.HELD
_MOST = 1 << 16
"""Keys kept for an op. A server that sees every prompt length would otherwise grow without bound."""

suspended = 0
"""While positive, every call goes to stock: set around traces that must hold for other shapes (``switch.stock``)."""


def matmul(a: mx.array, b: mx.array, /, *, stream: Any = None) -> mx.array:
    """MLX's matrix product, routed: computed the way that this machine's tables hold to be the fastest.

    ``a`` (..., M, K) times ``b`` (K, N), leading axes of ``a`` counting as rows, or times ``b`` (..., K, N) with the
    same leading axes; both float32, both float16 or both bfloat16, in any memory layout. What the tables have no route
    for, and any other call that MLX takes (vectors, other broadcasts, other or mixed dtypes), is MLX's own op.

    Returns the product with the shape and dtype that MLX gives it, (..., M, N); a route may add in another order, so
    that the last bits can differ. Raises what MLX's own op raises, and nothing else: a route that fails gives way to
    that op, with one ``RoutingWarning``.
    """
    try:
        run = _MATMUL[
            a.shape, b.shape, a.itemsize, _default_device().type is _GPU if stream is None else on_gpu(stream)
        ]
    except KeyError:
        run = _first("matmul", _MATMUL, a, b, stream)
    except (AttributeError, TypeError, ValueError):
        run = _matmul
    return _matmul(a, b, stream=stream) if suspended else run(a, b, stream=stream)


def addmm(
    c: mx.array, a: mx.array, b: mx.array, /, alpha: float = 1.0, beta: float = 1.0, *, stream: Any = None
) -> mx.array:
    """MLX's ``beta * c + alpha * (a @ b)``, routed: computed the way that this machine's tables hold to be the fastest.

    ``a`` and ``b`` as for :func:`matmul`. ``c`` is one row, (N,) or (1, N), or has the shape of the result, and has
    their dtype; ``alpha`` and ``beta`` are Python numbers. What the tables have no route for, and any other call that
    MLX takes, is MLX's own op.

    Returns (..., M, N) in the dtype that MLX gives it; a route may add in another order, so that the last bits can
    differ. Raises what MLX's own op raises, and nothing else: a route that fails gives way to that op, with one
    ``RoutingWarning``.
    """
    try:
        run = _ADDMM[a.shape, b.shape, a.itemsize, _default_device().type is _GPU if stream is None else on_gpu(stream)]
    except KeyError:
        run = _first("addmm", _ADDMM, a, b, stream, c)
    except (AttributeError, TypeError, ValueError):
        run = _addmm
    return _addmm(c, a, b, alpha, beta, stream=stream) if suspended else run(c, a, b, alpha, beta, stream=stream)


def quantized_matmul(
    x: mx.array,
    w: mx.array,
    /,
    scales: mx.array,
    biases: mx.array | None = None,
    transpose: bool = True,
    group_size: int | None = None,
    bits: int | None = None,
    mode: str = "affine",
    *,
    stream: Any = None,
) -> mx.array:
    """MLX's product with a quantized matrix, routed: computed the way that this machine's tables hold to be fastest.

    ``x`` (..., M, K) in float32, float16 or bfloat16, leading axes counting as rows, times one matrix ``w``, uint32 and
    packed as ``mx.quantize`` does it along its last axis: (N, K * bits / 32) with ``transpose``, (K, N * bits / 32)
    without. ``scales``, and ``biases`` in mode ``affine``, have one element for each group of ``group_size``: in x's
    dtype for ``affine``, uint8 without biases for the other modes. What the tables have no route for, and any other
    call that MLX takes (a batch of ``w``, scales of another dtype), is MLX's own op.

    Returns (..., M, N) in the dtype that MLX gives it; a route may add in another order, so that the last bits can
    differ. Raises what MLX's own op raises, and nothing else: a route that fails gives way to that op, with one
    ``RoutingWarning``. One difference: with no rows MLX 0.32.4 dies of SIGFPE on the CPU; this returns the empty
    result.
    """
    if stream is None and not _HELD:
        try:
            of_w, of_scales, of_biases, like, sizes, launches = _WEIGHTS[id(w)]
            if (
                of_w() is w
                and of_scales() is scales
                and transpose is like[0]
                and group_size is like[1]
                and bits is like[2]
                and mode == like[3]
                and w.nbytes == sizes[0]
                and scales.nbytes == sizes[1]
                and w.dtype == _PACKED
                and _default_device().type is _GPU
            ):
                dtype, launch = launches[x.shape]
                if x.dtype == dtype:
                    if of_biases is None:
                        if biases is None:
                            return launch((x, w, scales), None)
                    elif biases is not None and of_biases() is biases and biases.nbytes == sizes[2]:
                        return launch((x, w, scales, biases), None)
        except Exception:  # nothing known, or no such call: what follows finds out, and raises what stock raises
            pass
    try:
        gpu = _default_device().type is _GPU if stream is None else on_gpu(stream)
        run = _QUANTIZED[x.shape, w.shape, x.itemsize, transpose, group_size, bits, mode, gpu]
    except KeyError:
        run = _first_quantized(x, w, scales, biases, transpose, group_size, bits, mode, stream)
    except (AttributeError, TypeError, ValueError):
        run = _quantized_matmul
    if suspended:
        run = _quantized_matmul
    return run(x, w, scales, biases, transpose, group_size, bits, mode, stream=stream)


def _with_mlxs_text(ours: Any) -> None:
    """Ends an op's docstring with MLX's of the op that it stands for: after ``enable``, which puts the one in the place
    of the other, ``help(mx.matmul)`` would not have it otherwise."""
    theirs = ORIGINAL[ours.__name__].__doc__
    if ours.__doc__ and theirs:  # python -OO has none of ours
        # MLX indents its text by eight spaces and Python's newest versions ours by none: both by none here.
        mlxs = (line[8:] if line.startswith(" " * 8) else line for line in theirs.rstrip().split("\n"))
        own = (line[4:] if line.startswith(" " * 4) else line for line in ours.__doc__.rstrip().split("\n"))
        ours.__doc__ = "\n".join([*own, "", "MLX's own text:", "", *mlxs]) + "\n"


for _op in (matmul, addmm, quantized_matmul):
    _with_mlxs_text(_op)


def on_gpu(stream: Any) -> bool:
    """Whether anything that MLX takes as ``stream`` is on the GPU. Raises TypeError or ValueError for anything else.

    Devices and streams hash by identity in MLX 0.32 and come as new objects from each call, so they make no key.
    """
    if stream is None:
        return _default_device().type is _GPU
    if not isinstance(stream, mx.Device):
        stream = getattr(stream, "device", None) or mx.Device(stream)
    return stream.type is _GPU


def forget() -> None:
    """Drops every look-up: tables or switches have changed."""
    ready.forget()  # first: what is looked up from the old state is not kept any more when the memos are cleared
    for memo in (_MATMUL, _ADDMM, _QUANTIZED):
        memo.clear()


def _remember(looked_up: int, memo: dict[Any, Any], key: Any, run: Any) -> Any:
    """Keeps a key's callable, unless tables or switches have changed since the generation ``looked_up``, in which its
    look-up began: a first call may compile for a second, and ``disable`` in another thread has to win."""
    with ready.changing:
        if looked_up == ready.generation:
            if len(memo) >= _MOST:
                memo.clear()
            memo[key] = run
    return run


def _first(op: str, memo: dict[Any, Any], a: Any, b: Any, stream: Any, c: Any = None) -> Any:
    """The callable for a key not seen before. Arguments that are no arrays go to stock, which says what is wrong."""
    from . import products, resolve

    if not (isinstance(a, mx.array) and isinstance(b, mx.array)):
        return ORIGINAL[op]
    resolve.ROUTERS.on_change(forget)
    gpu, generation = on_gpu(stream), ready.generation
    run = resolve.safely(resolve.dense, ORIGINAL[op], op, a, b, gpu)
    products.note_dense(op, a, b, c, gpu)
    return _remember(generation, memo, (a.shape, b.shape, a.itemsize, gpu), run)


def _first_quantized(
    x: Any, w: Any, scales: Any, biases: Any, transpose: Any, group_size: Any, bits: Any, mode: Any, stream: Any
) -> Any:
    """The same for ``quantized_matmul``. Its keys hold Python values, of which 4.0 and True equal 4 and 1: only values
    of the types that the op takes are remembered."""
    from . import products, resolve

    plain = (
        type(transpose) is bool and type(mode) is str and all(type(n) in (int, type(None)) for n in (bits, group_size))
    )
    if not (plain and isinstance(x, mx.array) and isinstance(w, mx.array)):
        return _quantized_matmul
    resolve.ROUTERS.on_change(forget)
    gpu, generation = on_gpu(stream), ready.generation
    run = resolve.safely(resolve.quantized, _quantized_matmul, x, w, transpose, group_size, bits, mode, gpu)
    products.note_quantized(x, w, scales, biases, transpose, group_size, bits, mode, gpu)
    return _remember(
        generation, _QUANTIZED, (x.shape, w.shape, x.itemsize, transpose, group_size, bits, mode, gpu), run
    )
