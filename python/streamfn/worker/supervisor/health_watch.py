"""Looks at the functions of a worker once a second: states, their changes, the worker's report.

A state is in the report at once, and in the log when it has lasted a second, so that a function
that changes ten times a second does not fill the log.
"""

from __future__ import annotations

import os
import socket
from collections import defaultdict
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from streamfn import _core
from streamfn.errors import StreamfnError
from streamfn.health.in_code import not_in_code, reason_not_in_code
from streamfn.health.state import BAD, State, worst_function
from streamfn.health.worker_report import (
    FunctionReport,
    WorkerReport,
    WorkerReportFile,
    remove_stale,
)
from streamfn.health.workers import living_workers
from streamfn.model.mapping import function_of
from streamfn.telemetry.counters import NOTHING, Counters, read_counters
from streamfn.units import from_microseconds, to_microseconds

from .call_watch import CallWatch
from .function_watch import FunctionInput, FunctionWatch
from .mapping_registry import LaneSnapshot, RegisteredMapping
from .readings import HealthInput, health_input
from .request_watch import RequestInput, RequestWatch
from .runner_messages import SupervisorParts
from .troubles import FAILURES, Troubles

REPORT_EVERY: Final = timedelta(seconds=1)
AT_ONCE: Final = timedelta(milliseconds=100)
"""Shortest interval between reports when something has happened."""
ORPHANS_EVERY: Final = timedelta(seconds=10)
"""Interval between looks for functions that are not in the code."""
_NEWS: Final = FAILURES | {"lane_stopped", "delivery_failed", "state_not_written"}
"""Events after which the states are found at once."""


class HealthWatch:
    """The health of the functions of a worker."""

    def __init__(self, log: _core.Log, worker: str, parts: SupervisorParts) -> None:
        """Watch the functions of a worker; removes the reports of dead workers.

        Args:
            log: The log.
            worker: UUID of this worker.
            parts: The parts of its supervisor.
        """
        remove_stale(log, living_workers(log))
        self._log, self._worker, self._parts = log, worker, parts
        self._registry, self._requests = parts.registry, parts.by_request
        self._clock, self._report = parts.clock, parts.report
        self._file = WorkerReportFile(log, worker)
        self._troubles = Troubles()
        self._watches: dict[str, FunctionWatch] = {}
        self._request_watches: dict[str, RequestWatch] = {}
        self._started_us = to_microseconds(self._clock.now())
        self._orphans: set[str] = set()
        """Functions that are not in the code, of which the log has been told."""
        self._last = self._last_orphans = -1e9
        self._has_news = False

    def on_event(self, event: str, fields: Mapping[str, Any]) -> None:
        """Take in an event of the worker."""
        self._has_news |= event in _NEWS and not self._is_known_bad(fields)
        self._troubles.note(event, fields, to_microseconds(self._clock.now()))

    def look_if_due(self, now: float, *, is_draining: bool) -> None:
        """Look if a second has passed since the last look, or something has happened."""
        interval = AT_ONCE if self._has_news else REPORT_EVERY
        if now - self._last >= interval.total_seconds():
            self.look(health_input(self._parts, is_draining=is_draining))

    def look(self, seen: HealthInput) -> WorkerReport:
        """Find the states, log what has changed, and write the report."""
        now, now_us = self._clock.monotonic(), to_microseconds(self._clock.now())
        self._last, self._has_news = now, False
        if seen.has_ready_runner:
            self._troubles.start_error = None
        functions = [*self._functions(seen, now, now_us), *self._by_request(seen, now, now_us)]
        report = WorkerReport(
            worker=self._worker,
            pid=os.getpid(),
            host=socket.gethostname(),
            started_us=self._started_us,
            written_us=now_us,
            state=worst_function(each.state for each in functions),
            is_draining=seen.is_draining,
            runners=list(seen.runners),
            in_code=[*self._registry.in_code, *self._requests.in_code],
            functions=functions,
        )
        self._file.write(report)
        if now - self._last_orphans >= ORPHANS_EVERY.total_seconds():
            self._last_orphans = now
            self._tell_orphans(now_us)
        return report

    def close(self) -> None:
        """Remove the report, at the end of the worker."""
        self._file.remove()

    def _is_known_bad(self, fields: Mapping[str, Any]) -> bool:
        """Whether an event is of a function whose state is bad already, so it changes nothing."""
        name = str(fields.get("mapping"))
        watch = self._watches.get(name) or self._request_watches.get(name)
        return watch is not None and watch.state in BAD

    def _tell_orphans(self, now_us: int) -> None:
        """Log the functions of this app that are recorded, not in its code, and run by nobody."""
        found = not_in_code(_core.Mapping.names(self._log), self._registry.in_code)
        if found:
            run = set[str]().union(*living_workers(self._log).values())
            found = [name for name in found if name not in run]
        for name in set(found) - self._orphans:
            reason = reason_not_in_code(name, [os.getpid()])
            self._tell(name, State.NOT_IN_CODE, reason, now_us)
        self._orphans = set(found)

    def _functions(self, seen: HealthInput, now: float, now_us: int) -> list[FunctionReport]:
        lanes: defaultdict[str, list[LaneSnapshot]] = defaultdict(list)
        for found in seen.found:
            lanes[found.key.mapping].append(found)
        mappings = [*self._registry, *self._registry.replays]
        shared = {each.mapping.name: self._counters(each.mapping.name) for each in self._registry}
        self._watches = {each.name: self._watch(each) for each in mappings}
        reports = []
        for each in mappings:
            own, function = lanes[each.name], each.mapping.name
            report = self._watches[each.name].look(
                FunctionInput(
                    each=each,
                    lanes=[found.status for found in own],
                    counts=seen.counts[function],
                    shared=shared[function],
                    is_calling=seen.calling.get(function, 0) > 0,
                    is_paused=own[0].is_paused if own else self._is_paused(each),
                    is_stream_missing=each.mapping.stream in self._registry.missing,
                    error=self._registry.troubles.get(each.name),
                    start_error=self._troubles.start_error,
                    code_version=self._parts.code.version or None,
                    memory_highest=self._parts.memory.highest.get(each.group),
                    now_us=now_us,
                    now=now,
                )
            )
            reports.append(report)
            self._tell_change(self._watches[each.name], report, now)
        return reports

    def _by_request(self, seen: HealthInput, now: float, now_us: int) -> list[FunctionReport]:
        functions, known = self._requests.functions, self._request_watches
        self._request_watches = {
            each.name: known.get(each.name) or RequestWatch(each.name, each.name, self._troubles)
            for each in functions
        }
        reports = []
        for each in functions:
            load = self._requests.load_of(each.name)
            report = self._request_watches[each.name].look(
                RequestInput(
                    config=each,
                    load=load,
                    counts=seen.requests[each.name],
                    shared=self._counters(each.name),
                    is_calling=load.running > 0,
                    start_error=self._requests.start_errors.get(each.group),
                    code_version=self._parts.code.version or None,
                    memory_highest=self._parts.memory.highest.get(each.group),
                    now_us=now_us,
                    now=now,
                )
            )
            reports.append(report)
            self._tell_change(self._request_watches[each.name], report, now)
        return reports

    def _tell_change(self, watch: CallWatch, report: FunctionReport, now: float) -> None:
        if watch.is_to_be_logged(now):
            first = report.troubles[0] if report.troubles else None
            since_us = first.since_us if first else report.since_us
            self._tell(report.name, report.state, first.reason if first else None, since_us)

    def _watch(self, each: RegisteredMapping) -> FunctionWatch:
        return self._watches.get(each.name) or FunctionWatch(
            each.name, function_of(each.name), self._troubles
        )

    def _tell(self, name: str, state: State, reason: str | None, since_us: int) -> None:
        self._report(
            "state_changed",
            mapping=name,
            state=str(state),
            reason=reason,
            since=from_microseconds(since_us).isoformat(),
        )

    def _counters(self, function: str) -> Counters:
        try:
            return read_counters(self._log, function)
        except StreamfnError:  # they are figures only
            return NOTHING

    def _is_paused(self, each: RegisteredMapping) -> bool:
        try:
            return each.record.is_paused
        except StreamfnError:  # it was removed, or cannot be read: the registry has the error
            return False
