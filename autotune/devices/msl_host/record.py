"""The source that MLX would hand to Apple's compiler, taken down without a Metal device.

``mx.fast.metal_kernel`` refuses to run where there is no Metal, but it may be *exported* anywhere: under
``mx.export_function`` a call only becomes a node of the graph, and with ``verbose=True`` MLX prints the whole generated
source, signature and instantiation included, to the process's standard output (seen with MLX 0.32 on Linux).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import mlx.core as mx

from .errors import HostError

_PRINTED = re.compile(r"Generated source code for `([^`]*)`:\n```\n(.*?)\n```\n", re.S)
_lock = threading.Lock()


def record(call: Callable[..., Any], *arrays: mx.array) -> list[str]:
    """The sources of the kernels that ``call(*arrays)`` starts, in order; it must start them with ``verbose=True``.

    Arrays are not computed. Raises :class:`HostError` where nothing was printed, and what ``call`` raises.
    """
    with tempfile.TemporaryDirectory() as folder, _captured() as output:
        mx.export_function(str(Path(folder) / "call.mlxfn"), _several(call), *arrays)
    sources = [source for _, source in _PRINTED.findall(output.text)]
    if not sources:
        raise HostError("source", "the call started no mx.fast.metal_kernel with verbose=True")
    return sources


def _several(call: Callable[..., Any]) -> Callable[..., Any]:
    # An exported function returns arrays in a tuple; a kernel's call gives a list.
    def exported(*arrays: mx.array) -> Any:
        result = call(*arrays)
        return tuple(result) if isinstance(result, (list, tuple)) else result

    return exported


class _Output:
    text = ""


@contextlib.contextmanager
def _captured() -> Iterator[_Output]:
    """What C++ and C write to file descriptor 1 meanwhile. One thread at a time: the descriptor is the process's.

    Python's own stdout is flushed before, so that what it held goes where it was meant to; a capturing test runner that
    has replaced the descriptor gets it back as it was.
    """
    output = _Output()
    with _lock, tempfile.TemporaryFile() as file:
        _flush(sys.stdout)
        saved = os.dup(1)
        try:
            os.dup2(file.fileno(), 1)
            yield output
        finally:
            # std::cout is tied to C's stdio here, and MLX ends its print with std::endl.
            ctypes.CDLL(None).fflush(None)
            os.dup2(saved, 1)
            os.close(saved)
            file.seek(0)
            output.text = file.read().decode("utf-8", "replace")


def _flush(stream: IO[str] | None) -> None:
    with contextlib.suppress(AttributeError, ValueError, OSError):
        if stream is not None:
            stream.flush()
