"""One sweep at a time on a machine: two would measure each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import AutotuneError


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Holds the lock while inside; the system lets go of it when the process dies, however it dies.

    Raises :class:`AutotuneError` that names the process which holds it, or says why the folder cannot be written.
    """
    import fcntl

    path = folder / "sweep.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="ascii")
    except OSError as error:
        raise AutotuneError(
            f"cannot write to {folder} ({error.strerror})", "name a folder of yours in AUTOTUNE_DATA"
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise AutotuneError(
                f"another sweep is running on this machine (process {file.read().strip() or 'unknown'})",
                "wait for it or end it; what it has measured is kept",
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
