"""Positions in a stream as they are written on the command line: one grammar for all commands.

    position := beginning | trim_horizon          the oldest record that is kept
              | end | latest                      behind the newest record
              | -N                                the last N records
              | @TIME                             the first record put at TIME or later
              | SEQ                               a sequence number

    TIME     := ISO 8601, Unix seconds, or an age such as -5m

Words may be in upper or lower case. Each command names the kinds that have a meaning for it, and
refuses the others with the same message. SEQ needs a single shard.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

import click

from streamfn.units import parse_duration

from .times import iso_time, table_time

Kind = Literal["beginning", "end", "-N", "@TIME", "SEQ"]

TIME_HELP: Final = (
    "@TIME is ISO 8601 (local time, unless it ends in a zone such as Z or +01:00), Unix seconds, "
    "or an age such as @-5m"
)
"""For the help of each command that takes a time."""
SEQ_HELP: Final = "SEQ is a sequence number and needs --shard, or a stream with one shard"

SEQUENCE_NUMBER_MAX: Final = 2**64 - 1
_WORDS: Final[dict[str, tuple[Kind, str]]] = {
    "beginning": ("beginning", "trim_horizon"),
    "trim_horizon": ("beginning", "trim_horizon"),
    "end": ("end", "latest"),
    "latest": ("end", "latest"),
}
"""Spelling in lower case: its kind, and the word of the core."""
_DESCRIBED: Final[dict[Kind, str]] = {"SEQ": "a sequence number"}
"""What a message says in place of a kind."""


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """A position as it was written and as the core reads it."""

    text: str
    start: str | int | datetime
    """`"trim_horizon"`, `"latest"`, a sequence number, or an aware time."""
    last_records: int | None = None
    """N of `-N`: the position is that many records before `start`."""

    def __str__(self) -> str:
        """Return the text as it was written; for a time also its value in UTC."""
        if isinstance(self.start, datetime):
            return f"{self.text} ({table_time(iso_time(self.start))})"
        return self.text

    def is_after(self, other: StreamPosition) -> bool:
        """Whether this position is known to be after `other`, without a look at the stream."""
        if isinstance(self.start, int) and isinstance(other.start, int):
            return self.start > other.start
        if isinstance(self.start, datetime) and isinstance(other.start, datetime):
            return self.start > other.start
        return False

    def check_past(self) -> None:
        """Refuse a time in the future.

        Raises:
            UsageError: No record has this time yet.
        """
        from streamfn.clock import SystemClock

        if isinstance(self.start, datetime) and self.start > SystemClock().now():
            raise click.UsageError(f"{self} is in the future, no record is as new: use `end`")

    def check_shards(self, shards: int, name: str) -> None:
        """Refuse a sequence number for several shards.

        Args:
            shards: How many shards the position is for.
            name: The stream, or the function that reads them.

        Raises:
            UsageError: The position is a sequence number and there are several shards.
        """
        if not isinstance(self.start, int) or shards <= 1:
            return
        reason = f"sequence number `{self.text}` belongs to one shard, and `{name}` has {shards}"
        raise click.UsageError(f"{reason}: add --shard or use @TIME")


class PositionType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """Positions of some kinds."""

    name = "position"

    def __init__(self, *kinds: Kind) -> None:
        self.kinds = kinds

    @property
    def metavar(self) -> str:
        """The kinds, for the help."""
        return "|".join(self.kinds)

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> StreamPosition:
        """Return the position; anything else is a usage error."""
        try:
            return parse_position(str(value), self.kinds)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def parse_position(text: str, kinds: Collection[Kind]) -> StreamPosition:
    """Read a position of one of the kinds.

    Raises:
        ValueError: It is none; the message says what can be written instead.
    """
    position = _kind_and_position(text)
    if position is None or position[0] not in kinds:
        *others, last = [_DESCRIBED.get(kind, kind) for kind in kinds]
        message = f"`{text}` is not {', '.join(others)} or {last}"
        raise ValueError(message)
    return position[1]


def _kind_and_position(text: str) -> tuple[Kind, StreamPosition] | None:
    if word := _WORDS.get(text.lower()):
        kind, start = word
        return kind, StreamPosition(text, start)
    if text.startswith("@"):
        return "@TIME", StreamPosition(text, parse_time(text[1:]))
    if re.fullmatch(r"-[0-9]{1,18}", text):
        return "-N", StreamPosition(text, "latest", last_records=int(text[1:]))
    if re.fullmatch(r"0*[0-9]{1,20}", text) and int(text) <= SEQUENCE_NUMBER_MAX:
        return "SEQ", StreamPosition(text, int(text))
    return None


def parse_time(text: str) -> datetime:
    """Read ISO 8601 (without a zone: local time), Unix seconds, or an age such as `-5m`.

    Raises:
        ValueError: It is none of these.
    """
    from streamfn.clock import SystemClock

    try:
        if text.startswith("-"):
            return SystemClock().now() - parse_duration(text[1:])
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return datetime.fromtimestamp(float(text), UTC)
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        message = f"`@{text}` is not a time: write @2026-01-31T12:00, @1769860800 or @-5m"
        raise ValueError(message) from None
