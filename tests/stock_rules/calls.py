"""Short ways to write a stock call down."""

from __future__ import annotations

from autotune.problem import Problem
from autotune.stock_rules import StockDevice, StockKernel, stock_kernel

NEWEST = "0.32.2"


def stock(text: str, device: str, version: str = NEWEST, nax: bool = True, tf32: bool = True) -> StockKernel:
    """The kernel for a problem on ``g17s`` or another Metal device; ``nax`` is what OS and build allow."""
    return stock_kernel(Problem.parse(text), StockDevice("metal", f"applegpu_{device}", nax=nax, tf32=tf32), version)


def tile(kernel: StockKernel) -> tuple[int, int, int, int, int]:
    return kernel.bm, kernel.bn, kernel.bk, kernel.wm, kernel.wn


def quantized(
    m: int, n: int, k: int, quantization: str = "affine-b4-g64", layout: str = "nt", dtype: str = "f16"
) -> str:
    return f"quantized_matmul M={m} N={n} K={k} {dtype} {quantization} {layout}"


def dense(m: int, n: int, k: int, layout: str = "nn", dtype: str = "f16", batch: int = 1) -> str:
    return f"matmul M={m} N={n} K={k} B={batch} {dtype} {layout}"
