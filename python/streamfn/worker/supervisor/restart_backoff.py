"""Decides when the next process may start in a seat: at once, or after a growing pause.

A process that exits after it had work is replaced at once. If a process exits at its start or soon
after, a restart probably does not help, so each further start waits twice as long.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Generic, TypeVar

PAUSE: Final = timedelta(milliseconds=100)
PAUSE_MAX: Final = timedelta(seconds=30)
"""The pause after a failed start: doubled each time, up to `PAUSE_MAX`."""
FAILED_STARTS_COUNTED_MAX: Final = 16

S = TypeVar("S", bound=Hashable)


@dataclass(slots=True)
class SeatHistory:
    """The starts of processes in a seat."""

    failed_starts: int = 0
    """Failed starts in a row."""
    not_before: float = 0.0
    """Earliest time of the next start, on the monotonic clock."""
    first_started: float = 0.0
    was_ready: bool = False
    """Whether a process was ever ready in it."""


class RestartBackoff(Generic[S]):
    """The history of each seat."""

    def __init__(self) -> None:
        self._histories: dict[S, SeatHistory] = {}

    def __getitem__(self, seat: S) -> SeatHistory:
        """Return the history of a seat; an empty one for a new seat."""
        return self._histories.setdefault(seat, SeatHistory())

    def may_start(self, seat: S, now: float) -> bool:
        """Whether the seat's pause is over."""
        return self[seat].not_before <= now

    def started(self, seat: S, now: float) -> None:
        """Note that a process was started."""
        self[seat].first_started = self[seat].first_started or now

    def came_up(self, seat: S) -> None:
        """Note that a process is ready."""
        self[seat].was_ready = True

    def failed(self, seat: S, now: float) -> None:
        """Note a failed start: the next start waits longer."""
        history = self[seat]
        pause = min(PAUSE * 2**history.failed_starts, PAUSE_MAX)
        history.failed_starts = min(history.failed_starts + 1, FAILED_STARTS_COUNTED_MAX)
        history.not_before = now + pause.total_seconds()

    def forgive(self) -> None:
        """Let every seat start at once: what failed before has changed."""
        for history in self._histories.values():
            history.failed_starts, history.not_before = 0, 0.0

    def worked(self, seat: S) -> None:
        """Note that an exited process had worked: the next one starts at once."""
        self[seat].failed_starts = 0
