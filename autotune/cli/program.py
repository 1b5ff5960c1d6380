"""Runs a program with its MLX calls routed: ``python -m autotune.cli.program TABLE RECORD QUIET PROGRAM ...``
(``autotune run``).

TABLE and RECORD are paths or empty; QUIET is empty where a line at the end is to say what was routed. Routing is on
before anything of the program is imported, so that what it takes out of ``mlx.core`` is what ``enable`` put there.

The program has a ``__main__`` of its own, which stays until the process ends: threads that it leaves behind, children
that they spawn and functions of ``atexit`` look into it after its main module has come to its end.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import os
import runpy
import shlex
import signal
import sys
from collections import Counter
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
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
    recording = _Recording(record, program, bool(quiet)) if record else None
    # First in is last out: what the program has registered, and threads that it leaves behind, may still compute.
    command = shlex.join([program, *arguments])
    atexit.register(_once(lambda: _end(recording, command, bool(quiet))))
    if recording is not None:
        recording.recorder.start()
        _before_signals(recording)
    switch.enable(rules=False)
    sys.argv = [program, *arguments]
    sys.modules["__main__"] = own = ModuleType("__main__")
    # The interpreter's own __main__ has the module here; exec by itself would put the module's dict.
    own.__dict__["__builtins__"] = builtins
    if not program.endswith(".py"):
        # What the interpreter's -m itself calls. runpy.run_module takes its __main__ away again when the module ends.
        runpy._run_module_as_main(program)  # type: ignore[attr-defined]
        return
    if not getattr(sys.flags, "safe_path", False):  # Python 3.11 has it, and then no entry of ours comes first
        sys.path[0] = os.path.dirname(os.path.abspath(program))
    exec(_code(program, own), own.__dict__)


def _code(program: str, own: ModuleType) -> CodeType:
    """The code of this file, for the module that is given what the interpreter gives a file's ``__main__``."""
    path = os.path.abspath(program)
    own.__file__ = path
    own.__loader__ = loader = SourceFileLoader("__main__", path)
    own.__dict__["__cached__"] = None
    return compile(loader.get_data(path), path, "exec", dont_inherit=True)


class _Recording:
    """A recorder and the file that its products go to."""

    def __init__(self, record: str, program: str, quiet: bool) -> None:
        # Loaded now and not at the end, when the program may have changed what is found. An import at the end would
        # also cost a program that Ctrl-C ends its exit status: CPython forgets the signal as soon as code is made from
        # text, which namedtuple and dataclass do.
        from ..routing.recorder import Recorder
        from ..search import workload_file

        self._file = workload_file
        self.record = record
        self._path = Path(record).resolve()
        self._description = f"Products of {program}, recorded by autotune run --record-shapes."
        self._quiet = quiet
        self._saving = False
        self._ended_by: Optional[int] = None
        self.recorder = Recorder()

    def save(self) -> None:
        """Adds the products to the file and says how many are new. No error leaves it."""
        self._saving = True
        try:
            said = self._added()
            if not self._quiet:
                _say(f"{self.record}: {said}{_left_out(self.recorder.outside.copy())}")
        except AutotuneError as error:
            _say(f"{error}; {self._saved_elsewhere()}")
        finally:
            self._saving = False
            if self._ended_by is not None:
                _die(self._ended_by)

    def end(self, number: int) -> None:
        """Saves and ends the process by this signal. One that comes while the file is written waits for that: the
        file is locked, and a second save would wait for the first, which it keeps from going on."""
        if self._saving:
            self._ended_by = number
            return
        try:
            self.save()
        finally:
            _die(number)

    def _added(self) -> str:
        calls: Counter[Problem] = Counter()
        for (problem, _), number in self.recorder.calls.copy().items():
            calls[problem] += number
        if not calls:
            return "there was no product to record"
        added = self._file.add(self._path, calls, self._description)
        return f"{len(calls)} product{'' if len(calls) == 1 else 's'} recorded, {added} new in the file"

    def _saved_elsewhere(self) -> str:
        """Saves to a new file beside the one that has become no workload since the program began; says where."""
        self._path = self._path.with_name(f"{self._path.stem}-{os.getpid()}.yaml")
        try:
            self._added()
        except AutotuneError:
            return "what was recorded is lost"
        return f"what was recorded is in {self._path}"


_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
"""How servers, and programs whose terminal closes, are ended."""


def _before_signals(recording: _Recording) -> None:
    """These signals would skip what is left to do: they wait until the file is saved, unless the program takes them
    itself or they are ignored (nohup). Nothing is said of what was routed: the signal may have come in the midst of a
    look-up, which holds the router's lock."""
    process = os.getpid()

    def ended(number: int, frame: Any) -> None:
        if os.getpid() == process:
            recording.end(number)
        else:
            _die(number)

    for number in _SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, ended)


def _die(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _once(end: Callable[[], None]) -> Callable[[], None]:
    """The function for this process alone: forked ones have their own ends."""
    process = os.getpid()

    def in_this_process() -> None:
        if os.getpid() == process:
            end()

    return in_this_process


def _end(recording: Optional[_Recording], program: str, quiet: bool) -> None:
    """Saves what was recorded and says what was routed. The program's exit code is settled, and no error changes it."""
    if recording is not None:
        recording.save()
    if not quiet:
        _say(_covered(recording, program))


def _covered(recording: Optional[_Recording], command: str) -> str:
    record = recording.record if recording is not None else ""
    if disabled():
        return "nothing was routed, since AUTOTUNE_DISABLE is set"
    found = coverage.coverage()
    if recording is not None:
        found = coverage.of(recording.recorder.calls.copy(), {})
    if not found.products and not found.outside:
        return "no product of MLX was computed through it in this process (those of child processes are not counted)"
    if not found.untuned:
        return found.line
    file = shlex.quote(record or "shapes.yaml")
    first = "" if record else f"autotune run --record-shapes {file} {command} && "
    return f"{found.line}; to tune them: {first}autotune sweep --workload {file} --budget 20m && autotune export"


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
