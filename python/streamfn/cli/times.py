"""Times as commands print them: in UTC, ISO 8601; in tables to the second."""

from __future__ import annotations

from datetime import UTC, datetime


def iso_microseconds(microseconds: int) -> str:
    """Return a time in µs since 1970 as `2026-01-31T12:00:00.000000Z`."""
    # WHY here: every command loads this module, and `--version` needs nothing of the engine.
    from streamfn.units import from_microseconds

    return iso_time(from_microseconds(microseconds))


def iso_time(time: datetime) -> str:
    """Return an aware time as `2026-01-31T12:00:00.000000Z`."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def table_time(time: str | None) -> str | None:
    """Return a printed time as a table shows it, to the second: `2026-01-31 12:00:00Z`."""
    return None if time is None else f"{time[:10]} {time[11:19]}Z"
