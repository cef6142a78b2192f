"""Progress and events that a supervisor reports to its observer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from streamfn.telemetry.counters import Counter


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingProgress:
    """The totals of this worker for one function, including runners that have exited."""

    name: str
    calls: int
    """Calls of the function; with `input="record"` one per record."""
    records: int
    """Records processed successfully."""
    failures: int
    """Failed calls."""
    retries: int
    """Back-off waits before a retry of the same records."""
    bisects: int
    dead_lettered: int
    dropped: int
    """Records dropped with `on_failure=None`."""
    crashes: int
    timeouts: int
    redriven: int
    """Redriven records that succeeded."""
    matched: int
    """Records that match the filter, 0 without one; a record that is read again counts again."""
    filtered: int
    """Records that do not match the filter."""
    not_json: int
    """Records that do not match the filter and whose data is not JSON."""
    lost: int
    """Sequence numbers skipped with `on_corruption="skip"`."""
    in_flight: int
    """Calls in progress."""
    behind: int
    """Records waiting in all lanes of the log, see `records_behind`; or calls that wait."""
    throttled: int
    """Calls by request that were refused because too many ran."""
    is_by_request: bool

    @classmethod
    def of(
        cls,
        name: str,
        counts: Sequence[int],
        in_flight: int,
        behind: int,
        *,
        is_by_request: bool = False,
    ) -> MappingProgress:
        """Make the totals from the counters of the boards."""
        return cls(
            name=name,
            calls=counts[Counter.CALLS],
            records=counts[Counter.RECORDS_DONE],
            failures=counts[Counter.FAILED_CALLS],
            retries=counts[Counter.RETRIES],
            bisects=counts[Counter.BISECTS],
            dead_lettered=counts[Counter.DEAD_LETTERS],
            dropped=counts[Counter.DROPPED],
            crashes=counts[Counter.CRASHES],
            timeouts=counts[Counter.TIMEOUTS],
            redriven=counts[Counter.REDRIVEN_OK],
            lost=counts[Counter.LOST],
            matched=counts[Counter.MATCHED],
            filtered=counts[Counter.FILTERED],
            not_json=counts[Counter.NOT_JSON],
            in_flight=in_flight,
            behind=behind,
            throttled=counts[Counter.THROTTLED],
            is_by_request=is_by_request,
        )


class Observer(Protocol):
    """Receives events and progress in the supervisor's thread; it must be fast and never raise."""

    def on_event(self, event: dict[str, Any]) -> None:
        """Handle an event; the field `event` is its name, the other fields depend on it."""
        ...

    def on_progress(self, progress: list[MappingProgress]) -> None:
        """Handle the progress of all mappings; called about every 100 ms and once at the end."""
        ...


class Unobserved:
    """An observer that ignores everything."""

    def on_event(self, event: dict[str, Any]) -> None:
        """Ignore the event."""

    def on_progress(self, progress: list[MappingProgress]) -> None:
        """Ignore the progress."""
