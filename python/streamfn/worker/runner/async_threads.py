"""Threads that wait for calls of `async` functions."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from streamfn.engine.sturdy_thread import SturdyThread

Task = Callable[[int], None]
"""A task of such a thread; its argument is the thread's cell on the board."""


class AsyncThreads:
    """Starts a thread when all others are busy, up to one per cell; threads end only in `join`."""

    def __init__(self, cells: Iterable[int], came_free: Callable[[], None] = lambda: None) -> None:
        """Start without threads.

        Args:
            cells: One cell on the board for each possible thread.
            came_free: Called by a thread that has ended a task and can take another.
        """
        self._free, self._came_free = list(cells), came_free
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._idle = 0
        self._lock = threading.Lock()
        self._threads: list[SturdyThread] = []

    @property
    def are_all_busy(self) -> bool:
        """Whether no further task can run now."""
        with self._lock:
            return not (self._idle or self._free)

    def run(self, task: Task) -> bool:
        """Run a task in one of the threads; False: all are busy and no more can be started."""
        with self._lock:
            if self._idle:
                self._idle -= 1
            elif self._free:
                self._start(self._free.pop(0))
            else:
                return False
        self._tasks.put(task)
        return True

    def join(self) -> None:
        """Wait until the tasks have ended, and end the threads."""
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _start(self, cell: int) -> None:
        thread = SturdyThread(partial(self._work, cell), f"async-{cell}")
        thread.start()
        self._threads.append(thread)

    def _next(self) -> Task | None:
        """Wait for a task, ignoring exceptions thrown into this thread; None: the end."""
        taken: list[Task | None] = []
        while not taken:
            # WHY not assigned: an exception between return and assignment would lose the task.
            with suppress(BaseException):
                taken.extend(map(self._tasks.get, (True,)))
        return taken[0]

    def _work(self, cell: int) -> None:
        while (task := self._next()) is not None:
            task(cell)
            with self._lock:
                self._idle += 1
            self._came_free()
