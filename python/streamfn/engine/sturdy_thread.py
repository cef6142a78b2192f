"""Threads that start and go on although user code throws exceptions into them.

`PyThreadState_SetAsyncExc` reaches any thread, also one that has not run its first line. Such a
thread dies in `threading`'s own code, and `Thread.start` waits for it for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

START_SECONDS: Final = 1.0
"""How long a thread may take to begin before another is started in its place."""
RUNS_MAX: Final = 3
"""How often a target that raised is called."""


class SturdyThread:
    """A daemon thread; its target catches what it expects and is called again if it raises."""

    def __init__(self, target: Callable[[], object], name: str, *, runs: int = RUNS_MAX) -> None:
        """Make a thread, not started yet.

        Args:
            target: What it runs.
            name: Its name.
            runs: How often the target is called if it raises.
        """
        self._target, self._name, self._runs = target, name, runs
        self._lock = threading.Lock()
        self._attempt = 0
        self._begun, self._ended = threading.Event(), threading.Event()

    def start(self) -> None:
        """Start the thread, and wait until it runs.

        Raises:
            RuntimeError: The process cannot have another thread.
        """
        while not self._begun.is_set():
            with self._lock:
                self._attempt += 1
            thread = threading.Thread(target=self._run, args=(self._attempt,), name=self._name)
            thread.daemon = True
            # WHY: `Thread.start` waits for this event without a limit.
            thread._started = _BoundedEvent()  # type: ignore[attr-defined]  # noqa: SLF001
            thread.start()
            self._begun.wait(START_SECONDS)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the target has returned, at most for so many seconds."""
        self._ended.wait(timeout)

    def _run(self, attempt: int) -> None:
        with self._lock:
            if self._begun.is_set() or attempt != self._attempt:
                return  # it was late, and another runs in its place
            self._begun.set()
        try:
            for _ in range(self._runs):
                with suppress(BaseException):
                    self._target()
                    break
        finally:
            self._ended.set()


class _BoundedEvent(threading.Event):
    """An event for which nobody waits longer than `START_SECONDS`."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the event is set, or for the time."""
        return super().wait(START_SECONDS if timeout is None else timeout)
