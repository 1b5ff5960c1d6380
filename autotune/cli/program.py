"""Runs a program with its MLX calls routed: ``python -m autotune.cli.program TABLE RECORD QUIET PROGRAM ...``
(``autotune run``).

TABLE and RECORD are paths or empty; QUIET is empty where a line at the end is to say what was routed. Routing is on
before anything of the program is imported, so that what it takes out of ``mlx.core`` is what ``enable`` put there.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import runpy
import shlex
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

from ..errors import AutotuneError
from ..problem import Problem
from ..routing import coverage, switch
from ..routing.router import disabled


def main() -> None:
    table, record, quiet, program, *arguments = sys.argv[1:]
    if table:
        try:
            switch.use_table(table)
        except AutotuneError as error:
            print(f"autotune: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
    recording = _Recording(Path(record), program) if record else None
    end = _once(lambda: _end(recording, record, program, bool(quiet)))
    # First in is last out: what the program has registered, and threads that it leaves behind, may still compute.
    atexit.register(end)
    if recording is not None:
        recording.recorder.start()
        _before_sigterm(end)
    switch.enable(rules=False)
    sys.argv = [program, *arguments]
    if program.endswith(".py"):
        sys.path[0] = os.path.dirname(os.path.abspath(program))
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


class _Recording:
    """A recorder and the file that its products go to."""

    def __init__(self, path: Path, program: str) -> None:
        # Loaded now and not at the end, when the program may have changed what is found.
        from ..routing.recording import Recorder
        from ..search import workload_file

        self._file = workload_file
        self._path = path.resolve()
        self._description = f"Products of {program}, recorded by autotune run --record-shapes."
        self.recorder = Recorder()

    def save(self) -> str:
        """Adds the products to the file, and says how many are new. Raises :class:`AutotuneError`."""
        calls: Counter[Problem] = Counter()
        for (problem, _), number in self.recorder.calls.copy().items():
            calls[problem] += number
        if not calls:
            return "there was no product to record"
        added = self._file.add(self._path, calls, self._description)
        return f"{len(calls)} products recorded, {added} of them new in the file"

    def saved_elsewhere(self) -> str:
        """Saves to a new file beside the one that has become no workload since the program began; says where."""
        self._path = self._path.with_name(f"{self._path.stem}-{os.getpid()}.yaml")
        try:
            self.save()
        except AutotuneError:
            return "what was recorded is lost"
        return f"what was recorded is in {self._path}"


def _before_sigterm(end: Callable[[], None]) -> None:
    """SIGTERM, which is how servers are ended, would skip what is left to do: it waits for that, unless the program
    takes SIGTERM itself."""

    def ended(number: int, frame: Any) -> None:
        try:
            end()
        finally:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, ended)


def _once(end: Callable[[], None]) -> Callable[[], None]:
    """The function for this process alone: forked ones have their own ends."""
    process = os.getpid()

    def in_this_process() -> None:
        if os.getpid() == process:
            end()

    return in_this_process


def _end(recording: Optional[_Recording], record: str, program: str, quiet: bool) -> None:
    """Saves what was recorded and says what was routed. The program's exit code is settled, and no error changes it."""
    if recording is not None:
        try:
            said = recording.save()
            if not quiet:
                _say(f"{record}: {said}{_left_out(recording.recorder.outside.copy())}")
        except AutotuneError as error:
            _say(f"{error}; {recording.saved_elsewhere()}")
    if not quiet:
        _say(_covered(recording, record, program))


def _covered(recording: Optional[_Recording], record: str, program: str) -> str:
    if disabled():
        return "nothing was routed, since AUTOTUNE_DISABLE is set"
    found = coverage.coverage()
    if recording is not None:
        found = coverage.of(recording.recorder.calls.copy(), {})
    if not found.untuned:
        return found.line
    file = shlex.quote(record or "shapes.yaml")
    dots = " ..." if len(sys.argv) > 1 else ""
    first = "" if record else f"autotune run --record-shapes {file} {shlex.quote(program)}{dots} && "
    return f"{found.line}; to tune them: {first}autotune sweep --workload {file} && autotune export"


def _left_out(outside: Counter[str]) -> str:
    if not outside:
        return ""
    calls = sum(outside.values())
    return (
        f"; {calls} call{'' if calls == 1 else 's'} cannot be in a workload ({coverage.counted(outside.most_common())})"
    )


def _say(text: str) -> None:
    # The program has closed it, its reader has left, or a signal came in the midst of printing.
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        if sys.stderr is not None:
            print(f"autotune: {text}", file=sys.stderr)


if __name__ == "__main__":
    main()
