"""One batch of one lane, from when a thread takes it until the thread releases the lane.

    take ──> call ──> settle the outcome ──> deliver dead letters ─┬─> next call
                                                                   ├─> the list is empty: settled
                                                                   ├─> same records again: waiting
                                                                   └─> asked to release: yielded

The in-flight slot is written before each call, so that after a crash it shows which records were
being called. It does not change until the dead letters of the call are durable.

A call that failed because of another call is made again without counting. If that happens several
times in a row, the process exits, and each of its calls runs alone next.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from streamfn._core import Entry, Record, Records, Work
from streamfn.engine.handling import CANCEL_GRACE
from streamfn.engine.invoker import request_id
from streamfn.engine.outcome import Disturbed, Failure, Outcome
from streamfn.engine.output import Output
from streamfn.engine.retry import LaneBackoff
from streamfn.engine.settle import DiscardedRecord, SettleContext
from streamfn.errors import StoragePoisoned, StreamfnError
from streamfn.worker.child.current_call import CURRENT_CALL, PARTIAL_LINES
from streamfn.worker.child.exhaustion import Exhausted, is_disabled, is_victim
from streamfn.worker.counters import MappingCounts
from streamfn.worker.runner.lane_call import fields_of_lane_call
from streamfn.worker.runner.lane_job import CallThread, InDoubt, LaneJob, RunnerContext

DELIVERY_PAUSE: Final = timedelta(milliseconds=100)
DELIVERY_PAUSE_MAX: Final = timedelta(seconds=5)
"""Longest pause between attempts to deliver dead letters to a destination that refuses them."""
REPORTED_MAX: Final = 20
"""Most failed records of one call that are reported; all are counted."""
DISTURBED_MAX: Final = 3
"""Disturbed calls in a row after which the process exits."""


class LaneCalls(ABC):
    """Makes the calls for one batch; `proceed` returns when the lane was released.

    INVARIANT: it is in no reference cycle. WHY: a cycle would keep its records until the garbage
    collector runs, and the lane could not reuse their memory.
    """

    def __init__(self, work: Work, job: LaneJob, context: RunnerContext) -> None:
        self._work, self._job, self._context = work, job, context
        self._mapping = job.function.mapping
        self._counts = MappingCounts(context.board, job.index)
        backoff = self._mapping.retry.backoff
        self._backoff = LaneBackoff(backoff, work.exponent, context.random)
        self._settle_context = SettleContext(work.records, self._mapping.retry, context.clock)
        self._slot: list[Entry] = work.entries
        """The open entries of the in-flight slot; `LaneSet.next` has marked it as being called."""
        self._outputs: list[Output] = []
        self._discarded: list[DiscardedRecord] = []
        self._resolved: list[Record] = []
        self._delivery_tries = 0
        self._disturbed = 0
        """Disturbed calls in a row."""

    def proceed(self, thread: CallThread) -> None:
        """Continue until the lane is released: settled, waiting or yielded.

        Raises:
            LeaseLost: Another runner has the lease; the lane must not be used any more.
            Exhausted: The process is exhausted; the slot does not change.
            InDoubt: The next call cannot be made in this process.
        """
        self._job.suspended = None
        while self._deliver() and self._step(thread):
            pass

    @abstractmethod
    def _step(self, thread: CallThread) -> bool:
        """Make the next call and settle its outcome; False: the lane was released instead."""

    def _begin(self, thread: CallThread, records: Records, attempt: int) -> None:
        """Note on the board that a call begins; the slot holds its records."""
        board, cell = self._context.board, thread.cell
        board.begin(cell, self._job.lane, self._deadline(thread))
        CURRENT_CALL.set(
            (fields_of_lane_call, None, self._mapping.name, records, attempt, board, cell)
        )
        if self._disturbed >= DISTURBED_MAX:
            raise InDoubt

    def _end(self, thread: CallThread) -> None:
        """Note on the board that the call has ended."""
        self._context.board.end(thread.cell)
        if PARTIAL_LINES:
            self._context.end_lines()
        CURRENT_CALL.set(None)

    def _is_own(self, outcome: Disturbed) -> bool:
        """Whether the call's own code must be the reason of the failure."""
        return outcome.may_be_own and self._work.is_alone

    def _note_disturbance(self, outcome: Disturbed) -> None:
        """Count a disturbed call, which is made again as the same attempt."""
        self._disturbed = DISTURBED_MAX if outcome.is_fatal else self._disturbed + 1

    def _hold(self, entries: list[Entry]) -> None:
        """Write the open entries into the slot, unless they are there already."""
        if entries is not self._slot:
            self._context.lanes.hold(self._job.lane, entries, self._backoff.exponent)
            self._slot = entries

    def _let_go(self, entries: list[Entry], *, wait: bool) -> bool:
        """Settle the batch if no entry is open, or release the lane with them; return False."""
        lanes, lane = self._context.lanes, self._job.lane
        self._job.is_open = bool(entries)
        seconds = 0.0
        if not entries:
            lanes.settle(lane, self._backoff.exponent)
        elif wait:
            self._counts.retry()
            seconds = self._backoff.next_wait(self._report_backoff)
            lanes.wait(lane, entries, self._backoff.exponent, seconds)
        else:
            lanes.yield_(lane, entries, self._backoff.exponent)
        if self._work.is_alone:
            self._context.released_alone(lane, None if not entries else seconds)
        return False

    def _deliver(self) -> bool:
        """Append outputs, dead letters and markers; False: it failed, and the lane was released."""
        destination = self._job.function.destination
        try:
            if self._outputs:
                destination.send_on(self._outputs)
                self._outputs = []
            if self._discarded:
                self._report_discarded(destination.deliver(self._discarded))
                self._discarded = []
            if self._resolved:
                destination.resolve(self._resolved)
                self._counts.redriven_ok(len(self._resolved))
                self._resolved = []
        except StoragePoisoned:
            raise  # WHY: only a new process can open that stream again
        except StreamfnError as error:
            if self._context.can_be_replaced and is_disabled(error):
                raise Exhausted from error
            self._put_off_delivery(error)
            return False
        self._delivery_tries = 0
        return True

    def _is_victim(self, outcome: Outcome | Disturbed) -> bool:
        """Whether a call failed because other calls exhausted the process; then nothing is settled.

        If the batch runs alone, the failure counts for it, and the process exits after it.
        """
        if not (self._context.can_be_replaced and is_victim(outcome)):
            return False
        if self._work.is_alone:
            self._context.is_used_up = self._job.interrupt.is_set = True
        return not self._work.is_alone

    def _put_off_delivery(self, error: StreamfnError) -> None:
        """Keep the slot as it was before the call, and retry the delivery after a pause."""
        pause = min(DELIVERY_PAUSE * 2**self._delivery_tries, DELIVERY_PAUSE_MAX)
        self._delivery_tries = min(self._delivery_tries + 1, 16)
        self._report(
            "delivery_failed",
            slot=self._job.at.slot,
            records=len(self._outputs) or len(self._discarded) or len(self._resolved),
            error_type=type(error).__name__,
            error_message=str(error),
            seconds=pause.total_seconds(),
        )
        self._job.suspended = self
        seconds = pause.total_seconds()
        self._context.lanes.wait(self._job.lane, self._slot, self._backoff.exponent, seconds)

    def _report_discarded(self, streams: Sequence[str | None]) -> None:
        """Count the discarded records, and report the stream of each; None: it was dropped."""
        is_redriven = self._job.function.destination.is_redriven
        meant = self._mapping.failure_stream
        for place, (discarded, stream) in enumerate(zip(self._discarded, streams, strict=True)):
            self._counts.discarded(discarded.condition, is_dropped=stream is None)
            if place >= REPORTED_MAX:
                continue
            self._report(
                "record_dropped" if stream is None else "dead_lettered",
                destination=stream,
                too_large_for=None if stream == meant or is_redriven(discarded.record) else meant,
                sequence_number=discarded.record.sequence_number,
                partition_key=discarded.record.partition_key,
                condition=discarded.condition,
                attempts=discarded.attempts,
                **self._failure_fields(discarded.failure, has_traceback=False),
            )

    def _report_failure(self, failure: Failure, records: Records, attempt: int) -> None:
        self._report_call("function_failed", failure, records, attempt)

    def _report_call(self, event: str, failure: Failure, records: Records, attempt: int) -> None:
        self._report(
            event,
            request_id=request_id(self._mapping.name, records),
            first=records.first,
            last=records.last,
            records=len(records),
            attempt=attempt,
            **self._failure_fields(failure),
        )

    def _failure_fields(self, failure: Failure, *, has_traceback: bool = True) -> dict[str, Any]:
        """Return the fields of an event that describe a failure."""
        return self._context.failures.fields(self._mapping.name, failure, is_told=has_traceback)

    def _report_backoff(self, error: BaseException) -> None:
        told = Failure.of(error)
        self._report("backoff_failed", error_type=told.error_type, error_message=told.error_message)

    def _report(self, event: str, **fields: object) -> None:
        place = {"stream": self._work.stream, "shard_id": self._work.shard_id}
        self._context.report(event, mapping=self._mapping.name, **place, **fields)

    def _deadline(self, thread: CallThread) -> float:
        """Return when the supervisor may kill the process, in seconds of the monotonic clock."""
        timeout = self._mapping.timeout
        if thread.invoker.is_async:
            timeout += CANCEL_GRACE
        return self._context.clock.monotonic() + timeout.total_seconds()
