"""One line for each distinct failure a minute: the first in full, the others as a count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from .events import FAILURES

MINUTE: Final = 60.0
KINDS_MAX: Final = 100
"""Distinct failures that are told apart; more are counted together."""


class FailureKind(NamedTuple):
    """What makes two failures the same."""

    event: str
    mapping: str
    error_type: str
    location: str


@dataclass(slots=True)
class _Seen:
    since: float
    """When it had its last line, on the monotonic clock."""
    times: int = 0
    """How often it came after that."""
    last: Mapping[str, Any] | None = None


class DistinctFailures:
    """Decides which events of failures have a line, and counts the others."""

    def __init__(self) -> None:
        self._seen: dict[FailureKind, _Seen] = {}
        self._others = 0
        self._others_since = 0.0

    def is_new(self, event: Mapping[str, Any], now: float) -> bool:
        """Whether an event is to have a line of its own; otherwise it is counted."""
        if event["event"] not in FAILURES:
            return True
        kind = kind_of(event)
        seen = self._seen.get(kind)
        if seen is None and len(self._seen) >= KINDS_MAX:
            self._others_since = self._others_since if self._others else now
            self._others += 1
            return False
        if seen is None:
            self._seen[kind] = _Seen(now)
            return True
        seen.times += 1
        seen.last = event
        return False

    def due(self, now: float, *, is_end: bool = False) -> Iterator[dict[str, Any]]:
        """Return the events that say how often failures came again in the last minute.

        A failure that did not come again for a minute is forgotten: its next one is new.

        Args:
            now: The time, on the monotonic clock.
            is_end: Return all counts, because no other time comes.
        """
        for kind, seen in list(self._seen.items()):
            if now - seen.since < MINUTE and not is_end:
                continue
            if not seen.times or seen.last is None:
                del self._seen[kind]
                continue
            last = seen.last
            yield {
                "event": "failures_repeated",
                **{name: last.get(name) for name in ("mapping", "stream", "shard_id")},
                "times": seen.times,
                "of": FAILURES[kind.event],
                "failure": kind.event,
                "error_type": last.get("error_type"),
                "error_message": last.get("error_message"),
                "location": kind.location or None,
                "seconds": round(now - seen.since),
            }
            seen.since, seen.times, seen.last = now, 0, None
        if self._others and (is_end or now - self._others_since >= MINUTE):
            yield {"event": "other_failures", "times": self._others}
            self._others = 0


def kind_of(event: Mapping[str, Any]) -> FailureKind:
    """Return what the event of a failure has in common with those that are the same."""
    names = ("event", "mapping", "error_type", "location")
    return FailureKind(*(str(event.get(name) or "") for name in names))
