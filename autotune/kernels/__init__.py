"""The kernels: stock, compositions of stock ops, and (one family a file) Metal kernels of our own.

Adding a kernel means adding one file and one line here.
"""

from __future__ import annotations

from ..errors import unknown
from ..problem import Problem
from . import fingerprint
from .base import STOCK, Config, Kernel, Op, Parameter, Route
from .chunk import Chunk
from .dequantize import Dequantize
from .fold_k import FoldK
from .gemm import Gemm
from .gemm_nax import GemmNax
from .gemv import Gemv
from .pad import Pad
from .qmm import Qmm
from .qmm_nax import QmmNax
from .qmv import Qmv
from .qmv_mma import QmvMma
from .split_k import SplitK
from .stock import Stock
from .upcast import Upcast

KERNELS: dict[str, Kernel] = {
    kernel.name: kernel
    for kernel in (
        *(Stock(), Pad(), Chunk(), Dequantize(), SplitK(), FoldK(), Upcast()),
        *(Qmv(), QmvMma(), Qmm(), QmmNax(), Gemv(), Gemm(), GemmNax()),
    )
}

__all__ = [
    "KERNELS",
    "STOCK",
    "Config",
    "Kernel",
    "Op",
    "Parameter",
    "Route",
    "accepts",
    "build",
    "fingerprint",
    "kernel",
    "probe",
]


def kernel(name: str) -> Kernel:
    """The kernel of that name; raises :class:`UsageError` with the nearest names."""
    if name not in KERNELS:
        raise unknown("kernel", name, KERNELS)
    return KERNELS[name]


def accepts(route: Route, problem: Problem) -> bool:
    """Whether the route is of a known kernel, inside its space and legal for the problem."""
    found = KERNELS.get(route.kernel)
    return found is not None and found.accepts(problem, route.config)


def build(route: Route, problem: Problem, bare: bool = False) -> Op:
    """The route as a callable with the op's signature; ``bare`` where nobody transforms it (:meth:`Kernel.bare`)."""
    found = kernel(route.kernel)
    return (found.bare if bare else found.build)(problem, route.config)


def probe(route: Route, problem: Problem) -> None:
    """Tries the route out where its kernel needs it; raises what goes wrong (see :meth:`Kernel.probe`)."""
    kernel(route.kernel).probe(problem, route.config)
