"""`input="batch"`: the calls of one work list, one after the other."""

from __future__ import annotations

from itertools import islice

from streamfn._core import Record, Records, Work
from streamfn.engine.outcome import Disturbed, Failed, Outcome, Partial, Success
from streamfn.engine.settle import Decision, expire, judged, settle
from streamfn.engine.worklist import Worklist

from .counters import Counter
from .exhaustion import Exhausted
from .lane_run import TOLD_MAX, Hands, LaneJob, LaneRun, Tools


class BatchRun(LaneRun):
    """Hands the function whole batches, their halves, and what is left of them."""

    def __init__(self, work: Work, job: LaneJob, tools: Tools) -> None:
        super().__init__(work, job, tools)
        self._worklist = Worklist.of(self._slot)
        self._open = self._slot
        """The entries of the work list."""
        self._must_wait = False

    def _step(self, hands: Hands) -> bool:
        if not self._worklist.calls or self._must_wait:
            wait, self._must_wait = self._must_wait, False
            return self._let_go(self._open, wait=wait)
        verdict = judged(self._worklist, self._mapping.timeout.total_seconds())
        if verdict is not None:
            self._worklist, outcome = verdict
            self._apply(settle(self._worklist, outcome, self._case))
            return True
        if self._job.interrupt.is_set:
            return self._let_go(self._open, wait=False)
        expired = expire(self._worklist, self._case)
        if expired.letters:
            self._apply(expired)
        else:
            self._call(hands)
        return True

    def _call(self, hands: Hands) -> None:
        """Call the head of the list, and settle what comes of it."""
        head = self._worklist.head
        records = head.records(self._work.records)
        attempt = head.attempts + 1
        if not records:  # retention took them while they waited
            self._apply(settle(self._worklist, Success(), self._case))
            return
        self._hold(self._open)
        self._count(Counter.CALLS)
        self._begin(hands)
        try:
            outcome = self._invoke(hands, records, attempt)
        finally:
            self._tools.board.end(hands.cell)
        if isinstance(outcome, Disturbed) and self._is_own(outcome):
            outcome = Failed(outcome.failure)
        if self._is_victim(outcome):
            raise Exhausted
        if isinstance(outcome, Disturbed):
            self._note_disturbance(outcome)
            self._tell("call_disturbed", outcome.failure, records, attempt)
            return
        self._disturbed = 0
        decision = self._decide(outcome)
        if isinstance(outcome, Success | Partial):
            self._outputs = list(outcome.outputs)
        if isinstance(outcome, Success):
            self._pace.succeeded()
            self._count(Counter.RECORDS_DONE, len(records))
        else:
            self._count(Counter.FAILED_CALLS)
            self._tell_of_outcome(outcome, attempt)
            self._count(Counter.RECORDS_DONE, len(self._done(decision)))
        if self._job.function.destination.is_redriven(records[0]):
            self._resolved = self._done(decision)
        self._apply(decision)

    def _invoke(self, hands: Hands, records: Records, attempt: int) -> Outcome | Disturbed:
        return hands.invoker.call_batch(records, attempt)

    def _decide(self, outcome: Outcome) -> Decision:
        """Return what follows from the outcome of the head."""
        return settle(self._worklist, outcome, self._case)

    def _apply(self, decision: Decision) -> None:
        """Make the decision's list the work list; its letters go out before the next step."""
        self._worklist, self._letters = decision.worklist, list(decision.letters)
        self._open = decision.worklist.entries()
        self._must_wait = decision.wait
        if decision.is_split:
            self._count(Counter.BISECTS)

    def _done(self, decision: Decision) -> list[Record]:
        """Return the records of the head that neither come again nor were given up."""
        batch = self._work.records
        added = len(decision.worklist.calls) - len(self._worklist.calls) + 1
        left = {
            number
            for call in decision.worklist.calls[:added]
            for number in call.records(batch).sequence_numbers()
        }
        left |= {letter.record.sequence_number for letter in decision.letters}
        head = self._worklist.head.records(batch)
        return [record for record in head if record.sequence_number not in left]

    def _tell_of_outcome(self, outcome: Outcome, attempt: int) -> None:
        batch = self._work.records
        if isinstance(outcome, Partial):
            for number, each in islice(outcome.failures.items(), TOLD_MAX):
                self._tell_of_failure(each.failure, batch.between(number, number), attempt)
        elif not isinstance(outcome, Success):
            records = self._worklist.head.records(batch)
            self._tell_of_failure(outcome.failure, records, attempt)
