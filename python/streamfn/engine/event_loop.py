"""The event loop that all `async` functions of a runner share; imported only where there are some.

One loop, so that calls can share what belongs to a loop: an HTTP session, a pool of connections. It
has a thread of its own; each lane's thread waits there for its call.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import select
import selectors
import threading
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import suppress
from contextvars import Context
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from streamfn.errors import FunctionTimedOut

from . import loop_call, loop_forks
from .disturbance import Disturbance
from .forked import end_if_forked
from .loop_call import CALL, Call, judged, make_task
from .loop_parts import SharedParts

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
CLOSE_PATIENCE: Final = timedelta(seconds=2)
"""How long what calls left running may take to end once it was cancelled."""


class EventLoop:
    """Runs calls side by side, each cancelled at its timeout.

    It runs until it is closed: a task that raises `SystemExit`, and a function that stops the loop,
    end one turn of it. One that cannot run any more (`is_dead`) ends its calls, and takes no other:
    what functions keep that belongs to the loop is lost with it, and a new process is needed.
    """

    FRAMES: Final = (__file__, loop_call.__file__, str(Path(asyncio.__file__).parent))
    """Where the frames lie that a user's traceback does without."""

    def __init__(self, *, is_shielded: bool = False) -> None:
        """Start the loop.

        Args:
            is_shielded: See `LazyEventLoop`.
        """
        self._is_shielded, self._process = is_shielded, os.getpid()
        self._loop = _new_loop()
        self._shared = SharedParts(self._loop)
        self._pulse = _Pulse(self._loop)
        self._lock = threading.Lock()
        self._calls: set[Call] = set()
        """Calls that threads wait for."""
        self._begun = 0
        self._is_unseen = False
        """A call has ended since the shared parts were looked at."""
        self._has_turned = self._is_closing = self.is_dead = False
        self._thread = threading.Thread(target=self._run, name="async-functions", daemon=True)
        self._thread.start()

    def finish(self, returned: object, timeout_seconds: float) -> object:
        """Run an awaitable to its end, an async generator into a list; return others as they are.

        Called from any thread but the loop's; blocks.

        Raises:
            FunctionTimedOut: It was cancelled.
            Disturbance: It failed, and another call may be why.
            BaseException: Whatever the awaitable raised.
        """
        if inspect.isasyncgen(returned):
            returned = _listed(returned)
        if not inspect.isawaitable(returned):
            return returned
        call = Call(returned, timeout_seconds)
        self._run_to_end(call)
        result, error = call.take()
        if error is None:
            return result
        try:
            raise error
        finally:
            del error  # its traceback has this frame

    def close(self) -> None:
        """Cancel what the calls left running, and close; what does not end is left behind."""
        self._is_closing = True
        with suppress(RuntimeError):  # it is closed
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(4 * CLOSE_PATIENCE.total_seconds())

    def _run_to_end(self, call: Call) -> None:
        """Have a call run, and wait for its end, whatever is thrown at this thread meanwhile."""
        while not call.is_over:
            try:
                if not call.is_handed_over:
                    self._hand_over(call)
                call.wait()
            except Disturbance:
                raise
            except BaseException:
                if not self._is_shielded:
                    self._loop.call_soon_threadsafe(_cancel, call)
                    raise

    def _hand_over(self, call: Call) -> None:
        with self._lock:
            if not self.is_dead:
                self._calls.add(call)
        try:
            if self.is_dead:
                raise _ended()
            self._loop.call_soon_threadsafe(self._begin, call)
        except RuntimeError as error:  # it is closed, and its thread about to notice
            _close(call.awaitable)
            raise Disturbance(error, is_fatal=True) from None
        call.is_handed_over = True

    # ---- in the loop's thread

    def _begin(self, call: Call) -> None:
        if call.begun:
            return  # what was thrown at its thread had it handed over twice
        CALL.set(call)  # in a context of its own
        if asyncio._get_running_loop() is not self._loop:  # noqa: SLF001 -- it says None for none
            self._shared.mend()
        self._begun += 1
        call.begun, call.mended = self._begun, self._shared.mended
        call.has_company, call.is_first_look = len(self._calls) > 1, self._is_unseen
        try:
            assert call.awaitable is not None
            bounded = _bounded(call.awaitable, call.seconds, self._pulse)
            call.task = make_task(self._loop, bounded)
            call.task.add_done_callback(lambda task: self._end(call, task))
        except BaseException as error:
            self._forget(call, None, Disturbance(error, is_fatal=True))
            raise

    def _end(self, call: Call, task: asyncio.Task[Any]) -> None:
        result: object = None
        error: BaseException | None = None
        try:
            try:
                result, error = task.result()
            except BaseException as raised:  # noqa: BLE001 -- before its first step: a cancellation
                _close(call.awaitable)
                error = raised
            self._is_unseen = True
            if error is not None:
                error = self._judged(call, error)
        except BaseException as trouble:
            error = Disturbance(trouble, is_fatal=True)
            raise
        finally:
            self._forget(call, result, error)

    def _judged(self, call: Call, error: BaseException) -> BaseException:
        self._shared.mend()
        self.is_dead |= self._shared.is_lost
        self._is_unseen = False
        call.has_company |= self._begun > call.begun or self._has_strangers(call)
        is_mended, threads = self._shared.mended > call.mended, self._shared.threads
        if type(error) is FunctionTimedOut and call.holds_threads:
            self._shared.renew_threads()
        return judged(call, error, is_mended=is_mended, threads=threads)

    def _has_strangers(self, call: Call) -> bool:
        """Whether there are tasks that calls before this one may have left behind."""
        roots = {getattr(task, "root", None) for task in asyncio.all_tasks(self._loop)}
        # Tasks that a function's own factory made have no root: those of the first call are its.
        return bool(roots - {call, None}) or (None in roots and call.begun > 1)

    def _forget(self, call: Call, result: object, error: BaseException | None) -> None:
        with self._lock:
            self._calls.discard(call)
        call.end(result, error)

    def _run(self) -> None:
        try:
            loop_forks.watch(self._loop)
            with suppress(BaseException):  # a policy of the user's
                asyncio.set_event_loop(self._loop)
            while not self._is_closing and self._turn():
                pass
            if self._is_closing:
                self._wind_up()
        finally:
            loop_forks.forget()
            self._die()

    def _turn(self) -> bool:
        """Run the loop until something ends that; False: it cannot be run any more.

        A task that raises `SystemExit` or `KeyboardInterrupt` ends the turn. Who awaits the task
        has got it by then.
        """
        self._has_turned = False
        try:
            self._loop.call_soon(self._note_turn)
            self._loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:
            end_if_forked(self._process, error)
            return True
        except BaseException:  # noqa: BLE001 -- from its selector, say; or another thread's
            return self._has_turned
        return True

    def _note_turn(self) -> None:
        self._has_turned = True

    def _die(self) -> None:
        """End the calls that are left, for the loop runs no more."""
        with self._lock:
            self.is_dead = True
            calls, self._calls = self._calls, set()
        for call in calls:
            is_alone = len(calls) == 1 and not call.has_company and self._begun == call.begun
            error = _ended()
            call.end(None, error if is_alone else Disturbance(error, is_fatal=True))
        with suppress(BaseException):
            self._loop.close()

    def _wind_up(self) -> None:
        """Let what calls left running end, for a moment."""
        try:
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self._turn_until(asyncio.wait(tasks))
            self._turn_until(self._loop.shutdown_asyncgens())
        finally:
            self._shared.close(CLOSE_PATIENCE)

    def _turn_until(self, ending: Coroutine[Any, Any, object]) -> None:
        """Run the loop until something has ended, or for as long as we have patience."""
        end = self._loop.time() + CLOSE_PATIENCE.total_seconds()
        task = make_task(self._loop, ending)
        task.add_done_callback(lambda _: self._loop.stop())
        self._loop.call_at(end, self._loop.stop)
        while not task.done() and self._loop.time() < end and self._turn():
            pass


def _ended() -> RuntimeError:
    return RuntimeError("the event loop of this process has ended, and with it the calls on it")


def _cancel(call: Call) -> None:
    call.begun = call.begun or 1  # or it would begin now
    if call.task is not None:
        call.task.cancel()


def _close(awaitable: object) -> None:
    """Close what never ran, or Python warns that it was never awaited."""
    if isinstance(awaitable, Coroutine):
        awaitable.close()


def _new_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of the kind that the app asks for (`uvloop.install`), or a punctual one."""
    try:
        loop = asyncio.new_event_loop()
    except BaseException:  # noqa: BLE001 -- a policy of the user's, left broken by a function
        return asyncio.SelectorEventLoop(_PunctualSelector())
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
        self._context = Context()
        """Nobody's: what the pulse cancels, no call has cancelled."""
        self._clock = self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, scope: asyncio.Timeout, seconds: float) -> None:
        """End a scope after so many seconds, unless it is forgotten before."""
        if not self._ends:
            self._context.run(self._rest)
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

    WHY: a task that raises `SystemExit` ends a turn of the loop, and every task may be asked for
    its exception by the user's code.
    """
    scope, process = asyncio.timeout(None), os.getpid()
    pulse.watch(scope, seconds)
    try:
        async with scope:
            returned = await awaitable
        end_if_forked(process)
        return returned, None
    except TimeoutError as error:
        if not scope.expired():
            return None, error
        timed_out = FunctionTimedOut(seconds)
        timed_out.__cause__ = error
        return None, timed_out.with_traceback(error.__traceback__)
    except BaseException as error:  # noqa: BLE001 -- it is raised again in the thread that called
        end_if_forked(process, error)
        return None, error
    finally:
        pulse.forget(scope)
