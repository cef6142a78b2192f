"""The counters of a mapping, and their numbers on the board.

The board is memory that a runner shares with its supervisor, so the counts of a killed runner are
not lost.
"""

from __future__ import annotations

from enum import IntEnum

from streamfn._core import Board
from streamfn.errors import FunctionTimedOut


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


class MappingCounts:
    """Counts what a runner does for one mapping.

    Filters are counted by the lanes in the core; the supervisor counts for a runner that it killed,
    see `Tally`.
    """

    __slots__ = ("_board", "_index")

    def __init__(self, board: Board, index: int) -> None:
        """Count on a board, at the place of a mapping."""
        self._board, self._index = board, index

    def calls(self, amount: int = 1) -> None:
        """Count calls that were made."""
        self._board.add(self._index, Counter.CALLS, amount)

    def records_done(self, amount: int) -> None:
        """Count records that the function processed."""
        self._board.add(self._index, Counter.RECORDS_DONE, amount)

    def failed_call(self, error_type: str | None) -> None:
        """Count a failed call, and a cancellation at the timeout.

        Args:
            error_type: Name of the error's type; None: records failed for several reasons.
        """
        self._board.add(self._index, Counter.FAILED_CALLS, 1)
        if error_type == FunctionTimedOut.__name__:
            self._board.add(self._index, Counter.TIMEOUTS, 1)

    def retry(self) -> None:
        """Count a wait before the same records are called again."""
        self._board.add(self._index, Counter.RETRIES, 1)

    def bisect(self) -> None:
        """Count a batch that was split."""
        self._board.add(self._index, Counter.BISECTS, 1)

    def discarded(self, *, is_dropped: bool) -> None:
        """Count a record that was given up: a dead letter, or dropped."""
        self._board.add(self._index, Counter.DROPPED if is_dropped else Counter.DEAD_LETTERS, 1)

    def redriven_ok(self, amount: int) -> None:
        """Count redriven records that succeeded."""
        self._board.add(self._index, Counter.REDRIVEN_OK, amount)

    def lost(self, amount: int) -> None:
        """Count sequence numbers of damaged records that were skipped."""
        self._board.add(self._index, Counter.LOST, amount)
