"""`input="record"`: calls with one record each; the keys of failed records are held back."""

from __future__ import annotations

from dataclasses import replace

from streamfn._core import Work
from streamfn.engine.invoker import SweepResult
from streamfn.engine.outcome import Disturbed, Expired, Failed, Rejected
from streamfn.engine.record_pass import RecordPass, RecordRange
from streamfn.worker.child.exhaustion import Exhausted
from streamfn.worker.runner.lane_job import CallThread, LaneJob, RunnerContext

from .base import LaneCalls


class RecordCalls(LaneCalls):
    """Calls the function with one record after the other, in one pass over the open records."""

    def __init__(self, work: Work, job: LaneJob, context: RunnerContext) -> None:
        super().__init__(work, job, context)
        seconds = self._mapping.timeout.total_seconds()
        self._pass = RecordPass(self._slot, self._settle_context, seconds)
        self._discarded = self._pass.take_discarded()
        self._open = self._pass.entries if work.is_resumed else self._slot
        self._revision = self._pass.revision
        self._is_over = False
        """Whether the next record failed because the process is exhausted; it does not count."""

    def _step(self, thread: CallThread) -> bool:
        if self._job.interrupt.is_set:
            return self._let_go(self._pass.entries, wait=False)
        record_range = self._pass.next()
        self._refresh()
        if record_range is None:
            return self._let_go(self._open, wait=True)
        self._hold(self._open)
        if self._is_over:
            raise Exhausted
        swept = self._sweep(record_range, thread)
        if isinstance(swept.outcome, Failed) and self._is_victim(swept.outcome):
            self._is_over, swept = True, replace(swept, outcome=None)
        self._count_calls(thread.cell, swept)
        outcome = self._counted(record_range, swept)
        self._pass.settled(record_range, swept.done, outcome)
        self._refresh()
        self._discarded, self._outputs = self._pass.take_discarded(), list(swept.outputs)
        self._take_note(record_range, swept.done, outcome)
        return True

    def _sweep(self, record_range: RecordRange, thread: CallThread) -> SweepResult:
        """Call the records until one fails; the timeout applies to each of them."""
        board, cell, records = self._context.board, thread.cell, record_range.records
        self._begin(thread, records, record_range.attempt)
        try:
            running = records.running(board, cell)
            interrupt = self._job.interrupt
            return thread.invoker.call_records(records, running, record_range.attempt, interrupt)
        finally:
            self._end(thread)

    def _count_calls(self, cell: int, swept: SweepResult) -> None:
        """Count the records that succeeded, and the duration of all calls."""
        done = swept.done
        if swept.outcome is None or isinstance(swept.outcome, Expired):
            self._counts.succeeded(cell, done, done)
        else:
            self._counts.took(cell, done + 1, done + 1)
            self._counts.succeeded_before_a_failure(done)

    def _counted(
        self, record_range: RecordRange, swept: SweepResult
    ) -> Failed | Rejected | Expired | None:
        """Return the outcome of the record after the done ones; None: it was not called.

        A disturbed call counts as not called.
        """
        done, outcome = swept.done, swept.outcome
        if done:
            self._disturbed = 0
        if isinstance(outcome, Disturbed) and self._is_own(outcome):
            outcome = Failed(outcome.failure)
        if not isinstance(outcome, Disturbed):
            self._disturbed = 0
            return outcome
        record = record_range.records[done : done + 1]
        self._counts.calls()
        self._note_disturbance(outcome)
        self._report_call("call_disturbed", outcome.failure, record, record_range.attempt)
        return None

    def _take_note(
        self, record_range: RecordRange, done: int, outcome: Failed | Rejected | Expired | None
    ) -> None:
        """Count the calls; a success resets the lane's back-off."""
        records = record_range.records
        if done:
            self._backoff.succeeded()
            if self._job.function.destination.is_redriven(records[0]):
                self._resolved = list(records[:done])
        self._counts.calls(done)
        if isinstance(outcome, Failed | Rejected):
            self._counts.calls()
            self._counts.failed_call(outcome.failure.error_type)
            self._report_failure(outcome.failure, records[done : done + 1], record_range.attempt)

    def _refresh(self) -> None:
        if self._pass.revision != self._revision:
            self._open, self._revision = self._pass.entries, self._pass.revision
