"""A call on the event loop, and which call's code cancels whose tasks.

Every task of the loop belongs to the call whose code created it, directly or through other tasks.
So when a task is cancelled, it is known whether its own call or another call cancelled it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Coroutine, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, Final, Literal

from streamfn.errors import FunctionTimedOut

from .disturbance import Disturbance
from .loop_forks import ending_with_child

WORKS_MAX: Final = 64
"""With so many works of a call, those that have ended are removed from its list."""

Canceller = Literal["nobody", "itself", "unknown", "another"]
"""Which call cancelled a call or one of its tasks; `unknown`: a thread that a function started."""

CALL: Final[ContextVar[Call | None]] = ContextVar("streamfn_call", default=None)
"""The call whose code is running."""


class Call:
    """A call, from when a thread passes it to the loop until it has ended."""

    def __init__(self, awaitable: Awaitable[object], seconds: float) -> None:
        self.awaitable: Awaitable[object] | None = awaitable
        self.seconds = seconds
        self.task: CallTask | None = None
        """Set to None at the end, like the awaitable: it refers to this call and its records."""
        self.canceller: Canceller = "nobody"
        self.has_company = False
        """Whether other calls were on the loop when this one began, or began since."""
        self.is_first_look = False
        """Whether an earlier call may have broken the shared parts."""
        self.begun = self.mended = 0
        """When the call began: the number of calls begun, and of repairs of the shared parts."""
        self.works: list[Future[Any]] = []
        """Work that the call submitted to threads of the loop."""
        self.result: object = None
        self.error: BaseException | None = None
        self.is_handed_over = self.is_over = False
        self._ended = threading.Lock()
        self._ended.acquire()

    def wait(self) -> None:
        """Wait until the call has ended; an exception thrown into this thread may end the wait."""
        while not self.is_over:
            self._ended.acquire()

    def end(self, result: object, error: BaseException | None) -> None:
        """Store the result and wake the thread that waits; only the first time."""
        if not self.is_over:
            self.task = self.awaitable = None
            self.result, self.error, self.is_over = result, error, True
            self._ended.release()

    def take(self) -> tuple[object, BaseException | None]:
        """Return the result and exception, and clear them: tasks left behind may hold the call."""
        taken = self.result, self.error
        self.result = self.error = None
        return taken

    def cancelled_by(self, canceller: Call | None, task: asyncio.Task[Any]) -> None:
        """Note whose code cancelled a task of this call; another call takes precedence."""
        if canceller is self:
            if task is self.task and self.canceller == "nobody":
                self.canceller = "itself"
        elif self.canceller != "another":
            self.canceller = "unknown" if canceller is None else "another"

    @property
    def holds_threads(self) -> bool:
        """Whether a thread of the loop still works for this call."""
        return any(work.running() for work in self.works)

    def lost_its_turn(self, threads: int) -> bool:
        """Whether its work waited for a thread while other calls used some of the `threads`."""
        own = sum(work.running() for work in self.works)
        return own < threads and any(work.cancelled() for work in self.works)


class CallTask(asyncio.Task[Any]):
    """A task with a reference to its call."""

    root: Call | None = None

    def cancel(self, msg: Any | None = None) -> bool:  # noqa: ANN401 -- asyncio's own
        """As `asyncio.Task`, and note which call cancels."""
        if self.root is not None and not self.done():
            self.root.cancelled_by(CALL.get(), self)
        return super().cancel(msg)


def make_task(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
    **options: Any,  # noqa: ANN401 -- asyncio's own, more with each version
) -> CallTask:
    """Make a task that belongs to the running call; used as the loop's task factory."""
    task = CallTask(coroutine, loop=loop, **options)
    task.root = CALL.get()
    return task


class LoopThreads(ThreadPoolExecutor):
    """The loop's default executor; it records which call submitted each work."""

    def __init__(self) -> None:
        super().__init__(thread_name_prefix="asyncio")
        self.is_shut = False
        self._open: set[Future[Any]] = set()

    @property
    def count(self) -> int:
        """The largest number of threads."""
        return self._max_workers

    def open_works(self) -> list[Future[Any]]:
        """Return the work that is not done."""
        return list(self._open)

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401
        """As `ThreadPoolExecutor`, and note the call that submits the work."""
        work = super().submit(ending_with_child(fn), *args, **kwargs)
        self._open.add(work)
        work.add_done_callback(self._open.discard)
        call = CALL.get()
        if call is not None:
            if len(call.works) >= WORKS_MAX:
                call.works = [each for each in call.works if not each.done()]
            call.works.append(work)
        return work

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002
        """As `ThreadPoolExecutor`."""
        self.is_shut = True
        super().shutdown(wait, cancel_futures=cancel_futures)


def blame_or_disturbance(
    call: Call, error: BaseException, *, is_mended: bool, threads: int
) -> BaseException:
    """Return a failed call's error, as a `Disturbance` if another call may be the reason.

    If it is not known which code cancelled the call or broke the shared parts, the call is blamed
    only if it was alone on the loop.

    Args:
        call: The failed call.
        error: Its error.
        is_mended: Whether shared parts were broken during the call.
        threads: Number of threads of the loop's executor.
    """
    if type(error) is FunctionTimedOut:  # we cancelled it
        may_be_others = call.has_company and call.lost_its_turn(threads)
        return Disturbance(error, is_fatal=True) if may_be_others else error
    if call.canceller == "another":
        return Disturbance(error)
    if is_mended and (call.has_company or call.is_first_look):
        return Disturbance(error)
    # WHY not `isinstance`: it reads the exception's `__class__`, which may run the user's code.
    is_unexplained = call.canceller == "nobody" and issubclass(type(error), asyncio.CancelledError)
    is_doubtful = call.canceller == "unknown" or is_unexplained
    return Disturbance(error) if is_doubtful and call.has_company else error
