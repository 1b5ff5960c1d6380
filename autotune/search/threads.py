"""One BLAS thread for as long as the search computes.

Its matrices are small: a second thread shortens nothing, and where cores are shared, as they are with the programs that
a sweep times, the threads wait for each other at every product (docs/search.md has the numbers). The limit ends with
the block, so that the rest of the process has its threads back.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np  # noqa: F401  the library that is limited must be loaded before it is looked for
from threadpoolctl import ThreadpoolController

_lock = threading.RLock()
"""The limit is the process's: of two blocks that overlapped in two threads, the one to end last would restore the limit
of the other. So they wait for each other, some milliseconds."""


@contextmanager
def single() -> Iterator[None]:
    """Holds BLAS to one thread in the block. A library without such a limit, as Apple's Accelerate, stays as it is."""
    with _lock, _controller().limit(limits=1):
        yield


@cache
def _controller() -> ThreadpoolController:
    """Made once: to look for libraries costs a millisecond or more, a limit some microseconds."""
    return ThreadpoolController().select(user_api="blas")
