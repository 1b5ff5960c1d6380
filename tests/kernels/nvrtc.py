"""Our programs through NVIDIA's run-time compiler, which needs no GPU."""

from __future__ import annotations

import re

from autotune.kernels import cuda, nvrtc
from autotune.kernels.program import Launch

ARCHITECTURE = "sm_90a"


def compiled(launch: Launch) -> dict[str, int]:
    """Compiles a launch: registers a thread, bytes spilled, bytes of shared memory. Raises CompileError."""
    compiler = nvrtc.compiler()
    assert compiler is not None
    text = cuda.source(launch, "kernel")
    _, log = compiler.compile(text, ARCHITECTURE, ["--ptxas-options=-v"])
    found = {
        "registers": re.search(r"Used (\d+) registers", log),
        "spilled": re.search(r"(\d+) bytes spill stores", log),
        "shared": re.search(r"(\d+) bytes smem", log),
    }
    return {what: int(match[1]) if match else 0 for what, match in found.items()}
