"""The clock as something to be passed in, so that tests never sleep.

`SystemClock` is the only room of the Python side that asks the machine for the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What code that depends on time may ask."""

    def now(self) -> datetime:
        """Return the wall time, aware, in UTC. It may jump: use it for people, not for waits."""
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
        """Return `CLOCK_MONOTONIC` in seconds: the same in all processes of one machine."""
        return time.monotonic()

    def sleep(self, duration: timedelta) -> None:
        """Wait for `duration`."""
        time.sleep(duration.total_seconds())


class ManualClock:
    """A clock that stands still until a test moves it; `sleep` moves it."""

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2026, 1, 1, tzinfo=UTC)
        self._monotonic = 0.0
        self._listeners: list[Callable[[], None]] = []

    def now(self) -> datetime:
        """Return the wall time set so far."""
        return self._now

    def monotonic(self) -> float:
        """Return the seconds moved so far."""
        return self._monotonic

    def sleep(self, duration: timedelta) -> None:
        """Move on by `duration`, at once."""
        self.advance(duration)

    def advance(self, duration: timedelta) -> None:
        """Move both clocks on by `duration`."""
        self._now += duration
        self._monotonic += duration.total_seconds()
        for listener in self._listeners:
            listener()

    def on_advance(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each advance."""
        self._listeners.append(listener)
