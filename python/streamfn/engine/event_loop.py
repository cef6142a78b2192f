"""The event loop that all `async` functions of a runner share; imported only if there are any.

There is one loop, so that calls can share objects that belong to a loop, such as an HTTP session or
a connection pool. The loop has its own thread; each lane's thread waits for its call.
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
from .loop_call import CALL, Call, blame_or_disturbance, make_task
from .loop_parts import SharedParts
from .sturdy_thread import SturdyThread

FILES_MAX: Final = 1024
"""`select` accepts file descriptors below this (FD_SETSIZE)."""
BEAT: Final = timedelta(milliseconds=50)
"""Interval of the pulse while there are calls; a call is cancelled at most so much too late."""
LATE: Final = timedelta(milliseconds=500)
"""A call that had `NEARLY` its whole timeout is cancelled so long after the timeout in real time.

This is less than `CANCEL_GRACE`, after which its process is killed.
"""
NEARLY: Final = 0.9
"""The part of the timeout that counts as nearly all."""
CLOSE_PATIENCE: Final = timedelta(seconds=2)
"""How long cancelled tasks that calls left running may take to end."""


class EventLoop:
    """Runs calls concurrently, and cancels each at its timeout.

    The loop runs until it is closed. A task that raises `SystemExit`, or a function that stops the
    loop, ends only one turn of it. If the loop cannot run any more (`is_dead`), it ends its calls
    and accepts no others. Then objects that belong to the loop are lost, so a new process is
    needed.
    """

    FRAMES: Final = (__file__, loop_call.__file__, str(Path(asyncio.__file__).parent))
    """Paths whose frames are removed from users' tracebacks."""

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
        """Calls that have not ended."""
        self._begun = 0
        self._is_unseen = False
        """Whether a call has ended since the last check of the shared parts."""
        self._has_turned = self._is_closing = self.is_dead = False
        self._thread = SturdyThread(self._run, "async-functions", runs=1)
        self._thread.start()

    def finish(self, returned: object, timeout_seconds: float) -> object:
        """Run an awaitable to its end and return its result; return other values unchanged.

        An async generator is run to a list of its items. This blocks.

        Raises:
            RuntimeError: This is the loop's thread.
            FunctionTimedOut: The call was cancelled at its timeout.
            Disturbance: The call failed, perhaps because of another call.
            BaseException: The awaitable raised.
        """
        if inspect.isasyncgen(returned):
            returned = _listed(returned)
        if not inspect.isawaitable(returned):
            return returned
        if asyncio._get_running_loop() is self._loop:  # noqa: SLF001 -- it may be None
            _close(returned)
            raise RuntimeError("a call on an event loop would wait for itself: `await` the other")
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
        """Cancel the tasks that calls left running, and close; tasks that do not end are left."""
        self._is_closing = True
        with suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(4 * CLOSE_PATIENCE.total_seconds())

    def _run_to_end(self, call: Call) -> None:
        """Run a call and wait for its end, even if exceptions are thrown into this thread."""
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
        except RuntimeError as error:  # the loop is closed or dead
            _close(call.awaitable)
            raise Disturbance(error, is_fatal=True) from None
        call.is_handed_over = True

    # ---- in the loop's thread

    def _begin(self, call: Call) -> None:
        if call.begun:
            return  # an exception in its thread made `_hand_over` run twice
        CALL.set(call)  # in a separate context
        if asyncio._get_running_loop() is not self._loop:  # noqa: SLF001 -- it may be None
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
            except BaseException as raised:  # noqa: BLE001 -- cancelled before its first step
                _close(call.awaitable)
                error = raised
            self._is_unseen = True
            if error is not None:
                error = self._blame_or_disturbance(call, error)
        except BaseException as trouble:
            error = Disturbance(trouble, is_fatal=True)
            raise
        finally:
            self._forget(call, result, error)

    def _blame_or_disturbance(self, call: Call, error: BaseException) -> BaseException:
        self._shared.mend()
        self.is_dead |= self._shared.is_lost
        self._is_unseen = False
        call.has_company |= self._begun > call.begun or self._has_strangers(call)
        is_mended, threads = self._shared.mended > call.mended, self._shared.threads
        if type(error) is FunctionTimedOut and call.holds_threads:
            self._shared.renew_threads()
        return blame_or_disturbance(call, error, is_mended=is_mended, threads=threads)

    def _has_strangers(self, call: Call) -> bool:
        """Whether there are tasks that earlier calls may have left behind."""
        roots = {getattr(task, "root", None) for task in asyncio.all_tasks(self._loop)}
        # Tasks from a function's own task factory have no root; in the first call they are its own.
        return bool(roots - {call, None}) or (None in roots and call.begun > 1)

    def _forget(self, call: Call, result: object, error: BaseException | None) -> None:
        with self._lock:
            self._calls.discard(call)
        call.end(result, error)

    def _run(self) -> None:
        try:
            loop_forks.watch(self._loop)
            with suppress(BaseException):  # the user's loop policy may raise
                asyncio.set_event_loop(self._loop)
            while not self._is_closing and self._turn():
                pass
            if self._is_closing:
                self._wind_up()
        finally:
            loop_forks.forget()
            self._die()

    def _turn(self) -> bool:
        """Run the loop until it stops; return False if it cannot run any more.

        A task that raises `SystemExit` or `KeyboardInterrupt` ends the turn; the code that awaits
        the task gets the exception too.
        """
        self._has_turned = False
        try:
            self._loop.call_soon(self._note_turn)
            self._loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:
            end_if_forked(self._process, error)
            return True
        except BaseException:  # noqa: BLE001 -- from the selector, say, or thrown by another thread
            return self._has_turned
        return True

    def _note_turn(self) -> None:
        self._has_turned = True

    def _die(self) -> None:
        """End the calls that are left, because the loop does not run any more."""
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
        """Cancel the tasks that calls left running, and give them a moment to end."""
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
        """Run the loop until `ending` has ended, at most for `CLOSE_PATIENCE`."""
        end = self._loop.time() + CLOSE_PATIENCE.total_seconds()
        task = make_task(self._loop, ending)
        task.add_done_callback(lambda _: self._loop.stop())
        self._loop.call_at(end, self._loop.stop)
        while not task.done() and self._loop.time() < end and self._turn():
            pass


def _ended() -> RuntimeError:
    return RuntimeError("the event loop of this process has ended, and with it the calls on it")


def _cancel(call: Call) -> None:
    call.begun = call.begun or 1  # so that a call that has not begun never begins
    if call.task is not None:
        call.task.cancel()


def _close(awaitable: object) -> None:
    """Close a coroutine that never ran, so that Python does not warn about it."""
    if isinstance(awaitable, Coroutine):
        awaitable.close()


def _new_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of the app's policy (`uvloop.install`), or ours with a precise selector."""
    try:
        loop = asyncio.new_event_loop()
    except BaseException:  # noqa: BLE001 -- the user's loop policy may be broken
        return asyncio.SelectorEventLoop(_PunctualSelector())
    if type(loop) is not asyncio.SelectorEventLoop:
        return loop
    loop.close()
    return asyncio.SelectorEventLoop(_PunctualSelector())


class _PunctualSelector(selectors.EpollSelector):
    """Wakes when a timer is due, not at the next whole millisecond.

    WHY: `epoll` has a resolution of milliseconds, and Python rounds up. Calls that sleep would take
    up to 1 ms more. Calls of several lanes that began one after the other would all wake at the
    same instant and wait for each other.
    """

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0 and self.fileno() < FILES_MAX:
            select.select([self], [], [], timeout)  # it has a resolution of microseconds
            timeout = 0.0
        return super().select(timeout)


async def _listed(items: AsyncIterator[object]) -> list[object]:
    return [item async for item in items]


class _End(NamedTuple):
    """When a call is cancelled: at `up`, or once both `nearly` and `late` are reached."""

    up: float
    """End of the timeout, on the clock of the pulse."""
    nearly: float
    """`NEARLY` the end of the timeout, on the clock of the pulse."""
    late: float
    """`LATE` after the timeout, on the clock of the loop, which does not stop."""


class _Pulse:
    """Cancels calls at their timeout, by a clock that stops while the loop is blocked.

    WHY stop: a call that blocks the loop takes time from the other calls. If they were cancelled
    as soon as the loop runs again, they would be blamed for it. If a loop is blocked for too long,
    the supervisor kills the process and blames no call that had company.

    WHY `late`: if the loop is blocked for short times only, the supervisor does not act. Without
    that limit a hanging call would reach the supervisor's deadline and its process be killed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ends: dict[asyncio.Timeout, _End] = {}
        self._context = Context()
        """An empty context, so that a cancellation by the pulse is not attributed to a call."""
        self._clock = self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, scope: asyncio.Timeout, seconds: float) -> None:
        """Cancel a scope after so many seconds, unless `forget` is called first."""
        if not self._ends:
            self._context.run(self._rest)
        now = self._loop.time()
        begun = self._clock + min(now - self._last, BEAT.total_seconds())
        late = now + seconds + LATE.total_seconds()
        self._ends[scope] = _End(begun + seconds, begun + NEARLY * seconds, late)

    def forget(self, scope: asyncio.Timeout) -> None:
        """Stop watching a scope, whose call has ended."""
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
    """Return the call's result and its exception.

    WHY not raise: a task that raises `SystemExit` ends a turn of the loop, and the user's code can
    read the exception of every task.
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
    except BaseException as error:  # noqa: BLE001 -- raised again in the calling thread
        end_if_forked(process, error)
        return None, error
    finally:
        pulse.forget(scope)
