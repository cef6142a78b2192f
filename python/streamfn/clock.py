"""Clocks that are passed as arguments, so that tests need not sleep.

Only `SystemClock` reads the machine's time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """The interface of a clock."""

    def now(self) -> datetime:
        """Return the wall time, aware, in UTC. It may jump, so do not compute waits from it."""
        ...

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back, comparable between processes."""
        ...

    def sleep(self, duration: timedelta) -> None:
        """Wait for `duration`."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the wall time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return `CLOCK_MONOTONIC` in seconds; all processes of a machine read the same clock."""
        return time.monotonic()

    def sleep(self, duration: timedelta) -> None:
        """Wait for `duration`."""
        time.sleep(duration.total_seconds())


class ManualClock:
    """A clock for tests: only `advance` and `sleep` move it."""

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2026, 1, 1, tzinfo=UTC)
        self._monotonic = 0.0
        self._listeners: list[Callable[[], None]] = []

    def now(self) -> datetime:
        """Return the wall time."""
        return self._now

    def monotonic(self) -> float:
        """Return the sum of all advances, in seconds."""
        return self._monotonic

    def sleep(self, duration: timedelta) -> None:
        """Advance by `duration` and return at once."""
        self.advance(duration)

    def advance(self, duration: timedelta) -> None:
        """Advance both clocks by `duration`."""
        self._now += duration
        self._monotonic += duration.total_seconds()
        for listener in self._listeners:
            listener()

    def on_advance(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each advance."""
        self._listeners.append(listener)
