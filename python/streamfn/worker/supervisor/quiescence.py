"""`--burst`: detects that no work is left, whichever worker holds the lanes.

A scan reads one lane after the other, so records may be put into lanes that it has read. Two scans
with the same checkpoints, all lanes at their ends and no batch in flight prove that between the
scans every lane was at its end: a record put meanwhile would have moved an end.
"""

from __future__ import annotations

from collections.abc import Iterable

from streamfn._core import LaneStatus

Quiet = frozenset[tuple[str, str, str, int, int]]
"""Mapping, stream, shard id, slot and checkpoint of lanes that are at their ends."""


class QuiescenceCheck:
    """Compares each scan with the previous one."""

    def __init__(self) -> None:
        self._before: Quiet | None = None

    @property
    def is_near(self) -> bool:
        """Whether the last scan found no work, so that the next one should follow soon."""
        return self._before is not None

    def is_over(self, lanes: Iterable[tuple[str, LaneStatus]], now_us: int = 0) -> bool:
        """Compare a scan with the previous one, and return whether all records are processed.

        Args:
            lanes: Every lane of every unpaused mapping, with the mapping's name; read after the
                previous call of this method returned.
            now_us: Wall time, in µs; windows that have ended still need their final call.
        """
        now = _quiet(lanes, now_us)
        is_over = now is not None and now == self._before
        self._before = now
        return is_over


def _quiet(lanes: Iterable[tuple[str, LaneStatus]], now_us: int) -> Quiet | None:
    """Return the checkpoints if all lanes are at their ends and nothing is in flight or due."""
    found = set()
    for mapping, lane in lanes:
        if lane.in_flight is not None or lane.checkpoint < lane.end:
            return None
        if lane.window_us is not None and lane.window_us[1] <= now_us:
            return None
        found.add((mapping, lane.stream, lane.shard_id, lane.slot, lane.checkpoint))
    return frozenset(found)
