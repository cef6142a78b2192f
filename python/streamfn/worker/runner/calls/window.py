"""Tumbling windows: the calls of one work list, and the final call of a window.

The state that a call leaves is written together with its position, when the slot is written for the
next call or the batch is settled. Until then it is kept here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from streamfn._core import Entry, Record, Records, Work
from streamfn.engine.outcome import (
    CAUSE_NONE,
    Condition,
    Disturbed,
    Expired,
    Failed,
    Failure,
    Outcome,
    Partial,
    Rejected,
    Success,
    died,
)
from streamfn.engine.retry import failed_once_more, is_exhausted
from streamfn.engine.settle import Decision, DiscardedRecord, age_horizon, settle
from streamfn.engine.windows import WindowTurn, around, keeps_state
from streamfn.engine.worklist import amended
from streamfn.errors import LogFull
from streamfn.worker.child.exhaustion import Exhausted
from streamfn.worker.runner.lane_job import CallThread, LaneJob, RunnerContext

from .base import LaneCalls
from .batch import BatchCalls

FULL_PAUSE_SECONDS: Final = 1.0
"""Pause between attempts to write a state to a full disk."""


class WindowCalls(BatchCalls):
    """Calls the function with batches of one window and the state of the previous call."""

    def __init__(self, work: Work, job: LaneJob, context: RunnerContext) -> None:
        super().__init__(work, job, context)
        self._turn = WindowTurn.of(work)
        self._state = self._turn.state
        self._left = self._state
        """The state that the last call left, whether it is kept or not."""
        self._is_unwritten = False
        """Whether the state on disk is an older one."""

    def proceed(self, thread: CallThread) -> None:
        """Continue as `LaneCalls`; if the disk is full, try later to write the state."""
        try:
            super().proceed(thread)
        except LogFull as error:
            self._report(
                "state_not_written",
                slot=self._job.at.slot,
                error_type=type(error).__name__,
                error_message=str(error),
                seconds=FULL_PAUSE_SECONDS,
            )
            self._job.suspended = self
            lanes, lane = self._context.lanes, self._job.lane
            lanes.wait(lane, self._slot, self._backoff.exponent, FULL_PAUSE_SECONDS)

    def _invoke(self, thread: CallThread, records: Records, attempt: int) -> Outcome | Disturbed:
        outcome, self._left = thread.invoker.call_window(self._turn, self._state, records, attempt)
        return outcome

    def _decide(self, outcome: Outcome) -> Decision:
        head = self._worklist.head.records(self._work.records)
        if keeps_state(outcome, head):
            self._state, self._is_unwritten = self._left, True
        taken_apart = None
        if isinstance(outcome, Partial):
            taken_apart = around(self._worklist, outcome, self._settle_context)
        return taken_apart or settle(self._worklist, outcome, self._settle_context)

    def _hold(self, entries: list[Entry]) -> None:
        self._keep_state()
        super()._hold(entries)
        self._is_unwritten = False

    def _let_go(self, entries: list[Entry], *, wait: bool) -> bool:
        self._keep_state()
        is_going_on = super()._let_go(entries, wait=wait)
        self._is_unwritten = False
        return is_going_on

    def _keep_state(self) -> None:
        """Pass the state to the lane set, which writes it when the position moves.

        WHY each time: a lane that was released meanwhile has discarded the state.
        """
        if not self._is_unwritten:
            return
        policy = self._mapping.tumbling
        most = policy.state_bytes_max if policy is not None else None
        kind, data = self._state
        is_too_large = most is not None and len(data) > most
        self._context.lanes.keep_state(self._job.lane, kind, data, ended_early=is_too_large)


class FinalWindowCalls(LaneCalls):
    """Makes the final call of a window, without records, until it succeeds or is given up."""

    def __init__(self, work: Work, job: LaneJob, context: RunnerContext) -> None:
        super().__init__(work, job, context)
        self._turn = WindowTurn.of(work)
        [self._entry] = work.entries
        self._is_done = False
        self._must_wait = False

    def _step(self, thread: CallThread) -> bool:
        if self._is_done:
            return self._let_go([], wait=False)
        if self._must_wait:
            return self._let_go([self._entry], wait=True)
        if self._entry.cause != CAUSE_NONE:
            judged = died(self._entry, self._mapping.timeout.total_seconds())
            self._entry = amended(self._entry, cause=CAUSE_NONE)
            self._failed(judged)
        elif self._job.interrupt.is_set:
            return self._let_go([self._entry], wait=False)
        elif self._is_too_old():
            self._give_up(DiscardedRecord(self._record(), "RecordAgeExceeded", Expired().failure,
                                 self._entry.attempts, self._settle_context.now_us))  # fmt: skip
        else:
            self._call(thread)
        return True

    def _call(self, thread: CallThread) -> None:
        if self._entry is not self._work.entries[0]:
            self._hold([self._entry])
        self._counts.calls()
        attempt = self._entry.attempts + 1
        self._begin(thread, self._work.records, attempt)
        try:
            outcome, _ = thread.invoker.call_window(
                self._turn, self._turn.state, self._work.records, attempt
            )
        finally:
            self._end(thread)
        if isinstance(outcome, Disturbed) and self._is_own(outcome):
            outcome = Failed(outcome.failure)
        if self._is_victim(outcome):
            raise Exhausted
        if isinstance(outcome, Disturbed):
            self._note_disturbance(outcome)
            self._report_final_call("call_disturbed", outcome.failure, attempt)
            return
        self._disturbed = 0
        if isinstance(outcome, Failed | Rejected):
            self._counts.took(thread.cell, 1, 0)
            self._counts.failed_call(outcome.failure.error_type)
            self._report_final_call("final_call_failed", outcome.failure, attempt)
            self._failed(outcome)
        else:
            self._outputs = list(outcome.outputs) if isinstance(outcome, Success) else []
            self._counts.succeeded(thread.cell, 1, 0)
            self._backoff.succeeded()
            self._is_done = True

    def _failed(self, outcome: Failed | Rejected) -> None:
        """Retry the final call, or give it up.

        Source: W-4, the shard waits until the final call succeeds or has no retry left.
        """
        policy = self._mapping.retry
        entry = self._entry = failed_once_more(self._entry, self._settle_context.now_us)
        if isinstance(outcome, Rejected):
            condition: Condition = "Rejected"
        elif is_exhausted(entry.attempts, policy):
            condition = "RetryAttemptsExhausted"
        else:
            self._must_wait = True
            return
        since = entry.first_failed_us
        self._give_up(
            DiscardedRecord(self._record(), condition, outcome.failure, entry.attempts, since)
        )

    def _give_up(self, discarded: DiscardedRecord) -> None:
        """Send the state to the dead letters; after that the window is closed."""
        bounds = self._turn.start_us, self._turn.end_us
        self._discarded = [replace(discarded, window=bounds, replay=self._job.replay)]
        self._is_done = True

    def _is_too_old(self) -> bool:
        horizon = age_horizon(self._mapping.retry, self._settle_context.clock)
        return horizon is not None and self._turn.end_us < horizon

    def _record(self) -> Record:
        """Return the record that stands for the window in the dead letters: its state."""
        turn = self._turn
        return Record(
            turn.state.data,
            sequence_number=turn.position,
            shard_id=turn.shard_id,
            stream=turn.stream,
            timestamp_us=turn.end_us,
        )

    def _report_final_call(self, event: str, failure: Failure, attempt: int) -> None:
        window = self._turn.window
        self._report(
            event,
            window=f"{window.start.isoformat()} to {window.end.isoformat()}",
            attempt=attempt,
            **self._failure_fields(failure),
        )
