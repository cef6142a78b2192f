"""Deadlines of calls, as the supervisor sees them.

When the supervisor itself was late (its machine was suspended, its whole process group stopped),
the calls may have been, too: all deadlines move by as much as its tick was late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Final

from .verdict import Cell

TICK: Final = timedelta(milliseconds=50)
"""How often the supervisor looks; a call is killed at most about so much too late."""
TICK_MAX: Final = timedelta(milliseconds=200)
"""A tick that took longer than this was late."""


class DeadlineWatch:
    """Tells which calls of one runner are past their time.

    Its clock runs like the monotonic one, but by no more than `TICK_MAX` from look to look.
    """

    def __init__(self, timeout_of: Callable[[int], float], now: float) -> None:
        """Begin to watch.

        Args:
            timeout_of: Seconds that one call of a lane may take.
            now: Monotonic time.
        """
        self._timeout_of = timeout_of
        self._last, self._clock = now, 0.0
        self._ends: dict[Cell, float] = {}
        self.accompanied: frozenset[Cell] = frozenset()
        """Calls in progress beside which others were seen."""

    def look(self, cells: Iterable[Cell], now: float) -> frozenset[Cell]:
        """Return the calls in progress that are past their time."""
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
        """Return when, on this clock, a call that is seen for the first time has to be over.

        A single record began at some time since the last look; a batch has its deadline.
        """
        if cell.running is not None or cell.deadline is None:
            return self._clock + self._timeout_of(cell.lane)
        return self._clock + max(cell.deadline - now, 0.0) + late
