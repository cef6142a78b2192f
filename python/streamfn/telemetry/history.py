"""The history of a function: how it was at each second of an hour, and each ten seconds of a day.

`metrics/<mapping>.history` is two rings of fixed size. One worker at a time writes it; a slot that
was torn by a crash or a power cut is recognised by its checksum and left out. docs/format.md has
the bytes.
"""

from __future__ import annotations

import fcntl
import os
import struct
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import timedelta
from math import isnan, nan
from pathlib import Path
from statistics import median
from typing import Final, Self
from zlib import crc32

METRICS_FOLDER: Final = "metrics"
"""Name of the folder of a log directory that has the counts and histories of functions."""
_MAGIC: Final = b"SFHISTO\x01"
_HEADER_BYTES: Final = 64
_SLOT: Final = struct.Struct("<8Q2fI4x")
_CHECKED: Final = 72
"""Bytes of a slot that its checksum covers."""
SECONDS_KEPT: Final = 3_600
TENS_KEPT: Final = 8_640
FILE_BYTES: Final = _HEADER_BYTES + (SECONDS_KEPT + TENS_KEPT) * _SLOT.size
"""Most bytes of a history file, 979,264."""


@dataclass(frozen=True, slots=True)
class Point:
    """How a function was at one moment. The counts are totals since it was registered."""

    time: int
    """Seconds since 1970."""
    appended: int
    """Sequence numbers given in its streams, added up over the shards."""
    processed: int
    calls: int
    failed: int
    """Failed calls."""
    retries: int
    discarded: int
    """Records given up."""
    behind: int
    """Records that waited for it."""
    p50: float
    """Duration of a call in seconds since the point before; NaN without a call."""
    p99: float


@dataclass(frozen=True, slots=True)
class Ring:
    """A part of the file: so many slots, one for each so many seconds."""

    offset: int
    slots: int
    seconds: int

    def place(self, time: int) -> int:
        """Return the offset of the slot for a time."""
        return self.offset + time // self.seconds % self.slots * _SLOT.size


SECONDS: Final = Ring(_HEADER_BYTES, SECONDS_KEPT, 1)
TENS: Final = Ring(_HEADER_BYTES + SECONDS_KEPT * _SLOT.size, TENS_KEPT, 10)


class HistoryWriter:
    """Writes the history of one mapping, while it holds the lock of the file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def open(cls, folder: Path, mapping: str) -> Self | None:
        """Open the history of a mapping; None if another worker writes it.

        A file that is not a history is made anew.

        Raises:
            OSError: The file cannot be made, for example because the disk is full.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(path_of(folder, mapping), flags, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return None
            if os.pread(descriptor, len(_MAGIC), 0) != _MAGIC:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, _MAGIC.ljust(_HEADER_BYTES, b"\0"), 0)
        except OSError:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def write(self, ring: Ring, point: Point) -> None:
        """Write a point into its slot.

        Raises:
            OSError: The disk is full, or fails.
        """
        os.pwrite(self._descriptor, _encode(point), ring.place(point.time))

    def close(self) -> None:
        """Let another worker write it."""
        os.close(self._descriptor)


def read_history(folder: Path, mapping: str, since: int) -> list[Point]:
    """Return the points of a mapping after a time, and the last one before it, the oldest first.

    Of the last hour there is one for each second in which a worker ran, of the day before one for
    each ten seconds.

    Args:
        folder: The folder `metrics` of a log directory.
        mapping: Name of the mapping.
        since: Seconds since 1970.

    Raises:
        OSError: The file cannot be read.
    """
    try:
        data = path_of(folder, mapping).read_bytes()
    except FileNotFoundError:
        return []
    if not data.startswith(_MAGIC):
        return []
    seconds, tens = _points(data, SECONDS), _points(data, TENS)
    newest = max((point.time for point in (*seconds, *tens)), default=0)
    hour = newest - SECONDS_KEPT  # what is older in the ring of seconds has gaps
    points = sorted(
        [point for point in tens if point.time <= hour]
        + [point for point in seconds if point.time > hour],
        key=lambda point: point.time,
    )
    first = bisect_right(points, since, key=lambda point: point.time)
    return points[max(0, first - 1) :]


def thinned(points: Iterable[Point], every: timedelta) -> list[Point]:
    """Return the last point of each interval, with the durations of all of them.

    `p50` is the middle one of theirs, `p99` the highest.
    """
    seconds = max(1, round(every.total_seconds()))
    by_interval: defaultdict[int, list[Point]] = defaultdict(list)
    for point in points:
        by_interval[point.time // seconds].append(point)
    return [_joined(interval) for interval in by_interval.values()]


def _joined(points: Sequence[Point]) -> Point:
    p50s = [point.p50 for point in points if not isnan(point.p50)]
    p99s = [point.p99 for point in points if not isnan(point.p99)]
    p50, p99 = median(p50s) if p50s else nan, max(p99s, default=nan)
    return replace(points[-1], p50=p50, p99=p99)


def path_of(folder: Path, mapping: str) -> Path:
    """Return the path of a mapping's history."""
    return folder / f"{mapping}.history"


def _encode(point: Point) -> bytes:
    slot = _SLOT.pack(*astuple(point), 0)
    return _SLOT.pack(*astuple(point), crc32(slot[:_CHECKED]))


def _points(data: bytes, ring: Ring) -> list[Point]:
    """Return the whole points of a ring, in the order of the slots."""
    end = min(ring.offset + ring.slots * _SLOT.size, len(data) - len(data) % 8)
    found = []
    for offset in range(ring.offset, end - _SLOT.size + 1, _SLOT.size):
        *values, check = _SLOT.unpack_from(data, offset)
        is_whole = check == crc32(data[offset : offset + _CHECKED])
        if values[0] and is_whole and ring.place(values[0]) == offset:
            found.append(Point(*values))
    return found
