"""One measurement at a time on a machine: two would measure each other."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir

from ..errors import AutotuneError

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
"""No link is followed, and no pipe waited for."""


def path() -> Path:
    """This user's lock: a file in the system's temporary folder, so that processes with other data folders see it too.
    Those with another ``TMPDIR`` do not, and other users' have locks of their own."""
    return Path(gettempdir()) / f"autotune-{os.getuid()}.lock"


@contextmanager
def exclusive() -> Iterator[None]:
    """Holds the lock while inside; the system lets go of it when the process dies, however it dies.

    Raises :class:`AutotuneError` that names the process which holds it, or says why the file cannot be used.
    """
    with os.fdopen(_open(path()), "r+", encoding="ascii", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AutotuneError(
                f"another autotune of yours measures on this machine (process {file.read().strip() or 'unknown'})",
                "wait for it or end it; what a sweep has measured is kept",
            ) from None
        except OSError as error:
            raise _unusable(path(), error.strerror) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _open(path: Path) -> int:
    """The file's descriptor, for reading and writing. Everybody can write to that folder: what lies there under the
    lock's name and is no file of ours alone may be somebody's trap, such as a link to a file that would be emptied."""
    try:
        descriptor = os.open(path, _FLAGS, 0o600)
    except OSError as error:
        raise _unusable(path, error.strerror) from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_nlink > 1:
        os.close(descriptor)
        raise _unusable(path, "no file of yours alone")
    return descriptor


def _unusable(path: Path, why: str | None) -> AutotuneError:
    return AutotuneError(f"cannot lock {path} ({why})", "remove it, or name a folder of yours in TMPDIR")
