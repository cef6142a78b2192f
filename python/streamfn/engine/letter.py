"""The dead-letter header: a JSON description of a record that was given up.

A dead letter is the unchanged record (data, key, headers) with one more header. Markers and
redriven copies have the same header with another `kind`:

    failed     in the dead-letter stream, the record with its error
    queued     in the dead-letter stream, without data: copied to the redrive stream
    resolved   in the dead-letter stream, without data: its copy succeeded
    dropped    in the dead-letter stream, without data: given up by a user
    redrive    in the redrive stream, the record to retry

`origin` is where the record was first put and never changes. Each redrive increases `round` by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import orjson

from streamfn._core import DEAD_LETTER_BYTES_EXTRA, Record
from streamfn.error_text import MESSAGE_BYTES_MAX, TYPE_BYTES_MAX
from streamfn.model.mapping import EventSourceMapping
from streamfn.model.record import DEAD_LETTER_HEADER
from streamfn.texts import cut

from .settle import DiscardedRecord

Kind = Literal["failed", "queued", "resolved", "dropped", "redrive"]

HEADER_BYTES_MAX: Final = DEAD_LETTER_BYTES_EXTRA - 2**10
"""A longer header, for example after JSON escaping, loses more of its traceback."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a record was first put, and its history since."""

    stream: str
    shard_id: str
    sequence_number: int
    timestamp_us: int
    round: int = 0
    """Number of redrives."""
    attempts: int = 0
    """Failed calls in earlier rounds."""
    first_failed_us: int = 0
    """When the first call failed; 0: not before this round."""
    window: tuple[int, int] | None = None
    """Start and end, in µs, of a window whose final call failed; None: this is about a record."""
    replay: str | None = None
    """Name of the replay that the window belongs to. WHY only for windows: a record is the same in
    a replay, while the window of a replay may cover fewer records and have another state."""

    @classmethod
    def of(cls, record: Record, mapping: EventSourceMapping) -> Origin:
        """Return the origin of a record that a function was called with."""
        if record.stream == mapping.redrive_stream:
            header = read(record)
            if header is not None:
                return cls.read(header)
        return cls(record.stream, record.shard_id, record.sequence_number, record.timestamp_us)

    @classmethod
    def read(cls, header: Mapping[str, Any]) -> Origin:
        """Read the origin from a header of any kind."""
        place = dict(header["origin"])
        window = place.pop("window", None)
        return cls(
            **place,
            window=None if window is None else (window[0], window[1]),
            round=header["round"],
            attempts=header.get("attempts", 0),
            first_failed_us=header.get("first_failed_us", 0),
        )

    @property
    def place(self) -> dict[str, Any]:
        """The field `origin` of the header."""
        place: dict[str, Any] = {
            "stream": self.stream,
            "shard_id": self.shard_id,
            "sequence_number": self.sequence_number,
            "timestamp_us": self.timestamp_us,
        }
        if self.window is not None:
            place["window"] = list(self.window)
        if self.replay is not None:
            place["replay"] = self.replay
        return place


def read(record: Record) -> dict[str, Any] | None:
    """Return the record's dead-letter header; None if it has none or it is malformed."""
    header = record.headers.get(DEAD_LETTER_HEADER)
    if header is None:
        return None
    try:
        values = orjson.loads(header)
    except orjson.JSONDecodeError:
        return None
    return values if isinstance(values, dict) and "origin" in values else None


def failed(
    letter: DiscardedRecord,
    mapping: EventSourceMapping,
    now_us: int,
    traceback_bytes: int,
    code_version: str = "",
) -> dict[str, bytes]:
    """Return the headers of a dead letter: those of the record and the dead-letter header."""
    origin = Origin.of(letter.record, mapping)
    origin = replace(origin, window=letter.window, replay=letter.replay)
    failure = letter.failure
    values = {
        "kind": "failed",
        "function": mapping.name,
        "function_version": mapping.version,
        "code_version": code_version,
        "condition": letter.condition,
        "error_type": cut(failure.error_type, TYPE_BYTES_MAX),
        "error_message": cut(failure.error_message, MESSAGE_BYTES_MAX),
        "traceback": cut(failure.traceback, traceback_bytes),
        "attempts": origin.attempts + letter.attempts,
        "first_failed_us": origin.first_failed_us or letter.first_failed_us,
        "last_failed_us": now_us,
        "origin": origin.place,
        "round": origin.round,
    }
    return {**letter.record.headers, DEAD_LETTER_HEADER: _encoded(values)}


def as_part(headers: Mapping[str, bytes], number: int, count: int) -> dict[str, bytes]:
    """Return the headers of one part of a dead letter that is put in parts."""
    values = {**orjson.loads(headers[DEAD_LETTER_HEADER]), "part": [number, count]}
    return {**headers, DEAD_LETTER_HEADER: orjson.dumps(values)}


def marker(kind: Kind, function: str, origin: Origin, now_us: int) -> dict[str, bytes]:
    """Return the header of a marker."""
    values = {
        "kind": kind,
        "function": function,
        "at_us": now_us,
        "origin": origin.place,
        "round": origin.round,
    }
    return {DEAD_LETTER_HEADER: _encoded(values)}


def redriven(function: str, origin: Origin, headers: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the headers of a redriven copy; `origin` has the history of earlier rounds."""
    values = {
        "kind": "redrive",
        "function": function,
        "origin": origin.place,
        "round": origin.round + 1,
        "attempts": origin.attempts,
        "first_failed_us": origin.first_failed_us,
    }
    return {**headers, DEAD_LETTER_HEADER: _encoded(values)}


def _encoded(values: dict[str, Any]) -> bytes:
    header = orjson.dumps(values)
    for bytes_max in (8 * 2**10, 2 * 2**10, 0):
        if len(header) <= HEADER_BYTES_MAX or "traceback" not in values:
            break
        texts = {name: cut(values[name], bytes_max) for name in ("traceback", "error_message")}
        header = orjson.dumps({**values, **texts})
    return header
