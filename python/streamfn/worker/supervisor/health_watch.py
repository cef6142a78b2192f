"""Finds the state of each function of a worker, logs its changes and writes the worker's report.

A state is in the report at once, and in the log when it has lasted `LASTS`, so that a function that
changes ten times a second does not fill the log.
"""

from __future__ import annotations

import os
import socket
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from streamfn.clock import Clock
from streamfn.health.state import HEALTHY, State, worst
from streamfn.health.worker_report import (
    TROUBLES_MAX,
    FunctionReport,
    Trouble,
    WorkerReport,
    WorkerReportFile,
)
from streamfn.model.mapping import function_of
from streamfn.units import from_microseconds, to_microseconds
from streamfn.worker.counters import Counter
from streamfn.worker.report import Report

from .mapping_registry import LaneSnapshot, MappingRegistry, RegisteredMapping
from .rates import Rate
from .troubles import FAILURES, Troubles, blocked, failing

REPORT_EVERY: Final = timedelta(seconds=1)
AT_ONCE: Final = timedelta(milliseconds=100)
"""Shortest interval between reports when something has happened."""
LASTS: Final = timedelta(seconds=1)
"""How long a state must have lasted before it is in the log."""
HEALTHY_LASTS: Final = timedelta(seconds=10)
"""The same for changes between `running` and `idle`."""
REMEMBERED: Final = timedelta(seconds=60)
"""How long a function without records to process is called failing after its last failed call."""


@dataclass(frozen=True, slots=True)
class HealthInput:
    """What a look at the functions needs from the other parts of a supervisor."""

    found: Sequence[LaneSnapshot]
    """The result of the last scan."""
    counts: Mapping[str, Sequence[int]]
    """Counters of each function, see `Counter`."""
    calling: Mapping[str, int]
    """Calls in progress of each function."""
    runners: Sequence[int]
    """Process ids of the runners."""
    has_ready_runner: bool
    is_draining: bool


@dataclass(slots=True)
class _Known:
    """What is remembered of a function between two looks."""

    state: State | None = None
    since_us: int = 0
    logged: State | None = None
    changed: float = 0.0
    """When the state changed, on the monotonic clock."""
    waiting_since_us: int | None = None
    failing_since_us: int | None = None
    """Since when no call has succeeded; None: the last one did."""
    last_failure: float = 0.0
    done: int = 0
    failed: int = 0
    rate_in: Rate = field(default_factory=Rate)
    rate_out: Rate = field(default_factory=Rate)


class HealthWatch:
    """Looks at the functions of a worker about once a second."""

    def __init__(
        self,
        registry: MappingRegistry,
        file: WorkerReportFile,
        worker: str,
        clock: Clock,
        report: Report,
    ) -> None:
        self._registry, self._file, self._worker = registry, file, worker
        self._clock, self._report = clock, report
        self._troubles = Troubles()
        self._known: defaultdict[str, _Known] = defaultdict(_Known)
        self._started_us = to_microseconds(clock.now())
        self._last = -1e9
        self._has_news = False

    def on_event(self, event: str, fields: Mapping[str, Any]) -> None:
        """Take in an event of the worker."""
        self._has_news |= event in FAILURES or event in {"lane_stopped", "delivery_failed"}
        self._troubles.note(event, fields, to_microseconds(self._clock.now()))

    def is_due(self, now: float) -> bool:
        """Whether to look now."""
        interval = AT_ONCE if self._has_news else REPORT_EVERY
        return now - self._last >= interval.total_seconds()

    def look(self, seen: HealthInput) -> WorkerReport:
        """Find the states, log what has changed, and write the report."""
        now, now_us = self._clock.monotonic(), to_microseconds(self._clock.now())
        self._last, self._has_news = now, False
        if seen.has_ready_runner:
            self._troubles.start_error = None
        lanes: defaultdict[str, list[LaneSnapshot]] = defaultdict(list)
        for found in seen.found:
            lanes[found.key.mapping].append(found)
        mappings = [*self._registry, *self._registry.replays]
        functions = [self._function(each, lanes[each.name], seen, now, now_us) for each in mappings]
        report = WorkerReport(
            worker=self._worker,
            pid=os.getpid(),
            host=socket.gethostname(),
            started_us=self._started_us,
            written_us=now_us,
            state=worst(each.state for each in functions),
            is_draining=seen.is_draining,
            runners=list(seen.runners),
            in_code=list(self._registry.in_code),
            functions=functions,
        )
        self._file.write(report)
        return report

    def close(self) -> None:
        """Remove the report, at the end of the worker."""
        self._file.remove()

    def _function(
        self,
        each: RegisteredMapping,
        lanes: Sequence[LaneSnapshot],
        seen: HealthInput,
        now: float,
        now_us: int,
    ) -> FunctionReport:
        known, function = self._known[each.name], function_of(each.name)
        counts = seen.counts[function]
        has_work = any(_has_work(found) for found in lanes)
        self._note_counts(known, counts, now, now_us)
        _note_rates(known, each, lanes, counts, now)
        troubles = list(self._troubles_of(each, lanes, has_work, (now_us, now)))
        troubles.sort(key=lambda trouble: list(State).index(trouble.state))
        is_running = has_work or seen.calling.get(function, 0) > 0
        state = worst(
            [*(each.state for each in troubles), State.RUNNING if is_running else State.IDLE]
        )
        self._note_state(known, each, state, troubles, now, now_us)
        concerned = [each for each in troubles if each.state == state and each.slot is not None]
        return FunctionReport(
            name=each.name,
            stream=each.mapping.stream,
            state=state,
            since_us=known.since_us,
            troubles=troubles[:TROUBLES_MAX],
            lanes_concerned=len(concerned),
            retries=counts[Counter.RETRIES],
            rate_in=known.rate_in.per_second(),
            rate_out=None if each.is_replay else known.rate_out.per_second(),
        )

    def _note_counts(self, known: _Known, counts: Sequence[int], now: float, now_us: int) -> None:
        """Note whether calls have succeeded, or only failed, since the last look."""
        done, failed = counts[Counter.RECORDS_DONE], counts[Counter.FAILED_CALLS]
        if failed > known.failed:
            known.last_failure = now
            known.failing_since_us = known.failing_since_us or now_us
        if done > known.done:
            known.failing_since_us = None
        known.done, known.failed = done, failed

    def _troubles_of(
        self,
        each: RegisteredMapping,
        lanes: Sequence[LaneSnapshot],
        has_work: bool,  # noqa: FBT001 -- private, and named at its one call
        clock: tuple[int, float],
    ) -> Iterable[Trouble]:
        """Yield what is wrong with a function and its lanes."""
        known, function = self._known[each.name], function_of(each.name)
        now_us, now = clock
        stream = each.mapping.stream
        if any(found.is_paused for found in lanes) or (not lanes and each.record.is_paused):
            yield Trouble(state=State.PAUSED, reason="paused", since_us=now_us)
        if stream in self._registry.missing and not each.is_replay:
            known.waiting_since_us = known.waiting_since_us or now_us
            reason = f"stream `{stream}` does not exist yet"
            yield Trouble(state=State.WAITING, reason=reason, since_us=known.waiting_since_us)
        else:
            known.waiting_since_us = None
        if error := self._registry.troubles.get(each.name):
            kind, message = type(error).__name__, str(error)
            yield blocked("cannot read or make its lanes", kind, message, now_us)
        if has_work and self._troubles.start_error is not None:
            yield blocked("no runner can start", None, self._troubles.start_error, now_us)
        of_lanes = [self._troubles.of_lane(function, found.status, clock[::1]) for found in lanes]
        yield from (trouble for trouble in of_lanes if trouble is not None)
        is_recent = has_work or now - known.last_failure < REMEMBERED.total_seconds()
        is_told = any(trouble and trouble.state == State.FAILING for trouble in of_lanes)
        if known.failing_since_us is not None and is_recent and not is_told:
            yield failing(self._troubles.last_error(function), known.failing_since_us)

    def _note_state(
        self,
        known: _Known,
        each: RegisteredMapping,
        state: State,
        troubles: Sequence[Trouble],
        now: float,
        now_us: int,
    ) -> None:
        """Note a change of the state, and log the state once it has lasted."""
        if state != known.state:
            known.state, known.changed, known.since_us = state, now, now_us
        is_small = state in HEALTHY and known.logged in HEALTHY
        lasts = HEALTHY_LASTS if is_small else LASTS
        is_first = known.logged is None and state in HEALTHY
        if known.logged == state:
            return
        if is_first or now - known.changed >= lasts.total_seconds():
            known.logged = state
            first = troubles[0] if troubles else None
            self._report(
                "state_changed",
                mapping=each.name,
                state=str(state),
                reason=None if first is None else first.reason,
                since=from_microseconds(known.since_us).isoformat(),
            )


def _has_work(found: LaneSnapshot) -> bool:
    return found.status.in_flight is not None or found.status.behind > 0


def _note_rates(
    known: _Known,
    each: RegisteredMapping,
    lanes: Iterable[LaneSnapshot],
    counts: Sequence[int],
    now: float,
) -> None:
    ends = {
        found.key.shard_id: found.status.end
        for found in lanes
        if found.key.stream == each.mapping.stream
    }
    if ends:
        known.rate_in.add(now, sum(ends.values()))
    known.rate_out.add(now, counts[Counter.RECORDS_DONE])
