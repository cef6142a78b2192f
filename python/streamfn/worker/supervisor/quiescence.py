"""`--burst`: when there is nothing left to do, whoever holds the lanes.

One scan reads lane after lane, so a record may be put behind its back. Two scans that find the
same checkpoints, the same ends and no batch in flight prove that at the moment between them every
lane was at its end: what is put after a lane was read shows as an end that moved.
"""

from __future__ import annotations

from collections.abc import Iterable

from streamfn._core import LaneStatus

Quiet = frozenset[tuple[str, str, str, int, int]]
"""Mapping, stream, shard id, slot and checkpoint of lanes that are at their ends."""


class QuiescenceCheck:
    """Compares one scan with the one before."""

    def __init__(self) -> None:
        self._before: Quiet | None = None

    @property
    def is_near(self) -> bool:
        """Whether the last scan found nothing to do: the next should come soon."""
        return self._before is not None

    def is_over(self, lanes: Iterable[tuple[str, LaneStatus]], now_us: int = 0) -> bool:
        """Take in a scan, and return whether everything is processed.

        Args:
            lanes: Every lane of every unpaused mapping, with the mapping's name; read after the
                call before returned.
            now_us: Wall time, µs; windows that are over by now have their final call to come.
        """
        now = _quiet(lanes, now_us)
        is_over = now is not None and now == self._before
        self._before = now
        return is_over


def _quiet(lanes: Iterable[tuple[str, LaneStatus]], now_us: int) -> Quiet | None:
    """Return the checkpoints if all lanes are at their ends, with nothing in flight or due."""
    found = set()
    for mapping, lane in lanes:
        if lane.in_flight is not None or lane.checkpoint < lane.end:
            return None
        if lane.window_us is not None and lane.window_us[1] <= now_us:
            return None
        found.add((mapping, lane.stream, lane.shard_id, lane.slot, lane.checkpoint))
    return frozenset(found)
