"""Times: printed in UTC (ISO 8601, in tables to the second), read with a zone or as local time."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import click

from streamfn.units import from_microseconds, parse_duration

TIME_HELP = (
    "@TIME is ISO 8601 (local time, unless it ends in a zone such as Z or +01:00), Unix seconds, "
    "or an age such as @-5m"
)
"""For the help of all that take a time."""


def iso(microseconds: int) -> str:
    """Return a time in µs since 1970 as `2026-01-31T12:00:00.000000Z`."""
    return moment(from_microseconds(microseconds))


def moment(time: datetime) -> str:
    """Return an aware time as `2026-01-31T12:00:00.000000Z`."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def brief(time: str | None) -> str | None:
    """Return a printed time as a table shows it, to the second: `2026-01-31 12:00:00Z`."""
    return None if time is None else f"{time[:10]} {time[11:19]}Z"


def understood(text: str, place: object) -> str:
    """Return a place as it was given; of a time also how it was understood, in UTC."""
    return f"{text} ({brief(moment(place))})" if isinstance(place, datetime) else text


def parse_time(text: str) -> datetime:
    """Read ISO 8601 (without a zone: local time), Unix seconds, or an age such as `-5m`.

    Raises:
        click.BadParameter: It is none of these.
    """
    # WHY here: every command loads this module, and `--version` starts in the time of click.
    from streamfn.clock import SystemClock

    try:
        if text.startswith("-"):
            return SystemClock().now() - parse_duration(text[1:])
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return datetime.fromtimestamp(float(text), UTC)
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        message = f"`@{text}` is not a time: write @2026-01-31T12:00, @1769860800 or @-5m"
        raise click.BadParameter(message) from None
