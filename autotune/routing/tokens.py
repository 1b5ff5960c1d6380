"""What is under way, told by tokens that live as long as it does.

A counter that goes up and down stays up for good where an interrupt (Ctrl-C, a notebook's stop button) comes between
the two. A token goes with the frame that has it, whatever ends that.
"""

from __future__ import annotations

import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Live = dict[weakref.ref[Any], None]
else:
    Live = dict


class Token:
    """Keeps something under way while anything refers to it."""

    __slots__ = ("__weakref__",)


class Tokens(Live):
    """Those that are there: false where there is none. Asking costs what asking a dictionary does."""

    def take(self) -> Token:
        token = Token()
        # The callback is C's own, which no interrupt gets into.
        self[weakref.ref(token, self.__delitem__)] = None
        return token
