"""The JSON shapes and the printed forms of records."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from streamfn.model.record import Record

from .exits import CommandError, Exit
from .times import iso_microseconds, iso_time

if TYPE_CHECKING:
    from streamfn.engine.deadletter import DeadLetter


def record_shape(record: Record) -> dict[str, Any]:
    """Return the JSON object of a record; its payload is `json`, `text` or `base64`."""
    return {
        "stream": record.stream,
        "shard_id": record.shard_id,
        "sequence_number": record.sequence_number,
        "partition_key": record.partition_key,
        "timestamp": iso_microseconds(record.timestamp_us),
        "headers": headers_shape(record.headers),
        **payload_shape(record.data),
    }


def dead_letter_shape(letter: DeadLetter) -> dict[str, Any]:
    """Return the JSON object of a dead letter: its record, and how the function failed."""
    return {
        "stream": letter.stream,
        "shard_id": letter.shard_id,
        "sequence_number": letter.sequence_number,
        "partition_key": letter.partition_key,
        "timestamp": iso_time(letter.put_at),
        "headers": headers_shape(letter.headers),
        **payload_shape(letter.data),
        "id": letter.id,
        "function": letter.function,
        "error_type": letter.error_type,
        "error_message": letter.error_message,
        "traceback": letter.traceback,
        "attempts": letter.attempts,
        "first_failed": iso_time(letter.first_failed),
        "last_failed": iso_time(letter.last_failed),
    }


def payload_shape(data: bytes) -> dict[str, Any]:
    """Return the payload as `json`, or else as `text`, or else as `base64`."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            return {"text": data.decode()}
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(data).decode()}
    # WHY the bytes as they are: numbers beyond 64 bits stay exact. A line break would end the line.
    return {"json": value if b"\n" in data or b"\r" in data else orjson.Fragment(data)}


def headers_shape(headers: Mapping[str, bytes]) -> dict[str, Any]:
    """Return header values as text; one that is not UTF-8 is `{"base64": …}`."""
    shaped: dict[str, Any] = {}
    for name, value in headers.items():
        try:
            shaped[name] = value.decode()
        except UnicodeDecodeError:
            shaped[name] = {"base64": base64.b64encode(value).decode()}
    return shaped


# ---------------------------------------------------------------- formats of `tail -f`

TOKENS: dict[str, Callable[[Record], bytes]] = {
    "s": lambda record: record.data,
    "k": lambda record: (record.partition_key or "").encode(),
    "p": lambda record: record.shard_id.encode(),
    "o": lambda record: b"%d" % record.sequence_number,
    "T": lambda record: b"%d" % (record.timestamp_us // 1000),
    "h": lambda record: b",".join(
        name.encode() + b"=" + value for name, value in record.headers.items()
    ),
    "%": lambda _record: b"%",
}
"""kcat's letters after `%`: payload, key, shard, sequence number, time in ms, headers."""

_ESCAPES = {"n": b"\n", "t": b"\t", "r": b"\r", "0": b"\0", "\\": b"\\"}
_PIECE = re.compile(r"%(.?)|\\(.?)", re.DOTALL)


def record_format(text: str) -> Callable[[Record], bytes]:
    r"""Compile a format such as `%k %s\n`; no line break is added.

    Raises:
        CommandError: An unknown letter after `%` or `\`.
    """
    pieces: list[bytes | Callable[[Record], bytes]] = []
    at = 0
    for piece in _PIECE.finditer(text):
        pieces.append(text[at : piece.start()].encode())
        token, escape = piece[1], piece[2]
        known = TOKENS.get(token) if token is not None else _ESCAPES.get(escape)
        if known is None:
            tokens = " ".join(f"%{letter}" for letter in TOKENS)
            message = f"`{piece[0]}` is unknown in a format"
            raise CommandError(message, f"use {tokens} and \\n \\t \\\\", Exit.USAGE)
        pieces.append(known)
        at = piece.end()
    pieces.append(text[at:].encode())
    parts = [piece for piece in pieces if piece]
    return lambda record: b"".join(p if isinstance(p, bytes) else p(record) for p in parts)
