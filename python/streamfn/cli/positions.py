"""Positions in a stream as the command line spells them: one grammar for all commands.

beginning   the oldest record that is kept     end   behind the newest record
@TIME       the first record at or after it    SEQ   a sequence number, of one shard
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import click

from .times import parse_time

Position = str | int | datetime
"""What the log takes as a start: `trim_horizon`, `latest`, a sequence number, or a time."""

WORDS = {"beginning": "trim_horizon", "end": "latest"}


def parse_position(text: str, *, words: Sequence[str] = tuple(WORDS), more: str = "") -> Position:
    """Read a position.

    Args:
        text: What was written.
        words: Those of `beginning` and `end` that make sense here.
        more: Another spelling that the command takes, for the message.

    Raises:
        click.BadParameter: It is none of these.
    """
    if text in words:
        return WORDS[text]
    if text.startswith("@"):
        return parse_time(text[1:])
    if not (text.isascii() and text.isdigit()):
        *first, last = [*words, *([more] if more else []), "@TIME", "a sequence number"]
        raise click.BadParameter(f"`{text}` is not {', '.join(first)} or {last}")
    return int(text)


def check_one_shard(position: Position, stream: str, shards: int, *, fix: str) -> None:
    """Refuse a sequence number where it could be of several shards.

    Args:
        position: What `parse_position` returned.
        stream: The stream, for the message.
        shards: How many shards the command reads.
        fix: What to do instead.

    Raises:
        click.BadParameter: It is a sequence number, and there are several shards.
    """
    if isinstance(position, int) and shards > 1:
        reason = f"`{position}` is a sequence number of one shard, and `{stream}` has {shards}"
        raise click.BadParameter(f"{reason}: {fix}")
