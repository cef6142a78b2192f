"""Lines of a worker's log: JSON with the keys of AWS Lambda's structured logs, or text for people.

Source of the keys: the AWS Lambda developer guide, "Working with log events", JSON log format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from unicodedata import east_asian_width

import orjson

from .events import LEVELS, WARN

COLOURS: Final = ("2", "36", "33", "31")
"""The colour of each level on a terminal, as the code of its escape sequence."""
LOGGER: Final = "streamfn.worker"
"""The logger of the worker's own lines."""

KEYS: Final = {
    "request_id": "requestId",
    "error_type": "errorType",
    "error_message": "errorMessage",
    "traceback": "stackTrace",
    "mapping": "function",
    "shard_id": "shard",
    "sequence_number": "sequence",
    "first": "sequence",
}
"""Fields whose JSON keys have other names, mostly those of AWS."""

_IN_MESSAGE: Final = {
    *("event", "level", "mapping", "stream", "shard_id", "sequence_number", "first", "last"),
    *("error_type", "error_message", "traceback", "records", "attempt", "attempts", "seconds"),
    *("message", "reason", "factor", "timeout", "logger", "location", "times", "of"),
    *("calls", "failures", "retries", "bisects", "dead_letters", "lost", "matched"),
    *("hint", "changed", "holds_back", "field", "existing", "declared"),
    *("filtered", "not_json", "throttled", "behind", "lines", "state", "extra"),
}
"""Fields that a text line has in its message."""

_DETAIL: Final = {
    "request_id",
    "worker",
    "pid",
    "slot",
    "lane",
    "path",
    "position",
    "is_solo",
    "since",
    "failure",
    "destination",
    "condition",
    "group",
}
"""Fields that a text line has only with `-v`."""


_FIXED_KEYS: Final = {"timestamp", "level", "message"}
"""Keys that every line has."""
_ASCII_END: Final = 128


class LineFormatter(Protocol):
    """Formats one event as a line."""

    def __call__(self, time: datetime, level: int, message: str, event: Mapping[str, Any]) -> str:
        """Return the line, without a line break."""
        ...


def as_json(time: datetime, level: int, message: str, event: Mapping[str, Any]) -> str:
    """Return an event as a JSON object.

    What a log call gave as `extra` becomes keys beside the others; those that are taken come
    together as the object `extra`.
    """
    fields = {
        KEYS.get(name, name): value for name, value in event.items() if name not in _FIXED_KEYS
    }
    extra = fields.pop("extra", {})
    line = {
        "timestamp": time.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z",
        "level": LEVELS[level],
        "message": message,
        "logger": fields.pop("logger", LOGGER),
        **{name: value for name, value in fields.items() if value is not None},
    }
    taken = {name: value for name, value in extra.items() if name in line or name == "extra"}
    free = {name: value for name, value in extra.items() if name not in taken}
    line |= free | ({"extra": taken} if taken else {})
    return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


@dataclass(frozen=True, slots=True)
class TextLines:
    """Formats events for people."""

    is_coloured: bool = False
    is_verbose: bool = False
    """Whether lines have all fields."""
    columns: int | None = None
    """Width of the terminal. Longer lines are cut if they are the worker's own and no warnings or
    errors; the others are needed whole, and the terminal folds them. None: no line is cut."""

    def __call__(self, time: datetime, level: int, message: str, event: Mapping[str, Any]) -> str:
        """Return an event as `12:00:01.234 INFO  shop.total orders/3 #18231 message`."""
        clock = time.astimezone().strftime("%H:%M:%S.") + f"{time.microsecond // 1000:03d}"
        name = LEVELS[level].ljust(5)
        message, *more = message.rstrip().splitlines() or [""]
        parts = [str(event.get("mapping") or ""), _location(event), message]
        is_own = "logger" not in event
        left_out = _IN_MESSAGE if self.is_verbose else _IN_MESSAGE | _DETAIL
        if not (is_own or self.is_verbose):
            left_out = left_out | {"runner"}
        parts += [
            f"{key}={','.join(map(str, value)) if isinstance(value, list) else value}"
            for key, value in [
                *((key, value) for key, value in event.items() if key not in left_out),
                *event.get("extra", {}).items(),
            ]
            if value is not None
        ]
        rest = " ".join(part for part in parts if part)
        if self.columns is not None and is_own and level < WARN and not self.is_verbose:
            rest = fitting(rest, self.columns - len(f"{clock} {name} "))
        if self.is_coloured:
            clock, name = f"\x1b[2m{clock}\x1b[0m", f"\x1b[{COLOURS[level]}m{name}\x1b[0m"
        line = "\n".join([f"{clock} {name} {rest}", *(f"    {each}" for each in more)])
        if event.get("traceback"):
            line += "\n" + str(event["traceback"]).rstrip()
        return line


def fitting(text: str, columns: int) -> str:
    """Return a text in so many columns of a terminal; what is cut is shown as `…`."""
    if len(text) <= columns and text.isascii():
        return text
    used = 0
    for place, letter in enumerate(text):
        width = 1 if ord(letter) < _ASCII_END else 1 + (east_asian_width(letter) in "WF")
        if used + width > columns or (used + width == columns and place + 1 < len(text)):
            return text[:place] + "…"
        used += width
    return text


def _location(event: Mapping[str, Any]) -> str:
    """Return stream, shard and sequence number of an event: `orders/3 #18231`.

    An event about a whole stream has the stream in its message.
    """
    stream, shard = event.get("stream"), str(event.get("shard_id") or "")
    if not (stream and shard):
        return ""
    number = event.get("sequence_number", event.get("first"))
    short = shard.removeprefix("shardId-").lstrip("0") or "0"
    return f"{stream}/{short}" + ("" if number is None else f" #{number}")
