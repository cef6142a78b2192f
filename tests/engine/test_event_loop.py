"""Tests for `streamfn.engine.event_loop`: when a call is cancelled, on a loop with a clock by hand.

How calls run there is in `test_invoker.py`.
"""

from types import SimpleNamespace

import pytest

from streamfn.engine.event_loop import BEAT, _Pulse
from streamfn.engine.invoker import CANCEL_GRACE

TIMEOUT = 60.0
GRACE = CANCEL_GRACE.total_seconds()


class Loop:
    """A loop that turns as it is told."""

    def __init__(self):
        self.now = 0.0
        self._due = None

    def time(self):
        return self.now

    def call_at(self, when, callback):
        self._due = (when, callback)
        return SimpleNamespace(cancel=self._cancel)

    def _cancel(self):
        self._due = None

    @property
    def has_calls(self):
        return self._due is not None

    def turn(self, blocked=0.0):
        """Call what is due next, so many seconds too late."""
        when, callback = self._due
        self._due = None
        self.now = when + blocked
        callback()


class Scope:
    """Of a call that hangs."""

    ended_at = None

    def reschedule(self, when):
        self.ended_at = when


def cancelled_at(block, every, until=TIMEOUT + GRACE):
    """When a call that hangs is cancelled on a loop that is blocked every so many seconds."""
    loop, scope = Loop(), Scope()
    _Pulse(loop).watch(scope, TIMEOUT)
    next_block = every
    while loop.has_calls and loop.now < until:
        is_blocked = loop.now >= next_block
        next_block += every * is_blocked
        loop.turn(blocked=block if is_blocked else 0.0)
    return scope.ended_at


def test_on_a_loop_that_turns_it_is_cancelled_at_its_timeout():
    assert cancelled_at(block=0.0, every=1.0) == pytest.approx(TIMEOUT, abs=0.1)


@pytest.mark.parametrize(("block", "every"), [(0.15, 3.0), (1.0, 25.0), (0.9, 11.0)])
def test_a_loop_that_is_blocked_a_little_cancels_before_the_process_is_killed(block, every):
    """Or each call that hangs would take its neighbours along, and be tried once more alone."""
    end = cancelled_at(block, every)

    assert end is not None
    assert TIMEOUT < end < TIMEOUT + GRACE - BEAT.total_seconds()


def test_one_that_is_blocked_a_lot_leaves_it_to_the_supervisor():
    """Who blames nobody that had company: the call had only half of its time."""
    assert cancelled_at(block=0.5, every=1.0) is None
