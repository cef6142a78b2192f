"""`input="batch"`: the calls of one work list, one after the other."""

from __future__ import annotations

from itertools import islice

from streamfn._core import Record, Records, Work
from streamfn.engine.outcome import Disturbed, Failed, Outcome, Partial, Success
from streamfn.engine.settle import Decision, expire, settle, take_verdict
from streamfn.engine.worklist import Worklist
from streamfn.worker.child.exhaustion import Exhausted
from streamfn.worker.runner.lane_job import CallThread, LaneJob, RunnerContext

from .base import REPORTED_MAX, LaneCalls


class BatchCalls(LaneCalls):
    """Calls the function with batches, their halves, and their open records."""

    def __init__(self, work: Work, job: LaneJob, context: RunnerContext) -> None:
        super().__init__(work, job, context)
        self._worklist = Worklist.of(self._slot)
        self._open = self._slot
        """The entries of the work list."""
        self._must_wait = False

    def _step(self, thread: CallThread) -> bool:
        if not self._worklist.calls or self._must_wait:
            wait, self._must_wait = self._must_wait, False
            return self._let_go(self._open, wait=wait)
        verdict = take_verdict(self._worklist, self._mapping.timeout.total_seconds())
        if verdict is not None:
            self._worklist, outcome = verdict
            self._apply(settle(self._worklist, outcome, self._settle_context))
            return True
        if self._job.interrupt.is_set:
            return self._let_go(self._open, wait=False)
        expired = expire(self._worklist, self._settle_context)
        if expired.discarded:
            self._apply(expired)
        else:
            self._call(thread)
        return True

    def _call(self, thread: CallThread) -> None:
        """Call the head of the list and settle the outcome."""
        head = self._worklist.head
        records = head.records(self._work.records)
        attempt = head.attempts + 1
        if not records:  # retention deleted them while they waited
            self._apply(settle(self._worklist, Success(), self._settle_context))
            return
        self._hold(self._open)
        self._counts.calls()
        self._begin(thread, records, attempt)
        try:
            outcome = self._invoke(thread, records, attempt)
        finally:
            self._end(thread)
        if isinstance(outcome, Disturbed) and self._is_own(outcome):
            outcome = Failed(outcome.failure)
        if self._is_victim(outcome):
            raise Exhausted
        if isinstance(outcome, Disturbed):
            self._note_disturbance(outcome)
            self._report_call("call_disturbed", outcome.failure, records, attempt)
            return
        self._disturbed = 0
        decision = self._decide(outcome)
        if isinstance(outcome, Success | Partial):
            self._outputs = list(outcome.outputs)
        if isinstance(outcome, Success):
            self._backoff.succeeded()
            self._counts.succeeded(thread.cell, 1, len(records))
        else:
            self._counts.took(thread.cell, 1, len(records))
            self._counts.failed_call(
                None if isinstance(outcome, Partial) else outcome.failure.error_type
            )
            self._report_outcome(outcome, attempt)
            self._counts.records_done(len(self._done(decision)))
        if self._job.function.destination.is_redriven(records[0]):
            self._resolved = self._done(decision)
        self._apply(decision)

    def _invoke(self, thread: CallThread, records: Records, attempt: int) -> Outcome | Disturbed:
        return thread.invoker.call_batch(records, attempt)

    def _decide(self, outcome: Outcome) -> Decision:
        """Return what to do after the outcome of the head."""
        return settle(self._worklist, outcome, self._settle_context)

    def _apply(self, decision: Decision) -> None:
        """Take the decision's work list; discarded records are delivered before the next step."""
        self._worklist, self._discarded = decision.worklist, list(decision.discarded)
        self._open = decision.worklist.entries()
        self._must_wait = decision.wait
        if decision.is_split:
            self._counts.bisect()

    def _done(self, decision: Decision) -> list[Record]:
        """Return the records of the head that are neither retried nor given up."""
        batch = self._work.records
        added = len(decision.worklist.calls) - len(self._worklist.calls) + 1
        left = {
            number
            for call in decision.worklist.calls[:added]
            for number in call.records(batch).sequence_numbers()
        }
        left |= {each.record.sequence_number for each in decision.discarded}
        head = self._worklist.head.records(batch)
        return [record for record in head if record.sequence_number not in left]

    def _report_outcome(self, outcome: Outcome, attempt: int) -> None:
        batch = self._work.records
        if isinstance(outcome, Partial):
            for number, each in islice(outcome.failures.items(), REPORTED_MAX):
                self._report_failure(each.failure, batch.between(number, number), attempt)
        elif not isinstance(outcome, Success):
            records = self._worklist.head.records(batch)
            self._report_failure(outcome.failure, records, attempt)
