"""What commands that measure do before: see that this machine is fit for it and that nothing else measures on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import UnfitError
from .output import note


@contextmanager
def measuring(kind: str, force: bool) -> Iterator[None]:
    """Inside, this process alone measures on this machine, of all of this user's.

    ``kind`` is ``gpu`` or ``cpu``. Raises :class:`UnfitError` where the machine or its MLX build is unfit to measure,
    of which ``force`` makes a warning, and :class:`AutotuneError` where another process measures.
    """
    from ..devices import preflight
    from ..machine import local
    from ..search import lock

    for objection in preflight.objections(local(kind)):
        if not force:
            raise UnfitError(objection, "or measure all the same with --force")
        note(f"warning: {objection}")
    with lock.exclusive():
        yield
