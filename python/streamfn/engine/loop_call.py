"""One call on the event loop, and whose code cancels the tasks of which call.

Every task of a loop belongs to the call that made it, or that made the task that made it. So when a
task is cancelled, it can be said whether its own call did that or another one.
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
"""So many works of a call are kept before those that have ended are forgotten."""

Canceller = Literal["nobody", "itself", "unknown", "another"]
"""Who cancelled a call, or a task of it. A thread that a function started is unknown."""

CALL: Final[ContextVar[Call | None]] = ContextVar("streamfn_call", default=None)
"""The call whose code runs."""


class Call:
    """A call, from the moment a thread hands it over until it has ended."""

    def __init__(self, awaitable: Awaitable[object], seconds: float) -> None:
        self.awaitable: Awaitable[object] | None = awaitable
        self.seconds = seconds
        self.task: CallTask | None = None
        """Let go at the end, as the awaitable is: it has this call in turn, and its records."""
        self.canceller: Canceller = "nobody"
        self.has_company = False
        """Whether there were other calls on the loop when it began."""
        self.is_first_look = False
        """Whether a call before it may have broken what all share."""
        self.begun = self.mended = 0
        """How many calls had begun, and how often the loop was mended, when it did."""
        self.works: list[Future[Any]] = []
        """What it had done in threads of the loop."""
        self.result: object = None
        self.error: BaseException | None = None
        self.is_handed_over = self.is_over = False
        self._ended = threading.Lock()
        self._ended.acquire()

    def wait(self) -> None:
        """Wait until it has ended; another thread's exception may end the wait before."""
        while not self.is_over:
            self._ended.acquire()

    def end(self, result: object, error: BaseException | None) -> None:
        """Wake the thread that waits; once."""
        if not self.is_over:
            self.task = self.awaitable = None
            self.result, self.error, self.is_over = result, error, True
            self._ended.release()

    def take(self) -> tuple[object, BaseException | None]:
        """Return what it returned or raised, once: tasks that it left behind keep the call."""
        taken = self.result, self.error
        self.result = self.error = None
        return taken

    def cancelled_by(self, canceller: Call | None, task: asyncio.Task[Any]) -> None:
        """Note whose code cancelled a task of this call; others count for more than itself."""
        if canceller is self:
            if task is self.task and self.canceller == "nobody":
                self.canceller = "itself"
        elif self.canceller != "another":
            self.canceller = "unknown" if canceller is None else "another"

    @property
    def holds_threads(self) -> bool:
        """Whether a thread still works for it."""
        return any(work.running() for work in self.works)

    def lost_its_turn(self, threads: int) -> bool:
        """Whether it waited for one of so many threads, and others had them."""
        own = sum(work.running() for work in self.works)
        return own < threads and any(work.cancelled() for work in self.works)


class CallTask(asyncio.Task[Any]):
    """A task that knows its call."""

    root: Call | None = None

    def cancel(self, msg: Any | None = None) -> bool:  # noqa: ANN401 -- asyncio's own
        """As `asyncio.Task`, and note who does it."""
        if self.root is not None and not self.done():
            self.root.cancelled_by(CALL.get(), self)
        return super().cancel(msg)


def make_task(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
    **options: Any,  # noqa: ANN401 -- asyncio's own, more with each version
) -> CallTask:
    """Make a task of the call whose code runs; a loop's task factory."""
    task = CallTask(coroutine, loop=loop, **options)
    task.root = CALL.get()
    return task


class LoopThreads(ThreadPoolExecutor):
    """The loop's default executor, which knows what it does for which call."""

    def __init__(self) -> None:
        super().__init__(thread_name_prefix="asyncio")
        self.is_shut = False
        self._open: set[Future[Any]] = set()

    @property
    def count(self) -> int:
        """How many threads there can be."""
        return self._max_workers

    def open_works(self) -> list[Future[Any]]:
        """Return what is not done."""
        return list(self._open)

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401
        """As `ThreadPoolExecutor`, and note whose it is."""
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


def judged(call: Call, error: BaseException, *, is_mended: bool, threads: int) -> BaseException:
    """Return what a call failed with, as a `Disturbance` if another one may be why.

    Where it is not known who cancelled it, or broke what all share, a call is to blame that was
    alone on the loop. One in company is not.

    Args:
        call: It has failed.
        error: What it ended with.
        is_mended: Something that all calls share was broken during it.
        threads: How many the loop's executor has.
    """
    if type(error) is FunctionTimedOut:  # we cancelled it
        may_be_others = call.has_company and call.lost_its_turn(threads)
        return Disturbance(error, is_fatal=True) if may_be_others else error
    if call.canceller == "another":
        return Disturbance(error)
    if is_mended and (call.has_company or call.is_first_look):
        return Disturbance(error)
    # WHY not `isinstance`: it asks an exception for its `__class__`, which is the user's code.
    is_unexplained = call.canceller == "nobody" and issubclass(type(error), asyncio.CancelledError)
    is_doubtful = call.canceller == "unknown" or is_unexplained
    return Disturbance(error) if is_doubtful and call.has_company else error
