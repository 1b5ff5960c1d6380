"""Compositions of stock ops as launches: sums of stock calls and of the small kernels around them.

The small kernels (copies, casts, sums) are those that the composition's code asks MLX for; views cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ...errors import unknown
from ...kernels import Route
from ...problem import DTYPES, Problem
from . import stock
from .chip import SimulatedChip
from .tiled import elementwise
from .work import Launch


def launches(problem: Problem, chip: SimulatedChip, version: str, route: Route) -> list[Launch]:
    """What a call of the composition launches, in order. Raises :class:`UsageError` for one that has no model."""
    if route.kernel not in BY_NAME:
        raise unknown("kernel with a model", route.kernel, BY_NAME)
    return BY_NAME[route.kernel](problem, chip, version, route)


def _pad(p: Problem, chip: SimulatedChip, version: str, route: Route) -> list[Launch]:
    multiple = int(route.config["multiple"])
    padded = p.with_m(-(-p.m // multiple) * multiple)
    count = padded.m * p.k * p.batch
    copy = elementwise("pad", count, 2.0 * count * DTYPES[p.dtype])
    copies = 1 if route.config["fill"] == "repeat" else 2
    return [copy] * copies + stock.launches(padded, chip, version)


def _chunk(p: Problem, chip: SimulatedChip, version: str, route: Route) -> list[Launch]:
    rows = int(route.config["rows"])
    whole, rest = divmod(p.m, rows)
    pieces = [rows] * whole + ([rest] if rest else [])
    found: list[Launch] = []
    for number, m in enumerate(pieces):
        piece = stock.launches(p.with_m(m), chip, version)
        # The first piece brings the weights into the cache, if they fit.
        if number and p.weight_bytes <= chip.cache_bytes:
            piece = [replace(each, weights=0.0, other=each.other + each.weights) for each in piece]
        found += piece
    item = DTYPES[p.dtype]
    return found + [elementwise("concatenate", m * p.n * p.batch, 2.0 * m * p.n * p.batch * item) for m in pieces]


def _dequantize(p: Problem, chip: SimulatedChip, version: str, route: Route) -> list[Launch]:
    assert p.quantization is not None
    wide = route.config["compute"] == "float32"
    dtype = "f32" if wide else p.dtype
    dense = Problem("matmul", p.m, p.n, p.k, dtype, p.layout, batch=p.batch)
    q, elements = p.quantization, p.n * p.k * p.batch
    unpack = elementwise("dequantize", elements, 0.0, 2 + chip.constants.unpack(q.mode, q.bits))
    moved = float(dense.weight_bytes)
    unpack = replace(unpack, weights=p.weight_bytes, other=moved, requested=p.weight_bytes + moved)
    # The dense weights were just written: they are in the cache if they fit.
    product = [
        replace(each, weights=0.0, other=each.other + each.weights) for each in stock.launches(dense, chip, version)
    ]
    casts = [_cast(p.m * p.k * p.batch, p.dtype, "f32"), _cast(p.m * p.n * p.batch, "f32", p.dtype)] if wide else []
    groups = elements // q.group_size
    scales = [_cast(groups, p.dtype, "f32")] * (2 if q.has_biases else 0) if wide else []
    return casts[:1] + scales + [unpack] + product + casts[1:]


def _fold_k(p: Problem, chip: SimulatedChip, version: str, route: Route) -> list[Launch]:
    parts = int(route.config["parts"])
    folded = replace(p, m=p.m * parts, n=p.n * parts, k=p.k // parts)
    count, item = parts * p.m * p.n, DTYPES[p.dtype]
    # A diagonal of the product: every element that is read brings its neighbours along.
    gather = elementwise("diagonal", count, float(count) * (item * min(parts, 32) + 4))
    total = elementwise("sum", p.m * p.n, float(count) * 4 + p.m * p.n * item)
    wide = route.config["sum"] == "float32"
    after = [gather, total, _cast(p.m * p.n, "f32", p.dtype)] if wide else [replace(gather, name="sum")]
    return stock.launches(folded, chip, version) + after


def _split_k(p: Problem, chip: SimulatedChip, version: str, route: Route) -> list[Launch]:
    parts = int(route.config["parts"])
    op = "quantized_matmul" if p.quantization else "matmul"
    sliced = replace(p, op=op, k=p.k // parts, batch=parts, epilogue="")
    count, item = p.m * p.n * parts, DTYPES[p.dtype]
    casts = [] if p.dtype == "f32" else [_cast(count, p.dtype, "f32"), _cast(p.m * p.n, "f32", p.dtype)]
    total = elementwise("sum", p.m * p.n, float(count) * 4 + p.m * p.n * 4)
    added = [elementwise("addend", p.m * p.n, 2.0 * p.m * p.n * item)] * 3 if p.epilogue else []
    return stock.launches(sliced, chip, version) + casts[:1] + [total] + added + casts[1:]


def _upcast(p: Problem, chip: SimulatedChip, version: str, route: Route) -> list[Launch]:
    wide = replace(p, dtype="f32")
    before = [_cast(p.m * p.k * p.batch, p.dtype, "f32")]
    if p.quantization is None:
        before.append(_cast(p.n * p.k * p.batch, p.dtype, "f32"))
    elif p.quantization.has_biases:
        before += [_cast(p.n * p.k * p.batch // p.quantization.group_size, p.dtype, "f32")] * 2
    return before + stock.launches(wide, chip, version) + [_cast(p.m * p.n * p.batch, "f32", p.dtype)]


def _cast(elements: int, source: str, target: str) -> Launch:
    return elementwise("cast", elements, float(elements) * (DTYPES[source] + DTYPES[target]))


BY_NAME: dict[str, Callable[[Problem, SimulatedChip, str, Route], list[Launch]]] = {
    "pad": _pad,
    "chunk": _chunk,
    "dequantize": _dequantize,
    "fold_k": _fold_k,
    "split_k": _split_k,
    "upcast": _upcast,
}
