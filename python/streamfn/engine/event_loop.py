"""The event loop that all `async` functions of a runner share; imported only where there are some.

One loop, so that calls can share what belongs to a loop: an HTTP session, a pool of connections. It
has a thread of its own; each lane's thread waits there for its call.
"""

from __future__ import annotations

import asyncio
import inspect
import select
import selectors
import threading
from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta
from pathlib import Path
from typing import Final, NamedTuple

from streamfn.errors import FunctionTimedOut

FILES_MAX: Final = 1024
"""`select` takes file descriptors below it (FD_SETSIZE)."""
BEAT: Final = timedelta(milliseconds=50)
"""How often the loop is seen to turn while there are calls; one is cancelled so much too late."""
LATE: Final = timedelta(milliseconds=500)
"""So long after its timeout, by the wall, a call is cancelled that had nearly all of its time.

Less than `CANCEL_GRACE`: after that its process is killed.
"""
NEARLY: Final = 0.9
"""What part of its timeout that is."""


class EventLoop:
    """Runs calls side by side, each cancelled at its timeout."""

    FRAMES: Final = (__file__, str(Path(asyncio.__file__).parent))
    """Where the frames lie that a user's traceback does without."""

    def __init__(self) -> None:
        self._loop = _new_loop()
        self._pulse = _Pulse(self._loop)
        self._thread = threading.Thread(target=self._run, name="async-functions", daemon=True)
        self._thread.start()

    def finish(self, returned: object, timeout_seconds: float) -> object:
        """Run an awaitable to its end, an async generator into a list; return others as they are.

        Called from any thread but the loop's; blocks.

        Raises:
            FunctionTimedOut: It was cancelled.
            BaseException: Whatever the awaitable raised.
        """
        if inspect.isasyncgen(returned):
            returned = _listed(returned)
        if not inspect.isawaitable(returned):
            return returned
        call = asyncio.run_coroutine_threadsafe(
            _bounded(returned, timeout_seconds, self._pulse), self._loop
        )
        result, error = call.result()
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        """Cancel what the calls left running, and close."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()


def _new_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of the kind that the app asks for (`uvloop.install`), or a punctual one."""
    loop = asyncio.new_event_loop()
    if type(loop) is not asyncio.SelectorEventLoop:
        return loop
    loop.close()
    return asyncio.SelectorEventLoop(_PunctualSelector())


class _PunctualSelector(selectors.EpollSelector):
    """Wakes when a timer is due, and not at the next whole millisecond.

    WHY: `epoll` counts milliseconds, and Python rounds up. Calls that sleep would take up to one
    more; and those of several lanes, which began one after the other, would all go on in the same
    instant and wait for each other.
    """

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0 and self.fileno() < FILES_MAX:
            select.select([self], [], [], timeout)  # it counts microseconds
            timeout = 0.0
        return super().select(timeout)


async def _listed(items: AsyncIterator[object]) -> list[object]:
    return [item async for item in items]


class _End(NamedTuple):
    """When a call is over: its time is up; or nearly, and it is late by the wall."""

    up: float
    """On the clock of the pulse."""
    nearly: float
    """On the same."""
    late: float
    """On that of the loop, which does not stand still."""


class _Pulse:
    """Ends calls whose time is up, by a clock that stands still while the loop does not turn.

    WHY: a call that blocks the loop takes their time from the others. Were they cancelled as soon
    as it turns again, innocents would be blamed. A loop that is blocked for too long is for the
    supervisor, who kills the process and blames nobody who had company. But one that is blocked a
    little now and then is not: then no hanging call would ever be cancelled, and each would take
    its process with it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ends: dict[asyncio.Timeout, _End] = {}
        self._clock = self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, scope: asyncio.Timeout, seconds: float) -> None:
        """End a scope after so many seconds, unless it is forgotten before."""
        if not self._ends:
            self._rest()
        now = self._loop.time()
        begun = self._clock + min(now - self._last, BEAT.total_seconds())
        late = now + seconds + LATE.total_seconds()
        self._ends[scope] = _End(begun + seconds, begun + NEARLY * seconds, late)

    def forget(self, scope: asyncio.Timeout) -> None:
        """Let a scope be: its call has ended."""
        self._ends.pop(scope, None)
        if not self._ends and self._timer is not None:
            self._timer.cancel()

    def _rest(self) -> None:
        self._last = self._loop.time()
        self._timer = self._loop.call_at(self._last + BEAT.total_seconds(), self._beat)

    def _beat(self) -> None:
        now = self._loop.time()
        passed = now - self._last
        if passed <= 2 * BEAT.total_seconds():
            self._clock += passed
        for scope, end in list(self._ends.items()):
            if end.up <= self._clock or (end.nearly <= self._clock and end.late <= now):
                self.forget(scope)
                scope.reschedule(self._loop.time())
        if self._ends:
            self._rest()


async def _bounded(
    awaitable: Awaitable[object], seconds: float, pulse: _Pulse
) -> tuple[object, BaseException | None]:
    """Return what the call returned, and what it raised.

    WHY: a task that raises `SystemExit` ends the loop, and with it the calls of the other lanes.
    """
    scope = asyncio.timeout(None)
    pulse.watch(scope, seconds)
    try:
        async with scope:
            return await awaitable, None
    except TimeoutError as error:
        if not scope.expired():
            return None, error
        timed_out = FunctionTimedOut(seconds)
        timed_out.__cause__ = error
        return None, timed_out.with_traceback(error.__traceback__)
    except BaseException as error:  # noqa: BLE001 -- it is raised again in the thread that called
        return None, error
    finally:
        pulse.forget(scope)
