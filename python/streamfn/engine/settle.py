"""The rules after a call: what is retried, what is given up, and whether the lane waits first.

outcome                    next                                           wait
────────────────────────   ────────────────────────────────────────────   ────
Success                    the next call                                  no
Failed, Rejected; n > 1    its halves (with `bisect`)                     no
Failed, retries left       the same records                               yes
Failed, exhausted          dead letters                                   no
Rejected                   dead letters                                   no
Partial                    the failed, and later records of their keys    if one is retried
Reported, with progress    from the lowest reported on, afresh            no
Reported, retries left     the same records                               yes
Reported, exhausted        all but the lowest, afresh (or dead letters)   no
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from streamfn._core import Entry, Record, Records
from streamfn.clock import Clock
from streamfn.model.policy import RetryPolicy
from streamfn.units import to_microseconds

from .bisect import halves
from .outcome import (
    CAUSE_NONE,
    Condition,
    Expired,
    Failed,
    Failure,
    Outcome,
    Partial,
    Rejected,
    Reported,
    Success,
    died,
)
from .retry import afresh, failed_once_more, is_exhausted
from .worklist import Call, Mark, Worklist, amended, chain, narrowed


@dataclass(frozen=True, slots=True)
class DiscardedRecord:
    """A record that is given up, with the reason; it goes to the mapping's `on_failure`."""

    record: Record
    condition: Condition
    failure: Failure
    attempts: int
    first_failed_us: int
    window: tuple[int, int] | None = None
    """Start and end, in µs, of a window whose final call is given up; the record is its state."""
    replay: str | None = None
    """Name of the replay that the window belongs to; None: it belongs to the function itself."""


@dataclass(frozen=True, slots=True)
class SettleContext:
    """The input of the rules besides the outcome."""

    batch: Records
    """All records of the batch of the work list."""
    policy: RetryPolicy
    clock: Clock

    @property
    def now_us(self) -> int:
        """Wall time in µs."""
        return to_microseconds(self.clock.now())


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do after an outcome."""

    worklist: Worklist
    discarded: tuple[DiscardedRecord, ...] = ()
    wait: bool = False
    """Whether the same records are retried, so that the lane backs off first."""
    is_split: bool = False


def settle(worklist: Worklist, outcome: Outcome, context: SettleContext) -> Decision:
    """Decide what to do after the outcome of the work list's head."""
    match outcome:
        case Success():
            return Decision(worklist.replaced(()))
        case Failed() | Rejected():
            return _failed(worklist, outcome, context)
        case Partial(failures):
            return _partial(worklist, failures, context)
        case Reported():
            return _reported(worklist, outcome, context)


def take_verdict(worklist: Worklist, timeout_seconds: float) -> tuple[Worklist, Failed] | None:
    """Remove a supervisor's verdict from the head and return it as the outcome of the call.

    Return None if there is no verdict: then the head is called.
    """
    causes = [entry for entry in worklist.head.entries if entry.cause != CAUSE_NONE]
    if not causes:
        return None
    cleared = tuple(amended(entry, cause=CAUSE_NONE) for entry in worklist.head.entries)
    return worklist.replaced([Call(cleared)]), died(causes[0], timeout_seconds)


def expire(worklist: Worklist, context: SettleContext) -> Decision:
    """Give up the records of the head that are too old.

    Source: K-32, the age of each record is checked.
    """
    horizon = age_horizon(context.policy, context.clock)
    if horizon is None:
        return Decision(worklist)
    head = worklist.head
    old = [record for record in head.records(context.batch) if record.timestamp_us < horizon]
    if not old:
        return Decision(worklist)
    numbers = {record.sequence_number for record in old}
    fresh = [
        Mark(record.sequence_number, entry, entry.attempts, entry.first_failed_us)
        for entry, record in _each(head, context.batch)
        if record.sequence_number not in numbers
    ]
    discarded = [
        DiscardedRecord(
            record, "RecordAgeExceeded", Expired().failure, entry.attempts, context.now_us
        )
        for entry, record in _each(head, context.batch)
        if record.sequence_number in numbers
    ]
    return Decision(_with_call(worklist, chain(context.batch, fresh)), tuple(discarded))


def age_horizon(policy: RetryPolicy, clock: Clock) -> int | None:
    """Return the time before which records are too old, in µs; None: there is no limit."""
    age = policy.max_record_age
    return None if age is None else to_microseconds(clock.now() - age)


def _failed(worklist: Worklist, outcome: Failed | Rejected, context: SettleContext) -> Decision:
    head, policy = worklist.head, context.policy
    records = head.records(context.batch)
    if policy.bisect and len(records) > 1:
        touched = Call(tuple(_touched(entry, context.now_us) for entry in head.entries))
        return Decision(worklist.replaced(halves(touched, records)), is_split=True)
    counted = [failed_once_more(entry, context.now_us) for entry in head.entries]
    if isinstance(outcome, Rejected):
        discarded = _discard(counted, "Rejected", outcome.failure, context)
        return Decision(worklist.replaced(()), discarded)
    exhausted = [entry for entry in counted if is_exhausted(entry.attempts, policy)]
    open_still = tuple(entry for entry in counted if not is_exhausted(entry.attempts, policy))
    calls = [Call(open_still)] if open_still else []
    discarded = _discard(exhausted, "RetryAttemptsExhausted", outcome.failure, context)
    return Decision(worklist.replaced(calls), discarded, wait=bool(open_still))


def _partial(
    worklist: Worklist, failures: Mapping[int, Failed | Rejected], context: SettleContext
) -> Decision:
    """Keep the failed records and the later ones of their keys; the other records are done.

    If a record is given up, later records of its key start without attempts.
    """
    marks: list[Mark] = []
    discarded: list[DiscardedRecord] = []
    held: dict[str, bool] = {}  # key -> whether its failed record was given up
    wait = False
    for entry, record in _each(worklist.head, context.batch):
        number, key = record.sequence_number, record.partition_key
        outcome = failures.get(number)
        if outcome is None:
            if key is not None and key in held:
                afresh_now = held[key]
                attempts, since = (0, 0) if afresh_now else (entry.attempts, entry.first_failed_us)
                marks.append(Mark(number, entry, attempts, since))
            continue
        since = entry.first_failed_us or context.now_us
        condition = given_up(outcome, entry.attempts + 1, context.policy)
        if condition is not None:
            discarded.append(
                DiscardedRecord(record, condition, outcome.failure, entry.attempts + 1, since)
            )
        else:
            marks.append(Mark(number, entry, entry.attempts + 1, since))
            wait = True
        if key is not None:
            held[key] = condition is not None
    return Decision(_with_call(worklist, chain(context.batch, marks)), tuple(discarded), wait)


def given_up(outcome: Failed | Rejected, attempts: int, policy: RetryPolicy) -> Condition | None:
    """Return why a record is given up after so many attempts; None: it is retried."""
    if isinstance(outcome, Rejected):
        return "Rejected"
    return "RetryAttemptsExhausted" if is_exhausted(attempts, policy) else None


def _reported(worklist: Worklist, outcome: Reported, context: SettleContext) -> Decision:
    """Apply AWS's rule: the checkpoint moves to the lowest reported record.

    Source: K-26; progress restarts the count of attempts (K-30).
    """
    head, policy = worklist.head, context.policy
    records = head.records(context.batch)
    rest = [_from(entry, outcome.lowest) for entry in head.entries if entry.last >= outcome.lowest]
    if outcome.lowest > records.first:
        return Decision(worklist.replaced([Call(tuple(afresh(entry) for entry in rest))]))
    counted = [failed_once_more(entry, context.now_us) for entry in rest]
    if not is_exhausted(counted[0].attempts, policy):
        return Decision(worklist.replaced([Call(tuple(counted))]), wait=True)
    discarded = _discard(counted, "RetryAttemptsExhausted", outcome.failure, context)
    if policy.on_exhausted == "batch":
        return Decision(worklist.replaced(()), discarded)
    others = [
        Mark(record.sequence_number, entry, 0, 0) for entry, record in _each(head, context.batch)
    ][1:]
    return Decision(_with_call(worklist, chain(context.batch, others)), discarded[:1])


def _each(call: Call, batch: Records) -> Iterable[tuple[Entry, Record]]:
    for entry in call.entries:
        for record in batch.between(entry.first, entry.last):
            yield entry, record


def _discard(
    entries: Iterable[Entry], condition: Condition, failure: Failure, context: SettleContext
) -> tuple[DiscardedRecord, ...]:
    return tuple(
        DiscardedRecord(record, condition, failure, entry.attempts, entry.first_failed_us)
        for entry in entries
        for record in context.batch.between(entry.first, entry.last)
    )


def _with_call(worklist: Worklist, call: Call | None) -> Worklist:
    return worklist.replaced([call] if call else [])


def _from(entry: Entry, first: int) -> Entry:
    return narrowed(entry, max(entry.first, first), entry.last)


def _touched(entry: Entry, now_us: int) -> Entry:
    return amended(entry, first_failed_us=entry.first_failed_us or now_us)
