"""The log of a worker on stderr: text on a terminal, JSON elsewhere.

The keys of the JSON are those of AWS Lambda's structured logs, so that the same tools read it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from streamfn.clock import SystemClock
from streamfn.units import format_count

from .console import output, shows_colour
from .times import iso_time

if TYPE_CHECKING:
    from streamfn.worker.supervisor.progress import MappingProgress

DEBUG, INFO, WARN, ERROR = range(4)
LEVELS: Final = ("DEBUG", "INFO", "WARN", "ERROR")
COLOURS: Final = ("2", "36", "33", "31")

EVENTS: Final[dict[str, tuple[int, str]]] = {
    "worker_started": (INFO, "worker started"),
    "worker_stopped": (INFO, "worker stopped"),
    "worker_draining": (INFO, "{message}"),
    "worker_abandons": (WARN, "{message}"),
    "worker_death_noticed": (WARN, "another worker died: taking over its lane"),
    "waiting_for_stream": (INFO, "waiting for stream `{stream}`"),
    "stream_created": (INFO, "created the declared stream `{stream}`"),
    "stream_differs": (
        WARN,
        "stream `{stream}` has {field} {existing}, the app declares {declared} (hint: {hint})",
    ),
    "factor_changed": (INFO, "this shard now has {factor} lanes"),
    "replay_started": (INFO, "replay started or continued"),
    "replay_finished": (INFO, "replay finished"),
    "runner_started": (DEBUG, "runner started"),
    "runner_stopped": (DEBUG, "runner stopped"),
    "runner_died": (ERROR, "runner died: {reason}"),
    "runner_not_ready": (ERROR, "runner not ready: {error_message}"),
    "runner_not_started": (ERROR, "runner not started: {error_message}"),
    "process_broken": (ERROR, "process failed and is replaced: {error}"),
    "runner_exhausted": (
        WARN,
        "runner replaced: it is out of descriptors, memory or threads (does a function leak them?)",
    ),
    "runner_in_doubt": (
        WARN,
        "runner replaced: calls in it failed because of other functions; each is repeated alone",
    ),
    "exception_ignored": (
        WARN,
        "ignored an exception of a function's signal handler or thread between two calls: {error}",
    ),
    "lane_trouble": (ERROR, "error in a lane: {error}"),
    "lane_stopped": (
        ERROR,
        "lane stopped at damaged data, other lanes continue: {error} (hint: run `streamfn fsck`)",
    ),
    "damage_passed": (ERROR, "skipped damaged data, {count} lost: {error}"),
    "lane_refused": (ERROR, "lane refused: {error_message}"),
    "lease_lost": (WARN, "lease lost: another runner has the lane now"),
    "release_failed": (WARN, "lane not released: {error}"),
    "final_call_failed": (WARN, "final call of a window failed, attempt {attempt}: {error}"),
    "state_not_written": (ERROR, "could not write the state of a window, trying again: {error}"),
    "window_dropped": (WARN, "the function no longer has windows: dropping the open one"),
    "windows_changed": (INFO, "tumbling windows are now {on_or_off} in this shard"),
    "function_failed": (WARN, "{count} failed, attempt {attempt}: {error}"),
    "call_disturbed": (
        WARN,
        "{count} failed, perhaps because of another call; repeating, no attempt counted: {error}",
    ),
    "call_timed_out": (WARN, "call exceeded its timeout of {timeout} s: killing its process"),
    "dead_lettered": (ERROR, "dead-lettered after {tries}: {error}"),
    "record_dropped": (ERROR, "dropped after {tries}: {error}"),
    "backoff_failed": (ERROR, "the custom back-off failed; using the default: {error}"),
    "delivery_failed": (
        ERROR,
        "delivery to the destination failed, trying again in {seconds} s: {error}",
    ),
}
"""Level and message of each event; an event that is not listed is printed by name, at INFO."""

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
    *("message", "reason", "factor", "timeout"),
    *("field", "declared", "existing", "hint"),
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
    "destination",
    "condition",
}
"""Fields that a text line has only with `-v`."""


ERROR_CHARS_MAX: Final = 300
"""Characters of an error's first line in a message; the fields have more of it."""
_FIXED_KEYS: Final = {"timestamp", "level", "message", "logger"}
"""Keys that every line has."""


class LineFormatter(Protocol):
    """Formats one event as a line."""

    def __call__(self, time: datetime, level: int, message: str, event: Mapping[str, Any]) -> str:
        """Return the line, without a line break."""
        ...


class WorkerOutput:
    """Observes a supervisor and logs its events."""

    def __init__(self, format_line: LineFormatter) -> None:
        self._format = format_line
        self._clock = SystemClock()
        self._least = ERROR if output.quiet else DEBUG if output.verbose else INFO
        self._latest: list[MappingProgress] = []

    def on_event(self, event: dict[str, Any]) -> None:
        """Write a line."""
        level, message = EVENTS.get(event["event"], (INFO, event["event"].replace("_", " ")))
        if level >= self._least:
            self._write(level, message.format_map(_Fields(event)), event)

    def on_progress(self, progress: list[MappingProgress]) -> None:
        """Keep the figures for the summary."""
        self._latest = progress

    def summarise(self) -> None:
        """Log the totals of each function, when the worker has stopped."""
        for each in self._latest:
            calls = format_count(each.calls, "call")
            message = f"{format_count(each.records, 'record')} in {calls}"
            figures = {"retried": each.retries, "bisected": each.bisects,
                       "dead-lettered": each.dead_lettered,
                       "lost": each.lost}  # fmt: skip
            if each.matched or each.filtered or each.not_json:
                figures |= {"matched": each.matched, "filtered out": each.filtered,
                            "not JSON": each.not_json}  # fmt: skip
            message += "".join(f", {format_count(n)} {name}" for name, n in figures.items() if n)
            if self._least <= INFO:
                self._write(INFO, message, {"event": "totals", "mapping": each.name})

    def _write(self, level: int, message: str, event: Mapping[str, Any]) -> None:
        line = self._format(self._clock.now(), level, message, event)
        print(line, file=sys.stderr, flush=True)  # noqa: T201


def observer() -> WorkerOutput:
    """Return the observer for `STREAMFN_LOG_FORMAT`: `json`, or `text` (default on a terminal)."""
    default = "text" if sys.stderr.isatty() else "json"
    wants_text = os.environ.get("STREAMFN_LOG_FORMAT", default) == "text"
    return WorkerOutput(_as_text if wants_text else _as_json)


def _as_json(time: datetime, level: int, message: str, event: Mapping[str, Any]) -> str:
    import orjson

    fields = {
        KEYS.get(name, name): value for name, value in event.items() if name not in _FIXED_KEYS
    }
    line = {
        "timestamp": iso_time(time),
        "level": LEVELS[level],
        "message": message,
        "logger": "streamfn.worker",
        **{name: value for name, value in fields.items() if value is not None},
    }
    return orjson.dumps(line, default=str).decode()


def _as_text(time: datetime, level: int, message: str, event: Mapping[str, Any]) -> str:
    clock = time.astimezone().strftime("%H:%M:%S.") + f"{time.microsecond // 1000:03d}"
    name = LEVELS[level].ljust(5)
    if shows_colour(sys.stderr):
        clock, name = f"\x1b[2m{clock}\x1b[0m", f"\x1b[{COLOURS[level]}m{name}\x1b[0m"
    parts = [clock, name, str(event.get("mapping") or ""), _location(event), message]
    left_out = _IN_MESSAGE if output.verbose else _IN_MESSAGE | _DETAIL
    parts += [
        f"{key}={','.join(map(str, value)) if isinstance(value, list) else value}"
        for key, value in event.items()
        if key not in left_out and value is not None
    ]
    line = " ".join(part for part in parts if part)
    if level >= ERROR and event.get("traceback") and output.verbose:
        line += "\n" + str(event["traceback"]).rstrip()
    return line


def _location(event: Mapping[str, Any]) -> str:
    """Return stream, shard and sequence number of an event: `orders/3 #18231`."""
    stream, shard = event.get("stream"), str(event.get("shard_id") or "")
    if not stream:
        return ""
    number = event.get("sequence_number", event.get("first"))
    short = shard.removeprefix("shardId-").lstrip("0") or "0"
    return f"{stream}/{short}" + ("" if number is None else f" #{number}")


class _Fields(dict[str, Any]):
    """Fields of an event for its message, and some that are derived from others."""

    def __missing__(self, name: str) -> str:
        match name:
            case "count":
                return format_count(self.get("records", 0), "record")
            case "tries":
                return format_count(self.get("attempts", 0), "attempt")
            case "on_or_off":
                return "on" if self.get("windows") else "off"
            case "error":
                message = str(self.get("error_message") or "").splitlines()
                kind = str(self.get("error_type") or "unknown error")
                return ": ".join(line[:ERROR_CHARS_MAX] for line in (kind, *message[:1]))
        return "?"
