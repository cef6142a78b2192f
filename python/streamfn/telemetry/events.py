"""The events of a worker's log: level and message of each, and the levels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from streamfn.units import format_count, format_size

DEBUG, INFO, WARN, ERROR = range(4)
LEVELS: Final = ("DEBUG", "INFO", "WARN", "ERROR")
"""The name of each level; `logging`'s CRITICAL is an ERROR here."""

EVENTS: Final[dict[str, tuple[int, str]]] = {
    "worker_started": (INFO, "worker started"),
    "worker_stopped": (INFO, "worker stopped"),
    "worker_draining": (INFO, "{message}"),
    "worker_abandons": (WARN, "{message}"),
    "worker_death_noticed": (WARN, "another worker died: taking over its lane"),
    "state_changed": (INFO, "{is_state}"),
    "waiting_for_stream": (INFO, "waiting for stream `{stream}`"),
    "stream_created": (INFO, "created the declared stream `{stream}`"),
    "stream_differs": (
        WARN,
        "stream `{stream}` has {field} {existing}, the app declares {declared} (hint: {hint})",
    ),
    "factor_changed": (INFO, "this shard now has {factor} lanes"),
    "replay_started": (INFO, "replay started or continued"),
    "replay_finished": (INFO, "replay finished"),
    "reload_started": (INFO, "reloading the code"),
    "reloaded": (INFO, "reloaded: all runners have the code {code_version}"),
    "reload_failed": (ERROR, "reload failed: {error_message} (hint: {hint})"),
    "code_changed": (
        ERROR,
        "runner refused: its code differs from this worker's in {files} (hint: {hint})",
    ),
    "runner_abandoned": (WARN, "old runner took too long to finish: {message}"),
    "function_not_in_code": (
        WARN,
        "not in the code of this app, {count} behind{held_back} (hint: {hint})",
    ),
    "runner_started": (DEBUG, "runner started"),
    "runner_stopped": (DEBUG, "runner stopped"),
    "runner_died": (ERROR, "runner died: {reason}"),
    "runner_not_ready": (ERROR, "runner not ready: {error_message}"),
    "runner_not_started": (ERROR, "runner not started: {error_message}"),
    "process_broken": (ERROR, "process failed and is replaced: {error}"),
    "runner_exhausted": (
        WARN,
        "runner replaced: out of descriptors, memory or threads, or a function closed ours",
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
    "front_started": (DEBUG, "front started"),
    "front_died": (ERROR, "front died, the calls that it had taken fail: {reason}"),
    "front_not_started": (ERROR, "front not started: {error_message}"),
    "function_failed": (WARN, "{count} failed, attempt {attempt}: {error}"),
    "call_failed": (WARN, "call by request failed: {error}"),
    "call_disturbed": (
        WARN,
        "{count} failed, perhaps because of another call; repeating, no attempt counted: {error}",
    ),
    "call_timed_out": (WARN, "call exceeded its timeout of {timeout} s: killing its process"),
    "memory_exceeded": (
        WARN,
        "process exceeded its memory limit of {limit} ({found}): killing it",
    ),
    "dead_lettered": (ERROR, "dead-lettered after {tries}: {error}"),
    "record_dropped": (ERROR, "dropped after {tries}: {error}"),
    "backoff_failed": (ERROR, "the custom back-off failed; using the default: {error}"),
    "not_counted": (WARN, "metrics of this function are not counted: {error}"),
    "history_not_written": (WARN, "the history of this function is not written: {error}"),
    "failures_repeated": (WARN, "{of} {times_more} in the last minute: {error}"),
    "other_failures": (WARN, "{times} of other kinds in the last minute"),
    "lines_dropped": (WARN, "{lines} lines of the log were dropped: nobody read them fast enough"),
    "totals": (INFO, "{message}"),
    "delivery_failed": (
        ERROR,
        "delivery to the destination failed, trying again in {seconds} s: {error}",
    ),
}
"""Level and message of each event; an event that is not listed is printed by name, at INFO."""

STATE_LEVELS: Final = {"failing": WARN, "blocked": ERROR, "not-in-code": WARN}
"""Levels of `state_changed` to a state that somebody should look at; INFO for the others."""

FAILURES: Final = {
    "function_failed": "failed",
    "call_failed": "failed",
    "final_call_failed": "final call of a window failed",
    "call_disturbed": "repeated because of another call",
    "call_timed_out": "exceeded its timeout",
    "memory_exceeded": "exceeded its memory limit",
    "dead_lettered": "dead-lettered",
    "record_dropped": "dropped",
    "delivery_failed": "delivery failed",
}
"""Events of failures: each distinct one has a line a minute. The words are for its counts."""

ERROR_CHARS_MAX: Final = 300
"""Characters of an error's first line in a message; the fields have more of it."""


def level_of(name: str) -> int:
    """Return the level of a name such as `info`, `WARNING` or `critical`.

    Raises:
        KeyError: There is no such level.
    """
    known = {each: number for number, each in enumerate(LEVELS)}
    return (known | {"WARNING": WARN, "CRITICAL": ERROR, "FATAL": ERROR})[name.upper()]


def level_and_message(event: Mapping[str, Any]) -> tuple[int, str]:
    """Return the level of an event and its message."""
    name = event["event"]
    level, message = EVENTS.get(name, (INFO, name.replace("_", " ")))
    if name == "state_changed":
        level = STATE_LEVELS.get(str(event.get("state")), level)
    return level, message.format_map(_Fields(event))


class _Fields(dict[str, Any]):
    """Fields of an event for its message, and some that are derived from others."""

    def __missing__(self, name: str) -> str:
        text = self._of_a_change(name)
        if text is None:
            text = self._of_a_failure(name)
        return "?" if text is None else text

    def _of_a_change(self, name: str) -> str | None:
        match name:
            case "files":
                return ", ".join(map(str, self.get("changed", ())))
            case "held_back":
                streams = ", ".join(f"`{stream}`" for stream in self.get("holds_back", ()))
                return f", keeps records of {streams} from being deleted" if streams else ""
            case "is_state":
                reason = self.get("reason")
                return f"is {self.get('state')}" + (f": {reason}" if reason else "")
            case "on_or_off":
                return "on" if self.get("windows") else "off"
        return None

    def _of_a_failure(self, name: str) -> str | None:
        match name:
            case "limit" | "found":
                return format_size(self.get(f"memory_{name}", 0))
            case "count":
                return format_count(self.get("records", 0), "record")
            case "times_more":
                return format_count(self.get("times", 0), "more time")
            case "tries":
                return format_count(self.get("attempts", 0), "attempt")
            case "error":
                message = str(self.get("error_message") or "").splitlines()
                kind = str(self.get("error_type") or "unknown error")
                return ": ".join(line[:ERROR_CHARS_MAX] for line in (kind, *message[:1]))
        return None
