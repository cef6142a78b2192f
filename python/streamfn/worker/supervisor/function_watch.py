"""Finds the state of one function on a stream, and remembers since when it has been in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from streamfn._core import LaneStatus
from streamfn.errors import StreamfnError
from streamfn.health.state import State
from streamfn.health.worker_report import TROUBLES_MAX, FunctionReport, Trouble
from streamfn.telemetry.counters import Counter

from .call_watch import CallInput, CallWatch
from .mapping_registry import RegisteredMapping
from .rates import Rate
from .troubles import Troubles, blocked


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionInput(CallInput):
    """What a look at one function needs."""

    each: RegisteredMapping
    lanes: Sequence[LaneStatus]
    """Its lanes, those that other workers hold included."""
    is_paused: bool
    is_stream_missing: bool
    error: StreamfnError | None
    """Why its lanes could not be read or made."""


class FunctionWatch(CallWatch):
    """What is remembered of one function between two looks."""

    def __init__(self, name: str, function: str, troubles: Troubles) -> None:
        """Watch a function, or a replay of it, with this name."""
        super().__init__(name, function, troubles)
        self._rate_in = Rate()

    def look(self, seen: FunctionInput) -> FunctionReport:
        """Find the state of the function."""
        self._note(seen, Counter.RECORDS_DONE)
        source = seen.each.mapping.stream
        ends = {lane.shard_id: lane.end for lane in seen.lanes if lane.stream == source}
        if ends:
            self._rate_in.add(seen.now, sum(ends.values()))
        is_running = seen.is_calling or any(_has_work(lane) for lane in seen.lanes)
        state, troubles = self._decide(seen, self._find(seen), is_running=is_running)
        p50, p99 = self._quantiles
        return FunctionReport(
            name=self.name,
            stream=source,
            state=state,
            since_us=self.since_us,
            troubles=troubles[:TROUBLES_MAX],
            rate_in=self._rate_in.per_second(),
            rate_out=None if seen.each.is_replay else self._rate_out.per_second(),
            p50_seconds=p50,
            p99_seconds=p99,
            code_version=seen.code_version,
            memory_limit=seen.each.mapping.memory,
            memory_highest=seen.memory_highest,
        )

    def _find(self, seen: FunctionInput) -> Iterator[Trouble]:
        """Yield what is wrong with the function and its lanes."""
        clock = (seen.now_us, seen.now)
        found = [self._troubles.of_lane(self._function, lane, clock) for lane in seen.lanes]
        of_lanes = [trouble for trouble in found if trouble is not None]
        yield from of_lanes
        has_work = any(_has_work(lane) for lane in seen.lanes)
        if self._began("paused", seen, seen.is_paused):
            yield Trouble(state=State.PAUSED, reason="paused", since_us=self._since["paused"])
        if self._began("waiting", seen, seen.is_stream_missing):
            reason = f"stream `{seen.each.mapping.stream}` does not exist yet"
            yield Trouble(state=State.WAITING, reason=reason, since_us=self._since["waiting"])
        if self._began("lanes", seen, seen.error is not None):
            told = (type(seen.error).__name__, str(seen.error))
            yield blocked("cannot read or make its lanes", *told, self._since["lanes"])
        if self._began("start", seen, has_work and seen.start_error is not None):
            yield blocked("no runner can start", None, seen.start_error, self._since["start"])
        is_told = any(trouble.state is State.FAILING for trouble in of_lanes)
        if (failing := self._failing(seen, is_told=is_told)) is not None:
            yield failing


def _has_work(lane: LaneStatus) -> bool:
    return lane.in_flight is not None or lane.behind > 0
