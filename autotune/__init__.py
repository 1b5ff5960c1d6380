"""autotune: finds, on the machine it runs on, the fastest correct way to compute MLX's matrix products, and takes it.

``autotune.matmul``, ``autotune.addmm`` and ``autotune.quantized_matmul`` stand for MLX's ops of those names and compute
through this machine's routing table; :func:`enable` routes a program's own MLX calls. Tables come from
``autotune sweep`` and ``autotune export`` on the command line.
"""

from ._version import __version__
from .routing.ops import addmm, matmul, quantized_matmul

TYPE_CHECKING = False  # typing's own costs 7 ms to import, half of what this package may take
if TYPE_CHECKING:
    from .errors import AutotuneError, TableError, UsageError
    from .routing.router import RoutingWarning
    from .routing.switch import disable, enable, stock, use_table

__all__ = [
    "AutotuneError",
    "RoutingWarning",
    "TableError",
    "UsageError",
    "__version__",
    "addmm",
    "disable",
    "enable",
    "matmul",
    "quantized_matmul",
    "stock",
    "use_table",
]

_LATER = {
    "AutotuneError": "errors",
    "TableError": "errors",
    "UsageError": "errors",
    "RoutingWarning": "routing.router",
    "disable": "routing.switch",
    "enable": "routing.switch",
    "stock": "routing.switch",
    "use_table": "routing.switch",
}


def __getattr__(name: str) -> object:
    """Loads what most imports never touch when it is first asked for (PEP 562): it keeps the import under 15 ms."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LATER[name]}", __name__), name)
