"""Parts of the event loop that all calls share and may break; repaired after a failed call."""

from __future__ import annotations

import asyncio
from concurrent.futures import wait
from contextlib import suppress
from datetime import timedelta

from .loop_call import LoopThreads, make_task


class SharedParts:
    """The threads, the task factory and the running-loop mark of one event loop.

    Functions may set their own; parts that work are left alone. They are checked after failures.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._executor = LoopThreads()
        self.mended = 0
        """Number of checks that found something broken."""
        self.is_lost = False
        """Whether something is broken that cannot be repaired."""
        loop.set_default_executor(self._executor)
        loop.set_task_factory(make_task)

    @property
    def threads(self) -> int:
        """The largest number of threads of our executor."""
        return self._executor.count

    def mend(self) -> None:
        """Repair broken parts and count the repair; runs in the loop's thread."""
        is_running = asyncio._get_running_loop() is self._loop  # noqa: SLF001 -- may be None
        if not is_running:
            asyncio._set_running_loop(self._loop)  # noqa: SLF001 -- no public way
        makes_tasks, has_threads = self._makes_tasks(), self._has_threads()
        if not makes_tasks:
            self._loop.set_task_factory(make_task)
        if not has_threads:
            self.renew_threads()
            self.is_lost = not self._has_threads()
        self.mended += not (is_running and makes_tasks and has_threads)

    def renew_threads(self) -> None:
        """Start a new executor for later calls; the threads of the old one end with their work."""
        self._executor = LoopThreads()
        with suppress(AttributeError):  # other loops name it differently
            self._loop._executor_shutdown_called = False  # type: ignore[attr-defined]  # noqa: SLF001
        self._loop.set_default_executor(self._executor)

    def close(self, patience: timedelta) -> None:
        """Shut the threads down; work that takes longer than `patience` is left running."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        wait(self._executor.open_works(), patience.total_seconds())

    def _makes_tasks(self) -> bool:
        if self._loop.get_task_factory() is make_task:
            return True
        nothing, task = _nothing(), None
        with suppress(BaseException):  # a function's own task factory may raise
            task = self._loop.create_task(nothing)
        if isinstance(task, asyncio.Future):
            return True
        nothing.close()
        return False

    def _has_threads(self) -> bool:
        """Whether the loop's executor accepts work."""
        is_ours = getattr(self._loop, "_default_executor", None) is self._executor
        is_open = not getattr(self._loop, "_executor_shutdown_called", True)
        if is_ours and is_open:
            return not self._executor.is_shut
        try:
            self._loop.run_in_executor(None, int)
        except BaseException:  # noqa: BLE001 -- a function's own executor may raise
            return False
        return True


async def _nothing() -> None:
    pass
