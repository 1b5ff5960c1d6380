"""Tokens: there while something has them, and gone with whatever ends that."""

from __future__ import annotations

import gc
import signal
import time

import pytest

from autotune.routing import ready
from autotune.routing.tokens import Tokens


def test_are_there_while_they_are_held():
    tokens = Tokens()
    assert not tokens
    first, second = tokens.take(), tokens.take()
    assert len(tokens) == 2
    del first
    assert tokens
    del second
    assert not tokens


def test_go_with_an_exception():
    tokens = Tokens()

    def fails():
        token = tokens.take()
        raise KeyError(token)

    try:
        fails()
    except KeyError:
        assert tokens
    gc.collect()
    assert not tokens


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers here")
def test_an_interrupt_anywhere_leaves_none_behind():
    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    interrupts = 0
    try:
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            try:
                signal.setitimer(signal.ITIMER_REAL, 5e-5)
                while True:
                    with ready.holding():
                        pass
            except KeyboardInterrupt:
                interrupts += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    gc.collect()
    assert interrupts > 10
    assert not ready.HELD
