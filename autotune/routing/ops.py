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
    """``mx.matmul`` through the routing table; see ``mx.matmul`` for arguments, result and errors."""
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
    """``mx.addmm`` through the routing table; see ``mx.addmm`` for arguments, result and errors."""
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
    """``mx.quantized_matmul`` through the routing table; see there for arguments, result and errors.

    One difference: with no rows MLX 0.32.4 dies of SIGFPE on the CPU; this returns the empty result.
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
    for memo in (_MATMUL, _ADDMM, _QUANTIZED):
        memo.clear()
    ready.forget()


def _remember(memo: dict[Any, Any], key: Any, run: Any) -> Any:
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
    gpu = on_gpu(stream)
    run = resolve.safely(resolve.dense, ORIGINAL[op], op, a, b, gpu)
    products.note_dense(op, a, b, c, gpu)
    return _remember(memo, (a.shape, b.shape, a.itemsize, gpu), run)


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
    gpu = on_gpu(stream)
    run = resolve.safely(resolve.quantized, _quantized_matmul, x, w, transpose, group_size, bits, mode, gpu)
    products.note_quantized(x, w, scales, biases, transpose, group_size, bits, mode, gpu)
    return _remember(_QUANTIZED, (x.shape, w.shape, x.itemsize, transpose, group_size, bits, mode, gpu), run)
