"""A device in a process of its own, with a watchdog: what it raises, hangs or dies of costs one route.

The process is started when first needed and again after it died; the problem that was open is opened again under the
same seed. A request that is not answered in time ends the process.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import machine
from ..devices.base import Accuracy, RouteFailed
from ..devices.cases import Case
from ..devices.proof import Proof
from ..errors import UnfitError
from ..kernels import Route
from ..problem import Problem

# Started so that it imports the very package that runs here: `-m` would take a folder of that name beside the user.
_START = f"""import sys
sys.path[0] = {str(Path(__file__).resolve().parents[2])!r}
from autotune.search import worker
worker.main(sys.argv[1:])"""
PATIENCE = 120.0
"""Seconds without an answer after which a route has hung; a first compile on a GPU takes up to tens of seconds."""

LOST = (
    "misaligned address",
    "illegal memory access",
    "illegal instruction",
    "invalid program counter",
    "unspecified launch failure",
    "device-side assert",
    "hardware stack error",
    "launch timed out",
    "operation not supported on global/shared address space",
    "uncorrectable ECC error",
    "uncorrectable NVLink error",
    "Invalid access of peer GPU memory",
    "tensor memory not completely freed",
)
"""What CUDA says of an error after which every further call of the process fails (cudaError_t in the CUDA runtime's
documentation: "the process must be terminated and relaunched")."""


class IsolatedDevice:
    """MLX's ``gpu`` or ``cpu`` behind a worker process; a :class:`autotune.devices.base.Device`."""

    def __init__(self, kind: str, cache_bytes: int, patience: float = PATIENCE, modules: Sequence[str] = ()) -> None:
        """``modules`` are imported in the worker first: kernels of the user's own may register there."""
        self.machine = machine.local(kind)
        self._command = [sys.executable, "-c", _START, kind, str(cache_bytes), *modules]
        self._patience = patience
        self._process: subprocess.Popen[str] | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the device
        self._pending = ""

    def open(self, problem: Problem, seed: int, load: str) -> IsolatedSession:
        session = IsolatedSession(self, problem, seed, load)
        session.reopen()
        return session

    def close(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):  # what was not yet written to a dead process
                    if pipe:
                        pipe.close()

    def prove(self, route: Route, case: Case, seed: int, way: str = "") -> Proof:
        """``devices.proof.prove`` in the worker. Raises :class:`RouteFailed`."""
        self.start()
        request = {"do": "prove", "route": str(route), "case": str(case), "seed": seed, "way": way}
        return Proof.of_json(self.ask(request))

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Starts the worker if none is alive. Raises :class:`UnfitError` where it cannot even get ready."""
        if self.alive:
            return
        self.close()
        self._errors.seek(0)
        self._errors.truncate()
        self._pending = ""
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,  # Ctrl-C is for the sweep, which lets the measurement in flight finish
        )
        try:
            self._receive(time.monotonic() + max(self._patience, 60))
        except RouteFailed as error:
            raise UnfitError(f"the measuring process does not start ({error})", "run: autotune devices") from None

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request and its answer. Raises :class:`RouteFailed` with kind raised, memory, crashed or hung."""
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise self._died() from None
        answer = self._receive(time.monotonic() + self._patience)
        if "failed" in answer:
            if any(words in answer["detail"] for words in LOST):
                self.close()
                raise RouteFailed("crashed", answer["detail"])
            raise RouteFailed(answer["failed"], answer["detail"])
        return answer

    def _receive(self, deadline: float) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while "\n" not in self._pending:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self.close()
                raise RouteFailed("hung", f"no answer in {self._patience:.0f} s")
            chunk = os.read(descriptor, 65536)
            if not chunk:
                raise self._died()
            self._pending += chunk.decode()
        line, self._pending = self._pending.split("\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _died(self) -> RouteFailed:
        assert self._process is not None
        code = self._process.wait()
        self.close()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        known = {number.value: number.name for number in signal.Signals}
        how = known.get(-code, f"signal {-code}") if code < 0 else f"exit code {code}"
        return RouteFailed("crashed", f"{how}{': ' + said[-1] if said else ''}")


class IsolatedSession:
    """One problem in the worker; opens it again in a new worker after a death."""

    def __init__(self, device: IsolatedDevice, problem: Problem, seed: int, load: str) -> None:
        self._device = device
        self._open = {"do": "open", "problem": str(problem), "seed": seed, "load": load}

    def reopen(self) -> None:
        self._device.start()
        self._device.ask(self._open)

    def check(self, route: Route) -> Accuracy:
        return Accuracy(**self._ask({"do": "check", "route": str(route)}))

    def time(self, route: Route, calls: int) -> float:
        return float(self._ask({"do": "time", "route": str(route), "calls": calls})["seconds"])

    def host(self, route: Route, calls: int) -> float:
        return float(self._ask({"do": "host", "route": str(route), "calls": calls})["seconds"])

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if not self._device.alive:
            self.reopen()
        return self._device.ask(request)
