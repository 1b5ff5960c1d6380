"""Ctrl-C in a sweep."""

from __future__ import annotations

import signal
from typing import Any

from .output import note


class Stop:
    """The first Ctrl-C lets the running measurement finish, the second ends at once."""

    def __init__(self) -> None:
        self._asked = False
        self._before: Any = None

    def asked(self) -> bool:
        return self._asked

    def __enter__(self) -> None:
        def first(number: int, frame: Any) -> None:
            self._asked = True
            note("finishing the running measurement; Ctrl-C again ends at once")
            signal.signal(signal.SIGINT, signal.default_int_handler)

        self._before = signal.signal(signal.SIGINT, first)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)
