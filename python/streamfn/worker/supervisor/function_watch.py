"""Finds the state of one function, and remembers since when it has been in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from streamfn._core import LaneStatus
from streamfn.errors import StreamfnError
from streamfn.health.state import HEALTHY, State, by_weight, worst
from streamfn.health.worker_report import TROUBLES_MAX, FunctionReport, Trouble
from streamfn.telemetry.counters import Counter, Counters

from .mapping_registry import RegisteredMapping
from .rates import SPAN_SECONDS, Rate
from .troubles import Troubles, blocked, failing

LASTS: Final = timedelta(seconds=1)
"""How long a state must have lasted before it is in the log."""
HEALTHY_LASTS: Final = timedelta(seconds=10)
"""The same for changes between `running` and `idle`."""
REMEMBERED: Final = timedelta(seconds=60)
"""How long after its last failed call a function without open records is called failing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionInput:
    """What a look at one function needs."""

    each: RegisteredMapping
    lanes: Sequence[LaneStatus]
    """Its lanes, those that other workers hold included."""
    counts: Sequence[int]
    """What this worker has counted, see `Counter`."""
    shared: Counters
    """What all workers have counted."""
    is_calling: bool
    is_paused: bool
    is_stream_missing: bool
    error: StreamfnError | None
    """Why its lanes could not be read or made."""
    start_error: str | None
    """Why no runner can start."""
    code_version: str | None
    memory_highest: int | None
    """The most bytes of memory that a runner of its own was seen to use."""
    now_us: int
    now: float
    """Now, on the monotonic clock."""


class FunctionWatch:
    """What is remembered of one function between two looks."""

    def __init__(self, name: str, function: str, troubles: Troubles) -> None:
        """Watch a function, or a replay of it, with this name."""
        self.name, self._function, self._troubles = name, function, troubles
        self.state: State | None = None
        self.since_us = 0
        self._changed = 0.0
        self._logged: State | None = None
        self._since: dict[str, int] = {}
        """When each kind of trouble of the function as a whole began."""
        self._is_failing = False
        """Whether calls have failed since the last one that succeeded."""
        self._failed_at = 0.0
        self._succeeded = self._failed = 0
        self._rate_in, self._rate_out = Rate(), Rate()
        self._durations: list[tuple[float, Counters]] = []
        self._quantiles: tuple[float | None, float | None] = (None, None)

    def look(self, seen: FunctionInput) -> FunctionReport:
        """Find the state of the function."""
        self._note_calls(seen)
        self._note_rates(seen)
        troubles = sorted(self._find(seen), key=lambda trouble: by_weight(trouble.state))
        is_running = seen.is_calling or any(_has_work(lane) for lane in seen.lanes)
        own = State.RUNNING if is_running else State.IDLE
        state = worst([own, *(trouble.state for trouble in troubles)])
        if state != self.state:
            self.state, self._changed, self.since_us = state, seen.now, seen.now_us
        p50, p99 = self._quantiles
        return FunctionReport(
            name=self.name,
            stream=seen.each.mapping.stream,
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

    def is_to_be_logged(self, now: float) -> bool:
        """Whether the log must tell of the state now; True once for each change.

        The first state is told at once if it is good, others when they have lasted.
        """
        state, logged = self.state, self._logged
        if state is None or state == logged:
            return False
        is_small = state in HEALTHY and logged in HEALTHY
        lasts = HEALTHY_LASTS if is_small else LASTS
        is_first = logged is None and state in HEALTHY
        if not is_first and now - self._changed < lasts.total_seconds():
            return False
        self._logged = state
        return True

    def _note_calls(self, seen: FunctionInput) -> None:
        """Note whether calls have succeeded, or only failed, since the last look."""
        succeeded = seen.counts[Counter.RECORDS_DONE] + seen.counts[Counter.SUCCEEDED]
        failed = seen.counts[Counter.FAILED_CALLS]
        if failed > self._failed:
            self._is_failing, self._failed_at = True, seen.now
        if succeeded > self._succeeded:
            self._is_failing = False
        self._succeeded, self._failed = succeeded, failed

    def _note_rates(self, seen: FunctionInput) -> None:
        source = seen.each.mapping.stream
        ends = {lane.shard_id: lane.end for lane in seen.lanes if lane.stream == source}
        if ends:
            self._rate_in.add(seen.now, sum(ends.values()))
        self._rate_out.add(seen.now, seen.counts[Counter.RECORDS_DONE])
        kept = self._durations
        kept.append((seen.now, seen.shared))
        while len(kept) > 1 and seen.now - kept[1][0] >= SPAN_SECONDS:
            kept.pop(0)
        recent = (seen.shared - kept[0][1]).durations
        if recent.count:  # otherwise those of the last calls stay
            self._quantiles = (recent.quantile(0.5), recent.quantile(0.99))

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
        is_recent = seen.is_calling or seen.now - self._failed_at < REMEMBERED.total_seconds()
        is_told = any(trouble.state is State.FAILING for trouble in of_lanes)
        if self._began("failing", seen, self._is_failing and is_recent) and not is_told:
            yield failing(self._troubles.last_error(self._function), self._since["failing"])

    def _began(self, kind: str, seen: FunctionInput, is_so: bool) -> bool:  # noqa: FBT001
        """Note when a trouble began, and return whether there is one."""
        if is_so:
            self._since.setdefault(kind, seen.now_us)
        else:
            self._since.pop(kind, None)
        return is_so


def _has_work(lane: LaneStatus) -> bool:
    return lane.in_flight is not None or lane.behind > 0
