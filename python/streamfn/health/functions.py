"""The health of every function of a log: the one place where it is found.

What is known comes from three places: the mappings and lanes on disk, the announcements of living
workers, and their reports. `State` has the precedence.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from streamfn import _core
from streamfn._core import LaneStatus
from streamfn.errors import StreamfnError
from streamfn.model.mapping import function_of
from streamfn.telemetry.counters import NOTHING, Counter, Counters, read_counters

from .by_request import functions_by_request
from .in_code import not_in_code, reason_not_in_code
from .lag import oldest_unprocessed_us, records_behind, unread_streams
from .state import State, worst
from .worker_report import FunctionReport, RequestReport, Trouble
from .workers import Worker, read_workers

FULL_BYTES: Final = 64 * 2**10
"""With less free space the disk counts as full for a worker that has not written its report."""

_OF_FUNCTION: Final = frozenset({State.PAUSED, State.NOT_IN_CODE, State.NO_WORKER})
"""States that all lanes of a function have in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionHealth:
    """One function, or one of its replays."""

    name: str
    state: State
    trouble: Trouble | None
    """What explains the state; None for `running`, `idle` and `paused`."""
    since_us: int | None
    """When it came into this state; None: unknown."""
    troubles: tuple[Trouble, ...]
    """Everything that its workers report."""
    lanes_concerned: int
    """Number of lanes that are in this state, if the state is that of lanes."""
    streams: tuple[str, ...]
    """The streams that it reads, which may not exist yet; none for a function by request."""
    lanes: tuple[LaneStatus, ...]
    records_behind: int
    iterator_age_seconds: float | None
    """Age of the oldest record that is not processed; 0: there is none, None: unknown."""
    rate_in: float | None
    rate_out: float | None
    p50_seconds: float | None
    p99_seconds: float | None
    retries: int
    """Waits before the same records were called again, since it was registered."""
    code_version: str | None
    memory_limit: int | None = None
    memory_highest: int | None = None
    """See `FunctionReport`; the highest of all workers."""
    workers: tuple[Worker, ...]
    """The living workers that run it."""
    mapping: _core.Mapping | None
    request: RequestReport | None = None
    """What runs and waits in all workers; None: it reads a stream."""
    throttled: int = 0
    """Calls by request that were refused because too many ran, since it was first called."""


@dataclass(frozen=True, slots=True)
class Health:
    """The functions and the living workers of a log."""

    functions: Sequence[FunctionHealth]
    workers: Sequence[Worker]


def read_health(log: _core.Log, now_us: int, name: str | None = None) -> Health:
    """Return the health of all functions and replays, in the order of their names.

    Args:
        log: The log.
        now_us: Now, in µs since 1970.
        name: Full name of a function or replay: only this one.
    """
    workers = read_workers(log)
    requests = functions_by_request(log, workers)
    names = sorted({*_core.Mapping.names(log), *requests}) if name is None else [name]
    found = [
        _function(log, name, workers, now_us, is_mapping=name not in requests) for name in names
    ]
    return Health(found, workers)


def lane_state(health: FunctionHealth, lane: LaneStatus) -> State:
    """Return the state of one lane of a function."""
    key = (lane.stream, lane.shard_id, lane.slot)
    own = [t.state for t in health.troubles if (t.stream, t.shard_id, t.slot) == key]
    if own:
        return worst(own)
    if health.state in _OF_FUNCTION:
        return health.state
    return State.RUNNING if lane.behind > 0 or lane.in_flight is not None else State.IDLE


def _function(
    log: _core.Log, name: str, workers: Sequence[Worker], now_us: int, *, is_mapping: bool
) -> FunctionHealth:
    mapping, lanes, error = _read(log, name) if is_mapping else (None, [], None)
    having = [each for each in workers if function_of(name) in each.runs]
    reports = [report for each in having for report in _reports(each, name, now_us)]
    state, troubles, since_us = _state(name, mapping, workers, having, reports, log)
    if error is not None:
        state, troubles = State.BLOCKED, [_unreadable(error, now_us), *troubles]
    first = next((each for each in troubles if each.state == state), None)
    streams = {lane.stream for lane in lanes if "." not in lane.stream}
    streams |= {each.stream for each in reports if each.request is None}
    unread = unread_streams(log, streams - {lane.stream for lane in lanes})
    behind = records_behind(lanes) + unread.records
    oldest = min(
        (
            time
            for time in (oldest_unprocessed_us(log, lanes), unread.oldest_us)
            if time is not None
        ),
        default=None,
    )
    age = 0.0 if behind == 0 else None if oldest is None else max(now_us - oldest, 0) / 1e6
    counters = _counters(log, name)
    return FunctionHealth(
        name=name,
        state=state,
        trouble=first,
        since_us=since_us,
        troubles=tuple(troubles),
        lanes_concerned=_concerned(state, troubles, lanes),
        streams=tuple(sorted(streams)),
        lanes=tuple(lanes),
        records_behind=behind,
        iterator_age_seconds=age if is_mapping else None,
        rate_in=max((r.rate_in for r in reports if r.rate_in is not None), default=None),
        rate_out=_sum(report.rate_out for report in reports),
        p50_seconds=max(
            (r.p50_seconds for r in reports if r.p50_seconds is not None), default=None
        ),
        p99_seconds=max(
            (r.p99_seconds for r in reports if r.p99_seconds is not None), default=None
        ),
        retries=counters[Counter.RETRIES],
        code_version=next((r.code_version for r in reports if r.code_version), None),
        memory_limit=next((r.memory_limit for r in reports if r.memory_limit), None),
        memory_highest=max((r.memory_highest for r in reports if r.memory_highest), default=None),
        workers=tuple(having),
        mapping=mapping,
        request=None if is_mapping else _requests(reports),
        throttled=counters[Counter.THROTTLED],
    )


def _requests(reports: Iterable[FunctionReport]) -> RequestReport:
    """Return what runs and waits of a function in all workers."""
    known = [each.request for each in reports if each.request is not None]
    limits = (each.concurrency for each in known if each.concurrency is not None)
    return RequestReport(
        running=sum(each.running for each in known),
        queued=sum(each.queued for each in known),
        concurrency=next(limits, None),
    )


def _read(
    log: _core.Log, name: str
) -> tuple[_core.Mapping | None, list[LaneStatus], StreamfnError | None]:
    """Return a mapping and its lanes; and why they cannot be read, if so."""
    try:
        mapping = _core.Mapping.open(log, name)
        return mapping, mapping.lanes() if mapping else [], None
    except StreamfnError as error:
        return None, [], error


def _reports(worker: Worker, name: str, now_us: int) -> Iterable[FunctionReport]:
    if worker.report is not None and worker.report.is_fresh(now_us):
        yield from (each for each in worker.report.functions if each.name == name)


def _state(
    name: str,
    mapping: _core.Mapping | None,
    workers: Sequence[Worker],
    having: Sequence[Worker],
    reports: Sequence[FunctionReport],
    log: _core.Log,
) -> tuple[State, list[Trouble], int | None]:
    """Return the state, what explains it, and since when it is so."""
    if mapping is not None and mapping.is_paused:
        return State.PAUSED, [], _since(reports, State.PAUSED)
    if not having:
        return _without_worker(name, workers, log)
    if not reports:
        return _without_report(having, log)
    state = worst(each.state for each in reports)
    troubles = [trouble for each in reports for trouble in each.troubles]
    return state, troubles, _since(reports, state)


def _without_worker(
    name: str, workers: Sequence[Worker], log: _core.Log
) -> tuple[State, list[Trouble], int | None]:
    """Return the state of a function that no living worker says that it runs."""
    without = [
        each.pid
        for each in workers
        if each.report and not_in_code([function_of(name)], each.report.in_code)
    ]
    is_known = any(function_of(name) in each.report.in_code for each in workers if each.report)
    if without and not is_known:
        reason = reason_not_in_code(name, without)
        return State.NOT_IN_CODE, [_told(State.NOT_IN_CODE, reason)], None
    silent = [each for each in workers if each.report is None and not each.mappings]
    if silent and _is_full(log):
        return _without_report(silent, log)
    reason = "no living worker runs it"
    if silent:
        reason = f"worker {silent[0].uuid[:8]} is starting, no other living worker runs it"
    return State.NO_WORKER, [_told(State.NO_WORKER, reason)], None


def _without_report(
    having: Sequence[Worker], log: _core.Log
) -> tuple[State, list[Trouble], int | None]:
    """Return the state of a function whose workers have written no fresh report."""
    if _is_full(log):
        reason = "the disk is full (hint: free some space on the disk)"
        return State.BLOCKED, [_told(State.BLOCKED, reason)], None
    silent = [each for each in having if each.report is not None]
    if silent:
        reason = f"worker {silent[0].pid} is stopped or hangs, it has written no report for 30 s"
        return State.BLOCKED, [_told(State.BLOCKED, reason)], None
    return State.RUNNING, [], None  # its worker has just started


def _is_full(log: _core.Log) -> bool:
    return shutil.disk_usage(log.path).free < FULL_BYTES


def _told(state: State, reason: str) -> Trouble:
    return Trouble(state=state, reason=reason, since_us=0)


def _unreadable(error: StreamfnError, now_us: int) -> Trouble:
    return Trouble(
        state=State.BLOCKED,
        reason=f"its files cannot be read: {error} (hint: run `streamfn fsck`)",
        since_us=now_us,
        error_type=type(error).__name__,
        error_message=str(error),
    )


def _since(reports: Sequence[FunctionReport], state: State) -> int | None:
    return min((each.since_us for each in reports if each.state == state), default=None)


def _concerned(state: State, troubles: Iterable[Trouble], lanes: Iterable[LaneStatus]) -> int:
    """Return the number of lanes in the state; all of them if it is that of the function."""
    own = {
        (each.stream, each.shard_id, each.slot)
        for each in troubles
        if each.state == state and each.slot is not None
    }
    return len(own) or sum("." not in lane.stream and not lane.is_finished for lane in lanes)


def _counters(log: _core.Log, name: str) -> Counters:
    try:
        return read_counters(log, function_of(name))
    except StreamfnError:  # they are figures only
        return NOTHING


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
