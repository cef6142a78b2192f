"""The counters of a mapping: their numbers, and what all processes have counted together.

A runner counts on its board, for the totals of its worker, and in the counts of the mapping in the
log directory, which all workers share and which survive the death of any process.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from streamfn._core import Board, Counts, Log

from .histogram import Histogram

_NANOSECONDS: Final = 1e9


class Counter(IntEnum):
    """Number of a counter, on a board and in the counts of a mapping."""

    CALLS = 0
    """Calls of the function; with `input="record"` one per record."""
    RECORDS_DONE = Board.RECORDS_DONE
    """Records that the function processed."""
    FAILED_CALLS = 2
    """All calls that did not succeed: the sum of `ERRORS`, `PARTIAL`, `TIMEOUTS` and `CRASHES`."""
    RETRIES = 3
    """Back-off waits before a retry of the same records."""
    BISECTS = 4
    DEAD_LETTERS = 5
    CRASHES = 6
    """Calls in which the runner died."""
    TIMEOUTS = 7
    DROPPED = 8
    """Records dropped with `on_failure=None`."""
    REDRIVEN_OK = 9
    """Redriven records that succeeded."""
    LOST = 10
    """Sequence numbers of damaged records that were skipped."""
    SUCCEEDED = Board.SUCCEEDED
    """Calls that succeeded."""
    PARTIAL = 12
    """Calls that succeeded for some of their records."""
    ERRORS = 13
    """Calls that raised an error."""
    EXHAUSTED = 14
    """Records given up because no retry was left."""
    TOO_OLD = 15
    """Records given up because of `max_record_age`."""
    REJECTED = 16
    """Records that the function gave up itself."""
    THROTTLED = 17
    """Calls by request that were refused because too many ran; they are not in `CALLS`."""
    MATCHED = Board.MATCHED
    """Records that match the mapping's filter. The lanes count this and the next two."""
    FILTERED = Board.FILTERED
    """Records that do not match the filter."""
    NOT_JSON = Board.NOT_JSON
    """Records that do not match the filter and whose data is not JSON."""


@dataclass(frozen=True, slots=True)
class Counters:
    """All that was counted for a function since it was registered, by all workers."""

    values: tuple[int, ...]
    """By the number of the `Counter`."""
    durations: Histogram
    """Durations of calls in seconds; with `input="record"` the means of calls in a row."""
    sizes: Histogram
    """Records of each call."""

    def __getitem__(self, counter: Counter) -> int:
        return self.values[counter]

    def __sub__(self, earlier: Counters) -> Counters:
        """Return what was counted since an earlier reading; nothing below 0."""
        values = zip(self.values, earlier.values, strict=True)
        return Counters(
            tuple(max(0, now - before) for now, before in values),
            self.durations - earlier.durations,
            self.sizes - earlier.sizes,
        )

    @property
    def delivered(self) -> int:
        """Records that functions were called with, each time that they were."""
        return int(self.sizes.sum)


_DURATION_BOUNDS: Final = tuple(bound / _NANOSECONDS for bound in Counts.DURATION_BOUNDS_NS)
_SIZE_BOUNDS: Final = tuple(float(bound) for bound in Counts.SIZE_BOUNDS)
NOTHING: Final = Counters(
    (0,) * Board.COUNTERS,
    Histogram(_DURATION_BOUNDS, (0,) * (len(_DURATION_BOUNDS) + 1), 0.0),
    Histogram(_SIZE_BOUNDS, (0,) * (len(_SIZE_BOUNDS) + 1), 0.0),
)
"""The counters of a function that was never called."""


def read_counters(log: Log, mapping: str) -> Counters:
    """Return what all workers have counted for a mapping; zeros if it was never called.

    Raises:
        StorageIO: The counts cannot be read.
    """
    values = Counts.read(log, mapping)
    if values is None:
        return NOTHING
    counters, (nanoseconds, durations), (records, sizes) = values
    return Counters(
        tuple(counters),
        Histogram(_DURATION_BOUNDS, tuple(durations), nanoseconds / _NANOSECONDS),
        Histogram(_SIZE_BOUNDS, tuple(sizes), float(records)),
    )
