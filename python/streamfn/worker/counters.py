"""What is counted for each mapping, and where on the board.

The board is memory that a runner shares with its supervisor, so the counts of a runner that was
killed are not lost.
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
    """Waits before the same records were called again."""
    BISECTS = 4
    DEAD_LETTERS = 5
    CRASHES = 6
    TIMEOUTS = 7
    DROPPED = 8
    """Given up under `on_failure=None`."""
    REDRIVEN_OK = 9
    LOST = 10
    """Sequence numbers of damaged records that were passed over."""
    MATCHED = Board.MATCHED
    """Records that the mapping's filter took; counted, with the two below, by the lanes."""
    FILTERED = Board.FILTERED
    """Records that it did not take."""
    NOT_JSON = Board.NOT_JSON
    """Records that it did not take, and whose data is not JSON."""
