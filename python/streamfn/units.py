"""Durations and sizes as people write them, and times as records carry them.

Inside streamfn a duration is a `timedelta` and a size is a whole number of bytes. Strings are read
and printed only at the edge: in decorators and on the command line. A bare number is seconds or
bytes. A record carries its time as µs since 1970 (UTC); both conversions are exact.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Final

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_BYTES = {
    "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_FOUR_FIGURES = 999.5
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
DURATION_MAX: Final = timedelta(days=3_650)
"""Longest time that anything may be told to take: added to a time, it stays in every calendar."""
SIZE_MAX: Final = 2**63 - 1
"""What a file system counts to."""
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")


def parse_duration(value: str | float | timedelta) -> timedelta:
    """Read `"500ms"`, `"5s"`, `"2m"`, `"1h 30m"`, `"7d"`, or a number of seconds.

    Raises:
        ValueError: It is negative or not a duration; the message says how to write one.
    """
    duration = _duration(value)
    if duration is None or duration < timedelta(0):
        message = f"`{value}` is not a duration: write 500ms, 5s, 2m, 1h, 7d or a number of seconds"
        raise ValueError(message)
    return duration


def parse_size(value: str | int) -> int:
    """Read `"64KiB"`, `"10 MiB"`, `"1GB"`, or a number of bytes.

    Raises:
        ValueError: It is negative, beyond 8 EiB or not a size; the message says how to write one.
    """
    size = _size(value)
    if size is None or not 0 <= size <= SIZE_MAX:
        message = f"`{value}` is not a size: write 64KiB, 10MiB, 1GiB or a number of bytes"
        raise ValueError(message)
    return size


def format_duration(duration: timedelta) -> str:
    """Print a duration with two or three figures: `850 µs`, `14.2 ms`, `3.1 s`, `2 m 05 s`."""
    seconds = duration.total_seconds()
    if seconds < _SECONDS["ms"]:
        return f"{seconds * 1e6:.0f} µs" if seconds else "0 s"
    if seconds < _SECONDS["s"]:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < _SECONDS["m"]:
        return f"{seconds:.3g} s"
    if seconds < _SECONDS["h"]:
        return "{} m {:02d} s".format(*divmod(round(seconds), 60))
    if seconds < 2 * _SECONDS["d"]:
        return "{} h {:02d} m".format(*divmod(round(seconds / 60), 60))
    return "{} d {:02d} h".format(*divmod(round(seconds / 3600), 24))


def format_size(size: int) -> str:
    """Print a size with three figures and a binary unit: `1.5 MiB`."""
    if size < _BYTES["kib"]:
        return f"{size} B"
    amount = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= _BYTES["kib"]
        if amount < _FOUR_FIGURES:
            return f"{amount:.3g} {unit}"
    return f"{amount / _BYTES['kib']:.3g} TiB"


def format_count(count: int, noun: str = "") -> str:
    """Print a count with thousands apart, and what is counted: `6,099`, `1 record`, `0 records`."""
    ending = "" if count == 1 else "s"
    return f"{count:,} {noun}{ending}" if noun else f"{count:,}"


def to_microseconds(time: datetime) -> int:
    """Return an aware time as µs since 1970.

    WHY not `timestamp()`: it is a float, which has no room for the microseconds of every time.
    """
    return (time - _EPOCH) // _MICROSECOND


def from_microseconds(microseconds: int) -> datetime:
    """Return µs since 1970 as a time in UTC.

    Raises:
        OverflowError: The time is outside the years 1 to 9999.
    """
    return _EPOCH + timedelta(microseconds=microseconds)


def _duration(value: object) -> timedelta | None:
    match value:
        case timedelta():
            return value
        case bool():
            return None
        case int() | float():
            return _seconds(value)
        case str():
            return _parts(value)
    return None


def _parts(text: str) -> timedelta | None:
    total, at = 0.0, 0
    text = text.strip()
    while at < len(text):
        part = _PART.match(text, at)
        if part is None or (not part[2] and part.end() - part.start() != len(text)):
            return None
        unit = _SECONDS.get(part[2].lower() or "s")
        if unit is None:
            return None
        total, at = total + float(part[1]) * unit, part.end()
    return _seconds(total) if text else None


def _seconds(seconds: float) -> timedelta | None:
    try:
        return timedelta(seconds=seconds)
    except (OverflowError, ValueError):  # beyond 10^9 days, or not a number
        return None


def _size(value: object) -> int | None:
    match value:
        case bool():
            return None
        case int():
            return value
        case str():
            part = _PART.fullmatch(value.strip())
            unit = _BYTES.get(part[2].lower() or "b") if part else None
            size = float(part[1]) * unit if part and unit else inf
            return round(size) if size < inf else None
    return None
