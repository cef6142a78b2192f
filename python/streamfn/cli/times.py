"""Times as they are printed: ISO 8601 in UTC with microseconds, in tables and in JSON."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iso(microseconds: int) -> str:
    """Return a time in µs since 1970 as `2026-01-31T12:00:00.000000Z`."""
    return moment(_EPOCH + timedelta(microseconds=microseconds))


def moment(time: datetime) -> str:
    """Return an aware time as `2026-01-31T12:00:00.000000Z`."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
