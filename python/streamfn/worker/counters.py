"""Counting what a runner does for one mapping."""

from __future__ import annotations

from typing import Final

from streamfn._core import Board
from streamfn.engine.outcome import Condition
from streamfn.errors import FunctionTimedOut
from streamfn.telemetry.counters import Counter

_REASONS: Final[dict[Condition, Counter]] = {
    "RetryAttemptsExhausted": Counter.EXHAUSTED,
    "RecordAgeExceeded": Counter.TOO_OLD,
    "Rejected": Counter.REJECTED,
}


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

    def succeeded(self, cell: int, calls: int, records: int) -> None:
        """Count the last calls of a cell, which succeeded, with their duration and records."""
        self._board.succeeded(cell, self._index, calls, records)

    def succeeded_before_a_failure(self, calls: int) -> None:
        """Count calls with one record that succeeded; `took` has their duration."""
        self._board.add(self._index, Counter.SUCCEEDED, calls)
        self._board.add(self._index, Counter.RECORDS_DONE, calls)

    def records_done(self, amount: int) -> None:
        """Count records that a call processed which failed for others."""
        self._board.add(self._index, Counter.RECORDS_DONE, amount)

    def failed_call(self, error_type: str | None) -> None:
        """Count a failed call, and a cancellation at the timeout.

        Args:
            error_type: Name of the error's type; None: some of the records failed.
        """
        kind = Counter.ERRORS
        if error_type is None:
            kind = Counter.PARTIAL
        elif error_type == FunctionTimedOut.__name__:
            kind = Counter.TIMEOUTS
        self._board.add(self._index, Counter.FAILED_CALLS, 1)
        self._board.add(self._index, kind, 1)

    def took(self, cell: int, calls: int, records: int) -> None:
        """Count the duration of the last calls of a cell, one of which failed."""
        self._board.time_calls(cell, self._index, calls, records)

    def retry(self) -> None:
        """Count a wait before the same records are called again."""
        self._board.add(self._index, Counter.RETRIES, 1)

    def bisect(self) -> None:
        """Count a batch that was split."""
        self._board.add(self._index, Counter.BISECTS, 1)

    def discarded(self, condition: Condition, *, is_dropped: bool) -> None:
        """Count a record that was given up: a dead letter, or dropped."""
        self._board.add(self._index, Counter.DROPPED if is_dropped else Counter.DEAD_LETTERS, 1)
        self._board.add(self._index, _REASONS[condition], 1)

    def redriven_ok(self, amount: int) -> None:
        """Count redriven records that succeeded."""
        self._board.add(self._index, Counter.REDRIVEN_OK, amount)

    def lost(self, amount: int) -> None:
        """Count sequence numbers of damaged records that were skipped."""
        self._board.add(self._index, Counter.LOST, amount)
