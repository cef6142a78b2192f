"""`input="record"`: the records of a batch one by one, with the keys that failed held back."""

from __future__ import annotations

from dataclasses import replace

from streamfn._core import Work
from streamfn.engine.hold import HoldPass, Stretch
from streamfn.engine.invoker import Swept
from streamfn.engine.outcome import Disturbed, Expired, Failed, Rejected

from .counters import Counter
from .exhaustion import Exhausted
from .lane_run import Hands, LaneJob, LaneRun, Tools


class RecordRun(LaneRun):
    """Hands the function one record after the other; one pass over what is open."""

    def __init__(self, work: Work, job: LaneJob, tools: Tools) -> None:
        super().__init__(work, job, tools)
        seconds = self._mapping.timeout.total_seconds()
        self._pass = HoldPass(self._slot, self._case, seconds)
        self._letters = self._pass.take_letters()
        self._open = self._pass.entries if work.is_resumed else self._slot
        self._revision = self._pass.revision
        self._is_over = False
        """The record that comes next failed for want of what others used up: it was not called."""

    def _step(self, hands: Hands) -> bool:
        if self._job.interrupt.is_set:
            return self._let_go(self._pass.entries, wait=False)
        stretch = self._pass.next()
        self._refresh()
        if stretch is None:
            return self._let_go(self._open, wait=True)
        self._hold(self._open)
        if self._is_over:
            raise Exhausted
        swept = self._sweep(stretch, hands)
        if isinstance(swept.outcome, Failed) and self._is_victim(swept.outcome):
            self._is_over, swept = True, replace(swept, outcome=None)
        outcome = self._counted(stretch, swept)
        self._pass.settled(stretch, swept.done, outcome)
        self._refresh()
        self._letters, self._outputs = self._pass.take_letters(), list(swept.outputs)
        self._take_note(stretch, swept.done, outcome)
        return True

    def _sweep(self, stretch: Stretch, hands: Hands) -> Swept:
        """Call the records until one fails; the supervisor watches the time of each."""
        board, cell, records = self._tools.board, hands.cell, stretch.records
        self._begin(hands)
        try:
            running = records.running(board, cell)
            interrupt = self._job.interrupt
            return hands.invoker.call_records(records, running, stretch.attempt, interrupt)
        finally:
            board.end(cell)

    def _counted(self, stretch: Stretch, swept: Swept) -> Failed | Rejected | Expired | None:
        """Return what became of the record after the done ones; None: it was not called.

        One that was disturbed counts as such.
        """
        done, outcome = swept.done, swept.outcome
        if done:
            self._disturbed = 0
        if isinstance(outcome, Disturbed) and self._is_own(outcome):
            outcome = Failed(outcome.failure)
        if not isinstance(outcome, Disturbed):
            self._disturbed = 0
            return outcome
        record = stretch.records[done : done + 1]
        self._count(Counter.CALLS)
        self._note_disturbance(outcome)
        self._tell("call_disturbed", outcome.failure, record, stretch.attempt)
        return None

    def _take_note(
        self, stretch: Stretch, done: int, outcome: Failed | Rejected | Expired | None
    ) -> None:
        """Count the calls, and let a success end the lane's back-off."""
        records = stretch.records
        if done:
            self._pace.succeeded()
            self._count(Counter.RECORDS_DONE, done)
            if self._job.function.destination.is_redriven(records[0]):
                self._resolved = list(records[:done])
        self._count(Counter.CALLS, done)
        if isinstance(outcome, Failed | Rejected):
            self._count(Counter.CALLS)
            self._count(Counter.FAILED_CALLS)
            self._tell_of_failure(outcome.failure, records[done : done + 1], stretch.attempt)

    def _refresh(self) -> None:
        if self._pass.revision != self._revision:
            self._open, self._revision = self._pass.entries, self._pass.revision
