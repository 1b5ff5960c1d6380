"""What the host raises: one error, with the kind of thing that went wrong and the lines of the kernel where it did."""

from __future__ import annotations

from ...errors import AutotuneError


class HostError(AutotuneError):
    """A kernel did not compile, or a launch went wrong, or the checker found something.

    ``kind`` is ``source`` (not what MLX generates), ``compile``, ``lint``, ``launch``, or the runtime's name of what it
    found (``race``, ``bounds``, ``uninitialised``, ...); ``lines`` are the places in the kernel's source, each as
    ``line 12: acc += tile[i];``.
    """

    def __init__(self, kind: str, detail: str, lines: tuple[str, ...] = ()) -> None:
        text = "\n  ".join([f"{kind}: {detail}", *lines])
        super().__init__(text)
        self.kind = kind
        self.detail = detail
        self.lines = lines
