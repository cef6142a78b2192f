"""Deadlines of calls: finds the calls that are past their timeout, and kills their runners.

If the supervisor itself was late (the machine was suspended, or its process group was stopped), the
calls may have been stopped too. So all deadlines move by as much as the tick was late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Final, Protocol

from .verdict import Cell

TICK: Final = timedelta(milliseconds=50)
"""Interval of the supervisor's checks; a call is killed at most about so much too late."""
TICK_MAX: Final = timedelta(milliseconds=200)
"""A tick that took longer than this was late."""


class DeadlineWatch:
    """Finds the calls of one runner that are past their timeout.

    Its clock follows the monotonic clock, but advances at most `TICK_MAX` from check to check.
    """

    def __init__(self, timeout_of: Callable[[int], float], now: float) -> None:
        """Start watching.

        Args:
            timeout_of: Returns the timeout of a lane's calls, in seconds.
            now: Monotonic time.
        """
        self._timeout_of = timeout_of
        self._last, self._clock = now, 0.0
        self._ends: dict[Cell, float] = {}
        self.accompanied: frozenset[Cell] = frozenset()
        """Calls in progress that were seen beside other calls."""

    def look(self, cells: Iterable[Cell], now: float) -> frozenset[Cell]:
        """Return the calls in progress that are past their timeout."""
        cells = frozenset(cells)
        self.accompanied = cells if len(cells) > 1 else cells & self.accompanied
        passed = now - self._last
        counted = min(passed, TICK_MAX.total_seconds())
        self._last = now
        self._clock += counted
        late = passed - counted
        self._ends = {
            cell: self._ends[cell] if cell in self._ends else self._end(cell, now, late)
            for cell in cells
        }
        return frozenset(cell for cell, end in self._ends.items() if end <= self._clock)

    def _end(self, cell: Cell, now: float, late: float) -> float:
        """Return the end of the timeout, on this clock, of a call that is seen the first time.

        A single record began at an unknown time since the last check; a batch has a deadline.
        """
        if cell.running is not None or cell.deadline is None:
            return self._clock + self._timeout_of(cell.lane)
        return self._clock + max(cell.deadline - now, 0.0) + late


class WatchedRunner(Protocol):
    """A runner whose calls have deadlines."""

    @property
    def watch(self) -> DeadlineWatch | None:
        """Watches its calls, once it is ready."""
        ...

    expired: frozenset[Cell]
    """The calls past their timeout, for which it was killed."""

    def cells(self) -> tuple[Cell, ...]:
        """Return the calls in progress."""
        ...

    def kill(self) -> None:
        """Kill it and its process group."""
        ...


def kill_if_late(runner: WatchedRunner, now: float) -> frozenset[Cell]:
    """Kill a runner if calls in it are past their timeout; return these calls, once in its life."""
    if runner.watch is None or runner.expired:
        return frozenset()
    runner.expired = runner.watch.look(runner.cells(), now)
    if runner.expired:
        runner.kill()
    return runner.expired
