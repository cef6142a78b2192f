"""The counters of a mapping, and their numbers on the board.

The board is memory that a runner shares with its supervisor, so the counts of a killed runner are
not lost.
"""

from __future__ import annotations

from enum import IntEnum

from streamfn._core import Board


class Counter(IntEnum):
    """Number of a counter on the board."""

    CALLS = 0
    RECORDS_DONE = 1
    FAILED_CALLS = 2
    RETRIES = 3
    """Back-off waits before a retry of the same records."""
    BISECTS = 4
    DEAD_LETTERS = 5
    CRASHES = 6
    TIMEOUTS = 7
    DROPPED = 8
    """Records dropped with `on_failure=None`."""
    REDRIVEN_OK = 9
    """Redriven records that succeeded."""
    LOST = 10
    """Sequence numbers of damaged records that were skipped."""
    MATCHED = Board.MATCHED
    """Records that match the mapping's filter. The lanes count this and the next two."""
    FILTERED = Board.FILTERED
    """Records that do not match the filter."""
    NOT_JSON = Board.NOT_JSON
    """Records that do not match the filter and whose data is not JSON."""
