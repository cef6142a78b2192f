"""Remembers from the events of runners what is wrong with which lane, until it is over.

An event tells that something failed; that it works again is seen in the lanes and counters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from streamfn._core import Entry, LaneStatus
from streamfn.engine.outcome import CAUSE_NONE, CAUSE_TIMED_OUT, death_of
from streamfn.errors import FunctionTimedOut
from streamfn.health.state import State
from streamfn.health.worker_report import Trouble
from streamfn.model.mapping import function_of
from streamfn.texts import cut

ERROR_BYTES_MAX: Final = 200
"""Longest error message in a report."""

FAILURES: Final = frozenset(
    {"function_failed", "call_failed", "final_call_failed", "call_timed_out"}
)
"""Events that tell that a call failed."""
_BLOCKING: Final[dict[str, str]] = {
    "delivery_failed": "cannot deliver",
    "state_not_written": "cannot write the state of its window",
    "lane_stopped": "stopped at damaged data",
    "lane_refused": "cannot take a lane",
}
"""Events that tell that a lane cannot go on, and what to say of it."""
_HINTS: Final[dict[str, str]] = {
    "LogFull": "free some space on the disk",
    "Corruption": "run `streamfn fsck`",
    "CheckpointConflict": "run `streamfn fsck`",
    "StoragePoisoned": "check the disk",
}
"""What to do, by the type of the error."""


class CallError(NamedTuple):
    """The last failed call of a shard's lanes."""

    error_type: str | None
    error_message: str | None


class _Place(NamedTuple):
    """Where a lane was when it was blocked; it is over when the lane has moved on."""

    checkpoint: int
    open: tuple[tuple[int, int, int], ...]


@dataclass(slots=True)
class _Blocked:
    trouble: Trouble
    last: int | None
    """Last damaged sequence number."""
    place: _Place | None = None
    """Where the lane was at the first look after the event."""


class Troubles:
    """What is wrong with the lanes of a worker."""

    def __init__(self) -> None:
        self._errors: dict[tuple[str, str, str], CallError] = {}
        self._last: dict[str, CallError] = {}
        self._blocked: dict[tuple[str, str, str, int], _Blocked] = {}
        self.start_error: str | None = None
        """Why no runner can start, unless one has started since."""

    def note(self, event: str, fields: Mapping[str, Any], now_us: int) -> None:
        """Take in an event of a runner or of the supervisor."""
        if event in FAILURES:
            self._failed(fields)
        elif event in _BLOCKING and "slot" in fields:
            self._block(event, fields, now_us)
        elif event in {"runner_not_ready", "runner_not_started"}:
            self.start_error = _line(fields)

    def last_error(self, function: str) -> CallError:
        """Return the error of the last failed call of a function."""
        return self._last.get(function, CallError(None, None))

    def of_lane(self, function: str, lane: LaneStatus, clock: tuple[int, float]) -> Trouble | None:
        """Return what is wrong with a lane.

        Args:
            function: Name of its function, also if the lane is that of a replay.
            lane: Its present state.
            clock: Now, as µs since 1970 and on the monotonic clock.
        """
        return self._blocked_still(function, lane) or self._failing(function, lane, clock)

    def _failed(self, fields: Mapping[str, Any]) -> None:
        kind, message = fields.get("error_type"), fields.get("error_message")
        if kind is None and "timeout" in fields:
            kind, message = FunctionTimedOut.__name__, str(FunctionTimedOut(fields["timeout"]))
        error = CallError(kind, None if message is None else cut(str(message), ERROR_BYTES_MAX))
        function = function_of(fields["mapping"])
        self._last[function] = error
        self._errors[function, str(fields.get("stream")), str(fields.get("shard_id"))] = error

    def _block(self, event: str, fields: Mapping[str, Any], now_us: int) -> None:
        function = function_of(fields["mapping"])
        key = (function, fields["stream"], fields["shard_id"], fields["slot"])
        before = self._blocked.get(key)
        seconds = fields.get("seconds")
        trouble = blocked(
            _BLOCKING[event],
            fields.get("error_type"),
            fields.get("error_message"),
            before.trouble.since_us if before else now_us,
            next_try_us=None if seconds is None else now_us + round(seconds * 1e6),
            lane=key[1:],
        )
        last = fields.get("last") if event == "lane_stopped" else None
        self._blocked[key] = _Blocked(trouble, last)

    def _blocked_still(self, function: str, lane: LaneStatus) -> Trouble | None:
        key = (function, lane.stream, lane.shard_id, lane.slot)
        known = self._blocked.get(key)
        if known is None:
            return None
        slot = lane.in_flight
        entries = slot.entries if slot else []
        place = _Place(lane.checkpoint, tuple((e.first, e.last, e.attempts) for e in entries))
        if known.last is not None:
            is_over = lane.checkpoint > known.last
        else:
            known.place = known.place or place
            is_over = place != known.place
        if is_over:
            del self._blocked[key]
            return None
        return known.trouble

    def _failing(self, function: str, lane: LaneStatus, clock: tuple[int, float]) -> Trouble | None:
        slot = lane.in_flight
        failed = [e for e in slot.entries if e.attempts or e.cause] if slot else []
        if slot is None or not failed:
            return None
        place = (function, lane.stream, lane.shard_id)
        if (crash := _after_exit(failed[0])) is not None:  # no runner was left to tell of it
            self._errors[place] = self._last[function] = crash
        error = self._errors.get(place, CallError(None, None))
        now_us, monotonic = clock
        since = min((e.first_failed_us for e in failed if e.first_failed_us), default=now_us)
        wait = slot.not_before - monotonic
        return failing(
            error,
            since,
            next_try_us=now_us + round(wait * 1e6) if wait > 0 else None,
            lane=(lane.stream, lane.shard_id, lane.slot),
        )


def failing(
    error: CallError,
    since_us: int,
    *,
    next_try_us: int | None = None,
    lane: tuple[str, str, int] | tuple[None, None, None] = (None, None, None),
) -> Trouble:
    """Return the trouble of a function whose calls fail, or of one of its lanes."""
    kind = error.error_type or "its last call failed"
    message = (error.error_message or "").splitlines()
    return Trouble(
        state=State.FAILING,
        reason=": ".join((kind, *message[:1])),
        since_us=since_us,
        error_type=error.error_type,
        error_message=error.error_message,
        next_try_us=next_try_us,
        stream=lane[0],
        shard_id=lane[1],
        slot=lane[2],
    )


def blocked(
    what: str,
    error_type: str | None,
    error_message: str | None,
    since_us: int,
    *,
    next_try_us: int | None = None,
    lane: tuple[str, str, int] | tuple[None, None, None] = (None, None, None),
) -> Trouble:
    """Return the trouble of a function that cannot go on, or of one of its lanes."""
    message = cut(error_message or "", ERROR_BYTES_MAX)
    first = message.splitlines()[:1]
    hint = _HINTS.get(error_type or "")
    reason = ": ".join((what, *first)) + (f" (hint: {hint})" if hint else "")
    return Trouble(
        state=State.BLOCKED,
        reason=reason,
        since_us=since_us,
        error_type=error_type,
        error_message=message or None,
        next_try_us=next_try_us,
        stream=lane[0],
        shard_id=lane[1],
        slot=lane[2],
    )


def _after_exit(entry: Entry) -> CallError | None:
    """Return the error of a call whose process ended, as the in-flight slot has it."""
    if entry.cause == CAUSE_NONE:
        return None
    if entry.cause == CAUSE_TIMED_OUT:
        return CallError(FunctionTimedOut.__name__, "the call took longer than its timeout")
    error = death_of(entry.cause, entry.detail)
    return CallError(type(error).__name__, str(error))


def _line(fields: Mapping[str, Any]) -> str:
    lines = str(fields.get("error_message") or "").splitlines()
    return cut(lines[0], ERROR_BYTES_MAX) if lines else "unknown error"
