"""When the next process may take a seat: at once, or after a growing pause.

A process that had work and exits is replaced at once. One that exits at its start, or soon after,
is replaced after a pause that doubles: something is wrong that a restart does not mend.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Generic, TypeVar

PAUSE: Final = timedelta(milliseconds=100)
PAUSE_MAX: Final = timedelta(seconds=30)
"""Between the starts of a process that does not come up: doubled each time, up to this."""
FAILED_STARTS_COUNTED_MAX: Final = 16

S = TypeVar("S", bound=Hashable)


@dataclass(slots=True)
class SeatHistory:
    """What is known of a seat."""

    failed_starts: int = 0
    """Processes in a row that did not come up."""
    not_before: float = 0.0
    """When the next may start, on the monotonic clock."""
    first_started: float = 0.0
    was_ready: bool = False
    """Whether a process ever came up in it."""


class RestartBackoff(Generic[S]):
    """The history of each seat."""

    def __init__(self) -> None:
        self._histories: dict[S, SeatHistory] = {}

    def __getitem__(self, seat: S) -> SeatHistory:
        """Return what is known of a seat; of a new one, nothing."""
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
        """Note that a process did not come up: the next one waits longer."""
        history = self[seat]
        pause = min(PAUSE * 2**history.failed_starts, PAUSE_MAX)
        history.failed_starts = min(history.failed_starts + 1, FAILED_STARTS_COUNTED_MAX)
        history.not_before = now + pause.total_seconds()

    def worked(self, seat: S) -> None:
        """Note that a process had come up before it exited: the next one starts at once."""
        self[seat].failed_starts = 0
