"""What a worker tells on stderr: lines for people on a terminal, JSON elsewhere.

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

from .console import shows_colour, voice
from .times import moment

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
    "worker_death_noticed": (WARN, "another worker died, its lane is taken over"),
    "waiting_for_stream": (INFO, "waiting for stream `{stream}`"),
    "factor_changed": (INFO, "now {factor} lanes in this shard"),
    "replay_started": (INFO, "replay begins, or goes on"),
    "replay_finished": (INFO, "replay is over"),
    "runner_started": (DEBUG, "runner started"),
    "runner_stopped": (DEBUG, "runner stopped"),
    "runner_died": (ERROR, "runner died: {reason}"),
    "runner_not_ready": (ERROR, "runner not ready: {error_message}"),
    "runner_not_started": (ERROR, "runner not started: {error_message}"),
    "runner_broken": (ERROR, "runner gave up, a new one takes over: {error}"),
    "runner_exhausted": (
        WARN,
        "runner is out of descriptors, memory or threads (does a function leak them?), replaced",
    ),
    "runner_in_doubt": (
        WARN,
        "runner replaced: calls failed in it for what other functions did, each runs alone next",
    ),
    "exception_ignored": (
        WARN,
        "ignored what a signal handler or a thread of a function threw between two calls: {error}",
    ),
    "lane_trouble": (ERROR, "lane in trouble: {error}"),
    "lane_stopped": (
        ERROR,
        "stopped at damage, the other lanes go on: {error} (hint: see `streamfn fsck`)",
    ),
    "damage_passed": (ERROR, "passed over damage, {count} given up: {error}"),
    "lane_refused": (ERROR, "lane refused: {error_message}"),
    "lease_lost": (WARN, "another runner has the lane now"),
    "release_failed": (WARN, "lane not given back: {error}"),
    "final_call_failed": (WARN, "final call of a window failed, attempt {attempt}: {error}"),
    "state_not_written": (ERROR, "state of a window not written, trying again: {error}"),
    "window_dropped": (WARN, "the function has no windows any more, the open one is forgotten"),
    "windows_changed": (INFO, "tumbling windows in this shard now: {windows}"),
    "function_failed": (WARN, "{count} failed, attempt {attempt}: {error}"),
    "call_disturbed": (
        WARN,
        "{count} failed, perhaps for what another call did: called again, no attempt: {error}",
    ),
    "call_timed_out": (WARN, "call passed its timeout of {timeout} s, its process is killed"),
    "dead_lettered": (ERROR, "dead-lettered after {tries}: {error}"),
    "record_dropped": (ERROR, "dropped after {tries}: {error}"),
    "backoff_failed": (ERROR, "no wait from the back-off, the default is used: {error}"),
    "delivery_failed": (ERROR, "destination failed, trying again in {seconds} s: {error}"),
}
"""Level and words of each event; one that is not here is told as it is, at INFO."""

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
"""Fields whose JSON keys are other people's names."""

_TOLD: Final = {
    *("event", "level", "mapping", "stream", "shard_id", "sequence_number", "first", "last"),
    *("error_type", "error_message", "traceback", "records", "attempt", "attempts", "seconds"),
    *("message", "reason", "factor", "timeout"),
}
"""Fields that a line for people tells in its words."""

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
"""Fields that a line for people has with `-v` only."""


WORDS_MAX: Final = 300
"""Characters of the first line of an error in the words of a line; the fields have more of it."""
_OURS: Final = {"timestamp", "level", "message", "logger"}
"""Keys that every line has."""


class Writer(Protocol):
    """How one event becomes a line."""

    def __call__(self, time: datetime, level: int, words: str, event: Mapping[str, Any]) -> str:
        """Return the line, without its end."""
        ...


class WorkerOutput:
    """Observes a supervisor and writes what happens."""

    def __init__(self, write: Writer) -> None:
        self._write = write
        self._clock = SystemClock()
        self._least = ERROR if voice.quiet else DEBUG if voice.verbose else INFO
        self._latest: list[MappingProgress] = []

    def on_event(self, event: dict[str, Any]) -> None:
        """Write a line."""
        level, words = EVENTS.get(event["event"], (INFO, event["event"].replace("_", " ")))
        if level >= self._least:
            self._say(level, words.format_map(_Fields(event)), event)

    def on_progress(self, progress: list[MappingProgress]) -> None:
        """Keep the figures for the end."""
        self._latest = progress

    def summarise(self) -> None:
        """Say what each function did, once the worker has ended."""
        for each in self._latest:
            calls = format_count(each.calls, "call")
            words = f"{format_count(each.records, 'record')} in {calls}"
            figures = {"retried": each.retries, "bisected": each.bisects,
                       "dead-lettered": each.dead_lettered,
                       "lost": each.lost}  # fmt: skip
            if each.matched or each.filtered or each.not_json:
                figures |= {"matched": each.matched, "filtered out": each.filtered,
                            "not JSON": each.not_json}  # fmt: skip
            words += "".join(f", {format_count(n)} {name}" for name, n in figures.items() if n)
            if self._least <= INFO:
                self._say(INFO, words, {"event": "totals", "mapping": each.name})

    def _say(self, level: int, words: str, event: Mapping[str, Any]) -> None:
        line = self._write(self._clock.now(), level, words, event)
        print(line, file=sys.stderr, flush=True)  # noqa: T201


def observer() -> WorkerOutput:
    """Return what fits the reader: `STREAMFN_LOG_FORMAT` is `json` or `text`; default by stderr."""
    default = "text" if sys.stderr.isatty() else "json"
    wants_text = os.environ.get("STREAMFN_LOG_FORMAT", default) == "text"
    return WorkerOutput(_for_people if wants_text else _for_machines)


def _for_machines(time: datetime, level: int, words: str, event: Mapping[str, Any]) -> str:
    import orjson

    fields = {KEYS.get(name, name): value for name, value in event.items() if name not in _OURS}
    line = {
        "timestamp": moment(time),
        "level": LEVELS[level],
        "message": words,
        "logger": "streamfn.worker",
        **{name: value for name, value in fields.items() if value is not None},
    }
    return orjson.dumps(line, default=str).decode()


def _for_people(time: datetime, level: int, words: str, event: Mapping[str, Any]) -> str:
    clock = time.astimezone().strftime("%H:%M:%S.") + f"{time.microsecond // 1000:03d}"
    name = LEVELS[level].ljust(5)
    if shows_colour(sys.stderr):
        clock, name = f"\x1b[2m{clock}\x1b[0m", f"\x1b[{COLOURS[level]}m{name}\x1b[0m"
    parts = [clock, name, str(event.get("mapping") or ""), _place(event), words]
    left_out = _TOLD if voice.verbose else _TOLD | _DETAIL
    parts += [
        f"{key}={','.join(map(str, value)) if isinstance(value, list) else value}"
        for key, value in event.items()
        if key not in left_out and value is not None
    ]
    line = " ".join(part for part in parts if part)
    if level >= ERROR and event.get("traceback") and voice.verbose:
        line += "\n" + str(event["traceback"]).rstrip()
    return line


def _place(event: Mapping[str, Any]) -> str:
    """Return where it was: `orders/3 #18231`."""
    stream, shard = event.get("stream"), str(event.get("shard_id") or "")
    if not stream:
        return ""
    number = event.get("sequence_number", event.get("first"))
    short = shard.removeprefix("shardId-").lstrip("0") or "0"
    return f"{stream}/{short}" + ("" if number is None else f" #{number}")


class _Fields(dict[str, Any]):
    """Fields of an event for its words, and some that are made of others."""

    def __missing__(self, name: str) -> str:
        match name:
            case "count":
                return format_count(self.get("records", 0), "record")
            case "tries":
                return format_count(self.get("attempts", 0), "attempt")
            case "error":
                message = str(self.get("error_message") or "").splitlines()
                kind = str(self.get("error_type") or "unknown error")
                return ": ".join(line[:WORDS_MAX] for line in (kind, *message[:1]))
        return "?"
