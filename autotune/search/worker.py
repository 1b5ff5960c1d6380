"""The process that touches the device: started by ``isolated.py``, answers one JSON line for each JSON line.

It can be killed at any moment without harm to the sweep. Whatever a library prints goes to stderr; the protocol has a
stream of its own. ``python -m autotune.search.worker KIND CACHE_BYTES [MODULE ...]`` imports the modules first, which
may register kernels.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import signal
import sys
import threading
import time
from typing import Any, TextIO

_PR_SET_PDEATHSIG = 1
MEMORY_SHARE = 0.8
"""Part of the machine's memory that a route on the CPU may take before it is told no."""


def main(arguments: list[str]) -> None:
    kind, cache_bytes, *modules = arguments
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    _be_first_to_die()
    _end_with_parent()
    if kind == "cpu":
        _limit_memory()
    from ..devices.mlx import MlxDevice

    for module in modules:
        importlib.import_module(module)
    device = MlxDevice(kind, int(cache_bytes))
    _answer(out, {"ready": True})
    session: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "open":
                session = None
                session = device.open(_problem(request["problem"]), request["seed"], request["load"])
                _answer(out, {"ok": True})
            else:
                _answer(out, _do(session, request))
        except MemoryError as error:
            _answer(out, {"failed": "memory", "detail": str(error) or "out of memory"})
        except Exception as error:
            _answer(out, {"failed": _kind_of(error), "detail": f"{type(error).__name__}: {error}"})


def _do(session: Any, request: dict[str, Any]) -> dict[str, Any]:
    from ..kernels import Route

    route = Route.parse(request["route"])
    if request["do"] == "prove":
        return _prove(route, request)
    if request["do"] == "check":
        return vars(session.check(route))
    ask = session.host if request["do"] == "host" else session.time
    return {"seconds": ask(route, request["calls"])}


def _prove(route: Any, request: dict[str, Any]) -> dict[str, Any]:
    """A route on a case of its own; needs no open problem."""
    from ..devices import proof
    from ..devices.cases import Case

    return proof.prove(route, Case.parse(request["case"]), request["seed"], request["way"]).as_json()


def _problem(text: str) -> Any:
    from ..problem import Problem

    return Problem.parse(text)


def _kind_of(error: Exception) -> str:
    text = str(error).lower()
    return "memory" if "alloc" in text or "out of memory" in text else "raised"


def _answer(out: TextIO, content: dict[str, Any]) -> None:
    out.write(json.dumps(content) + "\n")


def _be_first_to_die() -> None:
    """On Linux, asks the kernel to end this process before any other when memory runs out."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")


def _end_with_parent() -> None:
    """A sweep that is killed must not leave a worker on the device, be it in the middle of a route that hangs."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    if sys.platform == "linux":  # and by the kernel, should a route never let go of the interpreter's lock
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _limit_memory() -> None:
    """On the CPU, an allocation beyond a share of the machine's memory fails instead of making the system swap."""
    import resource

    with contextlib.suppress(OSError, ValueError, AttributeError):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (int(total * MEMORY_SHARE), hard))


if __name__ == "__main__":
    main(sys.argv[1:])
