"""Writing verdicts into in-flight slots: the supervisor as the judge of its own dead runners.

A slot is rewritten under its lane's lease. Where somebody else has the lease for a moment, the
verdict waits; until it is written, nobody may run the lane.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from streamfn._core import InFlight, LaneJudge, LaneStatus
from streamfn.clock import Clock
from streamfn.engine.outcome import CAUSE_CRASHED, CAUSE_NONE, CAUSE_TIMED_OUT
from streamfn.errors import StreamfnError
from streamfn.units import to_microseconds
from streamfn.worker.counters import Counter
from streamfn.worker.report import Report

from .mapping_registry import MappingRegistry, fields_of, was_removed
from .planner import LaneKey
from .tally import Tally
from .verdict import (
    Rewrite,
    RunnerExit,
    Verdict,
    after_runner_death,
    after_worker_death,
    unexplained,
    verdicts,
)


@dataclass(frozen=True, slots=True)
class VerdictContext:
    """What verdicts needs."""

    registry: MappingRegistry
    worker: str
    """UUID of this worker."""
    clock: Clock
    tally: Tally
    report: Report


class VerdictWriter:
    """Verdicts that are on their way into their slots."""

    def __init__(self, context: VerdictContext) -> None:
        self._context = context
        self._pending: dict[LaneKey, Verdict] = {}
        self._unexplained: dict[LaneKey, tuple[int, int]] = {}
        """First record in flight, and how many runners in a row ended for an unknown reason."""

    def __contains__(self, key: LaneKey) -> bool:
        return key in self._pending

    def runner_died(self, number: int, lanes: Mapping[LaneKey, int], death: RunnerExit) -> int:
        """Judge the lanes of a dead runner, and return how many had a batch in flight.

        Args:
            number: The runner's.
            lanes: Those it held, and their numbers.
            death: How it ended.
        """
        slots = self._in_flight(number, lanes)
        cells = {cell.lane: cell for cell in death.cells}
        between = [key for key in slots if lanes[key] not in cells]
        if death.is_unexplained:
            for key, slot in slots.items():
                cell = cells.get(lanes[key])
                times = self._times(key, slot)
                running = None if cell is None else cell.running
                self._pending[key] = unexplained(death, running, times)
        else:
            found = verdicts(death, len(between))
            is_company = bool(cells) and not (death.is_blameless or death.expired)
            for key in slots:
                self._pending[key] = found.get(lanes[key], Verdict(is_alone=is_company))
        self.go_on()
        return len(slots)

    def _in_flight(self, number: int, lanes: Iterable[LaneKey]) -> dict[LaneKey, InFlight]:
        """Return the slots of those lanes that this runner had in its hands."""
        held, found = set(lanes), {}
        for mapping in {key.mapping for key in held}:
            for lane in self._lanes(mapping):
                key = LaneKey(mapping, lane.stream, lane.shard_id, lane.slot)
                slot = lane.in_flight
                if key in held and slot is not None and slot.is_calling and slot.runner == number:
                    found[key] = slot
        return found

    def _times(self, key: LaneKey, slot: InFlight) -> int:
        """Count a death that says nothing, of the same records."""
        first = slot.entries[0].first
        before, times = self._unexplained.get(key, (first, 0))
        times = times + 1 if before == first else 1
        self._unexplained[key] = (first, times)
        return times

    def call_was_lost(self, key: LaneKey) -> None:
        """Judge a lane of ours that nobody has, but that says it is being called: blame nobody."""
        self._pending.setdefault(key, Verdict())

    def go_on(self) -> None:
        """Write the verdicts that wait, as far as their leases are free."""
        for key, verdict in list(self._pending.items()):
            if self._is_written(key, verdict):
                del self._pending[key]

    def worker_died(self, key: LaneKey) -> None:
        """Take over a lane that a dead worker's runner was calling; somebody else may be faster."""
        judge = self._take(key)
        if judge is None:
            return
        slot = judge.in_flight()
        is_orphan = slot is not None and slot.is_calling and slot.worker != self._context.worker
        if slot is not None and is_orphan:
            self._write(judge, after_worker_death(slot, self._now_us()), key)
            self._context.report("worker_death_noticed", mapping=key.mapping, worker=slot.worker)
        judge.release()

    def _lanes(self, mapping: str) -> list[LaneStatus]:
        try:
            return self._context.registry[mapping].record.lanes()
        except StreamfnError as error:
            self._context.report("lane_trouble", mapping=mapping, **fields_of(error))
            return []

    def _is_written(self, key: LaneKey, verdict: Verdict) -> bool:
        judge = self._take(key)
        if judge is None:
            return self._is_gone(key)
        slot, is_written = judge.in_flight(), True
        if slot is not None and slot.is_calling and slot.worker == self._context.worker:
            writes = self._writes_on_success(key)
            now_us = self._now_us()
            rewrite = after_runner_death(slot, verdict, now_us, writes_on_success=writes)
            is_written = self._write(judge, rewrite, key)
            if is_written:
                self._count(key, slot, verdict, judge)
        judge.release()
        return is_written

    def _is_gone(self, key: LaneKey) -> bool:
        """Whether there is no such lane now."""
        try:
            factor = self._context.registry[key.mapping].record.factor(key.stream, key.shard_id)
        except StreamfnError as error:
            return was_removed(error)
        return key.slot >= factor

    def _take(self, key: LaneKey) -> LaneJudge | None:
        each = self._context.registry[key.mapping]
        try:
            return each.record.judge(key.stream, key.shard_id, key.slot, each.filter_on(key.stream))
        except StreamfnError as error:
            self._context.report("lane_trouble", mapping=key.mapping, **fields_of(error))
            return None

    def _write(self, judge: LaneJudge, rewrite: Rewrite, key: LaneKey) -> bool:
        try:
            judge.write(
                rewrite.entries,
                worker=self._context.worker,
                is_calling=False,
                worker_deaths=rewrite.worker_deaths,
                is_alone=rewrite.is_alone,
                is_exclusive=False,
            )
        except StreamfnError as error:
            self._context.report("lane_trouble", mapping=key.mapping, **fields_of(error))
            return False
        return True

    def _count(self, key: LaneKey, slot: InFlight, verdict: Verdict, judge: LaneJudge) -> None:
        """Count what the runner could not any more."""
        tally, index = self._context.tally, self._context.registry[key.mapping].index
        if verdict.running is not None:
            done = sum(
                len(judge.records(entry.first, verdict.running - 1))
                for entry in slot.entries
                if entry.first < verdict.running <= entry.last
            )
            tally.add(index, Counter.CALLS, done + 1)
            if not self._writes_on_success(key):
                tally.add(index, Counter.RECORDS_DONE, done)
        if verdict.cause != CAUSE_NONE:
            tally.add(index, Counter.FAILED_CALLS)
        if verdict.cause == CAUSE_CRASHED:
            tally.add(index, Counter.CRASHES)
        if verdict.cause == CAUSE_TIMED_OUT:
            tally.add(index, Counter.TIMEOUTS)

    def _writes_on_success(self, key: LaneKey) -> bool:
        return self._context.registry[key.mapping].mapping.writes_on_success(key.stream)

    def _now_us(self) -> int:
        return to_microseconds(self._context.clock.now())
