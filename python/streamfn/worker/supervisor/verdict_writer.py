"""Writes verdicts on exited runners and dead workers into in-flight slots.

A slot is rewritten under its lane's lease. While another process has the lease, the verdict waits.
Until the verdict is written, no runner may have the lane.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from streamfn._core import InFlight, LaneJudge, LaneStatus
from streamfn.clock import Clock
from streamfn.engine.outcome import (
    CAUSE_CRASHED,
    CAUSE_NONE,
    CAUSE_OUT_OF_MEMORY,
    CAUSE_TIMED_OUT,
)
from streamfn.errors import StreamfnError
from streamfn.telemetry.counters import Counter
from streamfn.units import to_microseconds
from streamfn.worker.report import Report

from .mapping_registry import MappingRegistry, fields_of, was_removed
from .planner import LaneKey
from .tally import Tally
from .verdict import (
    Rewrite,
    RunnerExit,
    Verdict,
    after_runner_death,
    out_of_memory,
    unexplained,
    verdicts,
)


@dataclass(frozen=True, slots=True)
class VerdictContext:
    """The input of verdicts."""

    registry: MappingRegistry
    worker: str
    """UUID of this worker."""
    clock: Clock
    tally: Tally
    report: Report


class VerdictWriter:
    """Makes verdicts and writes them; verdicts that cannot be written yet wait here."""

    def __init__(self, context: VerdictContext) -> None:
        self._context = context
        self._pending: dict[LaneKey, Verdict] = {}
        self._unexplained: dict[LaneKey, tuple[int, int]] = {}
        """First record in flight, and the number of unexplained exits in a row."""

    def __contains__(self, key: LaneKey) -> bool:
        return key in self._pending

    def runner_exited(self, number: int, lanes: Mapping[LaneKey, int], death: RunnerExit) -> int:
        """Make verdicts on the lanes of an exited runner; return how many had a batch in flight.

        Args:
            number: The runner's number.
            lanes: The lanes that it held, with their numbers.
            death: How the runner ended.
        """
        slots = self._in_flight(number, lanes)
        cells = {cell.lane: cell for cell in death.cells}
        between = [key for key in slots if lanes[key] not in cells]
        if death.is_unexplained:
            for key, slot in slots.items():
                cell = cells.get(lanes[key])
                times = self._times(key, slot.entries[0].first)
                running = None if cell is None else cell.running
                self._pending[key] = unexplained(death, running, times)
        elif death.memory_limit is not None and not death.is_blameless:
            for key, slot in slots.items():
                cell = cells.get(lanes[key])
                running = None if cell is None else cell.running
                times = self._times(key, slot.entries[0].first if running is None else running)
                self._pending[key] = out_of_memory(death, cell, slot, times)
        else:
            found = verdicts(death, len(between))
            is_company = bool(cells) and not (death.is_blameless or death.expired)
            for key in slots:
                self._pending[key] = found.get(lanes[key], Verdict(is_alone=is_company))
        self.write_pending()
        return len(slots)

    def _in_flight(self, number: int, lanes: Iterable[LaneKey]) -> dict[LaneKey, InFlight]:
        """Return the slots of the lanes that this runner was calling."""
        held, found = set(lanes), {}
        for mapping in {key.mapping for key in held}:
            for lane in self._lanes(mapping):
                key = LaneKey(mapping, lane.stream, lane.shard_id, lane.slot)
                slot = lane.in_flight
                if key in held and slot is not None and slot.is_calling and slot.runner == number:
                    found[key] = slot
        return found

    def _times(self, key: LaneKey, first: int) -> int:
        """Count unexplained exits in a row with the same first record in flight."""
        before, times = self._unexplained.get(key, (first, 0))
        times = times + 1 if before == first else 1
        self._unexplained[key] = (first, times)
        return times

    def call_was_lost(self, key: LaneKey) -> None:
        """Clear the mark of a call in a slot of this worker whose lane no runner has."""
        self._pending.setdefault(key, Verdict())

    def write_pending(self) -> None:
        """Write the waiting verdicts whose leases are free."""
        for key, verdict in list(self._pending.items()):
            if self._is_written(key, verdict):
                del self._pending[key]

    def worker_died(self, key: LaneKey) -> None:
        """Take over a lane that a dead worker was calling, unless another worker does so first."""
        judge = self._take(key)
        if judge is None:
            return
        slot = judge.in_flight()
        is_orphan = slot is not None and slot.is_calling and slot.worker != self._context.worker
        if slot is not None and is_orphan:
            after = slot.after_worker_death(self._now_us())
            rewrite = Rewrite(list(after.entries), after.worker_deaths, after.is_alone)
            self._write(judge, rewrite, key)
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
        """Whether the lane does not exist any more."""
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
        """Count the calls that the exited runner could not count."""
        tally, index = self._context.tally, self._context.registry[key.mapping].index
        if verdict.running is not None:
            done = sum(
                len(judge.records(entry.first, verdict.running - 1))
                for entry in slot.entries
                if entry.first < verdict.running <= entry.last
            )
            tally.add(index, Counter.CALLS, done + 1)
            tally.add(index, Counter.SUCCEEDED, done)
            if not self._writes_on_success(key):
                tally.add(index, Counter.RECORDS_DONE, done)
        if verdict.cause != CAUSE_NONE:
            tally.add(index, Counter.FAILED_CALLS)
        if verdict.cause in {CAUSE_CRASHED, CAUSE_OUT_OF_MEMORY}:
            tally.add(index, Counter.CRASHES)
        if verdict.cause == CAUSE_TIMED_OUT:
            tally.add(index, Counter.TIMEOUTS)

    def _writes_on_success(self, key: LaneKey) -> bool:
        return self._context.registry[key.mapping].mapping.writes_on_success(key.stream)

    def _now_us(self) -> int:
        return to_microseconds(self._context.clock.now())
