"""autotune: finds, on the machine it runs on, the fastest correct way to compute MLX's matrix products, and takes it.

``autotune.matmul``, ``autotune.addmm`` and ``autotune.quantized_matmul`` stand for MLX's ops of those names and compute
through this machine's routing table; :func:`enable` routes a program's own MLX calls, and :func:`coverage` says which
of its products are routed. Tables come from ``autotune sweep`` and ``autotune export`` on the command line.
"""

from ._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .errors import AutotuneError, TableError, UsageError
    from .routing.coverage import Coverage, coverage
    from .routing.ops import addmm, matmul, quantized_matmul
    from .routing.router import RoutingWarning
    from .routing.switch import disable, enable, stock, use_table

__all__ = [
    "AutotuneError",
    "Coverage",
    "RoutingWarning",
    "TableError",
    "UsageError",
    "__version__",
    "addmm",
    "coverage",
    "disable",
    "enable",
    "matmul",
    "quantized_matmul",
    "stock",
    "use_table",
]

_LATER = {
    "Coverage": "routing.coverage",
    "coverage": "routing.coverage",
    "addmm": "routing.ops",
    "matmul": "routing.ops",
    "quantized_matmul": "routing.ops",
    "AutotuneError": "errors",
    "TableError": "errors",
    "UsageError": "errors",
    "RoutingWarning": "routing.router",
    "disable": "routing.switch",
    "enable": "routing.switch",
    "stock": "routing.switch",
    "use_table": "routing.switch",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})


def __getattr__(name: str) -> object:
    """Loads a name when it is first asked for (PEP 562) and keeps it, so that later uses cost nothing.

    The package itself imports nothing: the command line starts without MLX, and a program pays for the ops alone.
    """
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f".{_LATER[name]}", __name__), name)
    return value
