"""What all calls on the event loop share beside it, and may break: put right when a call failed."""

from __future__ import annotations

import asyncio
from concurrent.futures import wait
from contextlib import suppress
from datetime import timedelta

from .loop_call import LoopThreads, make_task


class SharedParts:
    """The threads, the task factory and the running loop of one event loop.

    Functions may set their own: what works is left alone. Looked at only after a failure.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._executor = LoopThreads()
        self.mended = 0
        """How often something was broken."""
        self.is_lost = False
        """Something is broken that cannot be put right."""
        loop.set_default_executor(self._executor)
        loop.set_task_factory(make_task)

    @property
    def threads(self) -> int:
        """How many threads our executor has."""
        return self._executor.count

    def mend(self) -> None:
        """Put right what is broken, and count it. In the loop's thread."""
        is_running = asyncio._get_running_loop() is self._loop  # noqa: SLF001 -- may be None
        if not is_running:
            asyncio._set_running_loop(self._loop)  # noqa: SLF001 -- there is no other way
        makes_tasks, has_threads = self._makes_tasks(), self._has_threads()
        if not makes_tasks:
            self._loop.set_task_factory(make_task)
        if not has_threads:
            self.renew_threads()
            self.is_lost = not self._has_threads()
        self.mended += not (is_running and makes_tasks and has_threads)

    def renew_threads(self) -> None:
        """Give the next calls other threads; those there are end with their work."""
        self._executor = LoopThreads()
        with suppress(AttributeError):  # other loops have other names for it
            self._loop._executor_shutdown_called = False  # type: ignore[attr-defined]  # noqa: SLF001
        self._loop.set_default_executor(self._executor)

    def close(self, patience: timedelta) -> None:
        """Let the threads end; what takes them longer is left behind."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        wait(self._executor.open_works(), patience.total_seconds())

    def _makes_tasks(self) -> bool:
        if self._loop.get_task_factory() is make_task:
            return True
        nothing, task = _nothing(), None
        with suppress(BaseException):  # a function's own
            task = self._loop.create_task(nothing)
        if isinstance(task, asyncio.Future):
            return True
        nothing.close()
        return False

    def _has_threads(self) -> bool:
        """Whether work can be handed to threads."""
        is_ours = getattr(self._loop, "_default_executor", None) is self._executor
        is_open = not getattr(self._loop, "_executor_shutdown_called", True)
        if is_ours and is_open:
            return not self._executor.is_shut
        try:
            self._loop.run_in_executor(None, int)
        except BaseException:  # noqa: BLE001 -- a function's own
            return False
        return True


async def _nothing() -> None:
    pass
