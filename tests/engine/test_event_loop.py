"""Tests for `streamfn.engine.event_loop`: when a call is cancelled, on a loop with a manual clock,
and how precise the loop's timers are.

`test_invoker.py` tests how calls run on the loop.
"""

import asyncio
import selectors
import socket
import time
from types import SimpleNamespace

import pytest

from streamfn.engine import event_loop
from streamfn.engine.event_loop import BEAT, _new_loop, _Pulse, _PunctualSelector
from streamfn.engine.handling import CANCEL_GRACE

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


@pytest.fixture
def selector():
    with _PunctualSelector() as selector:
        yield selector


def waited(selector, timeout):
    began = time.perf_counter()
    assert selector.select(timeout) == []
    return time.perf_counter() - began


def test_a_timer_need_not_wait_for_a_whole_millisecond(selector):
    """The best of many, for the machine may have something else to do."""
    assert 0.0002 <= min(waited(selector, 0.0002) for _ in range(50)) < 0.001


@pytest.mark.parametrize("files_max", [event_loop.FILES_MAX, 0])
def test_a_file_that_is_ready_ends_the_wait(selector, monkeypatch, files_max):
    """Where `select` cannot take the selector (0) as well."""
    monkeypatch.setattr(event_loop, "FILES_MAX", files_max)
    here, there = socket.socketpair()
    with here, there:
        selector.register(here, selectors.EVENT_READ)
        assert waited(selector, 0.01) >= 0.01
        there.send(b"x")

        [(key, _)] = selector.select(60.0)

        assert key.fileobj is here


def test_a_loop_of_the_users_choice_is_kept():
    """As `uvloop.install()` asks for one."""

    class Other(asyncio.SelectorEventLoop):
        pass

    class Policy(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self):
            return Other()

    asyncio.set_event_loop_policy(Policy())
    try:
        loop = _new_loop()
    finally:
        asyncio.set_event_loop_policy(None)
    loop.close()

    assert isinstance(loop, Other)
