"""The rules of a failed call: what is tried again, what is given up, and whether the lane waits.

outcome                    next                                           wait
────────────────────────   ────────────────────────────────────────────   ────
Success                    the next call                                  no
Failed, Rejected; n > 1    its halves (with `bisect`)                     no
Failed, retries left       the same records                               yes
Failed, exhausted          dead letters                                   no
Rejected                   dead letters                                   no
Partial                    the failed, and later records of their keys    if one is repeated
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
class Letter:
    """A record that is given up, and why; it goes to the mapping's destination."""

    record: Record
    condition: Condition
    failure: Failure
    attempts: int
    first_failed_us: int
    window: tuple[int, int] | None = None
    """Start and end, µs, of a window whose final call is given up; the record is its state."""
    replay: str | None = None
    """Name of the replay that the window is one of; None: it is one of the function's own."""


@dataclass(frozen=True, slots=True)
class Case:
    """What the rules look at besides the outcome."""

    batch: Records
    """All records of the batch that the work list is about."""
    policy: RetryPolicy
    clock: Clock

    @property
    def now_us(self) -> int:
        """Wall time in µs."""
        return microseconds(self.clock)


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from an outcome."""

    worklist: Worklist
    letters: tuple[Letter, ...] = ()
    wait: bool = False
    """The same records come again: back off first."""
    is_split: bool = False


def settle(worklist: Worklist, outcome: Outcome, case: Case) -> Decision:
    """Decide what follows from the outcome of the work list's head."""
    match outcome:
        case Success():
            return Decision(worklist.replaced(()))
        case Failed() | Rejected():
            return _failed(worklist, outcome, case)
        case Partial(failures):
            return _partial(worklist, failures, case)
        case Reported():
            return _reported(worklist, outcome, case)


def judged(worklist: Worklist, timeout_seconds: float) -> tuple[Worklist, Failed] | None:
    """Take the verdict of a supervisor on the head out of the work list, as the call's outcome.

    None: there is no verdict; the head is to be called as it stands.
    """
    causes = [entry for entry in worklist.head.entries if entry.cause != CAUSE_NONE]
    if not causes:
        return None
    cleared = tuple(amended(entry, cause=CAUSE_NONE) for entry in worklist.head.entries)
    return worklist.replaced([Call(cleared)]), died(causes[0], timeout_seconds)


def expire(worklist: Worklist, case: Case) -> Decision:
    """Give up the records of the head that have become too old.

    Source: K-32, the age is checked record by record.
    """
    horizon = age_horizon(case.policy, case.clock)
    if horizon is None:
        return Decision(worklist)
    head = worklist.head
    old = [record for record in head.records(case.batch) if record.timestamp_us < horizon]
    if not old:
        return Decision(worklist)
    numbers = {record.sequence_number for record in old}
    fresh = [
        Mark(record.sequence_number, entry, entry.attempts, entry.first_failed_us)
        for entry, record in _each(head, case.batch)
        if record.sequence_number not in numbers
    ]
    letters = [
        Letter(record, "RecordAgeExceeded", Expired().failure, entry.attempts, case.now_us)
        for entry, record in _each(head, case.batch)
        if record.sequence_number in numbers
    ]
    return Decision(_with_call(worklist, chain(case.batch, fresh)), tuple(letters))


def age_horizon(policy: RetryPolicy, clock: Clock) -> int | None:
    """Return the time before which a record is too old, in µs; None: no record is."""
    age = policy.max_record_age
    return None if age is None else microseconds(clock) - round(age.total_seconds() * 1e6)


def microseconds(clock: Clock) -> int:
    """Return the wall time as records carry it: µs since 1970, UTC."""
    return round(clock.now().timestamp() * 1e6)


def _failed(worklist: Worklist, outcome: Failed | Rejected, case: Case) -> Decision:
    head, policy = worklist.head, case.policy
    records = head.records(case.batch)
    if policy.bisect and len(records) > 1:
        touched = Call(tuple(_touched(entry, case.now_us) for entry in head.entries))
        return Decision(worklist.replaced(halves(touched, records)), is_split=True)
    counted = [failed_once_more(entry, case.now_us) for entry in head.entries]
    if isinstance(outcome, Rejected):
        letters = _letters(counted, "Rejected", outcome.failure, case)
        return Decision(worklist.replaced(()), letters)
    exhausted = [entry for entry in counted if is_exhausted(entry.attempts, policy)]
    open_still = tuple(entry for entry in counted if not is_exhausted(entry.attempts, policy))
    calls = [Call(open_still)] if open_still else []
    letters = _letters(exhausted, "RetryAttemptsExhausted", outcome.failure, case)
    return Decision(worklist.replaced(calls), letters, wait=bool(open_still))


def _partial(worklist: Worklist, failures: Mapping[int, Failed | Rejected], case: Case) -> Decision:
    """Keep the failed records and the later ones of their keys; the rest is done.

    When a record is given up, later records of its key start afresh.
    """
    marks: list[Mark] = []
    letters: list[Letter] = []
    held: dict[str, bool] = {}  # key -> the record that holds it was given up
    wait = False
    for entry, record in _each(worklist.head, case.batch):
        number, key = record.sequence_number, record.partition_key
        outcome = failures.get(number)
        if outcome is None:
            if key is not None and key in held:
                afresh_now = held[key]
                attempts, since = (0, 0) if afresh_now else (entry.attempts, entry.first_failed_us)
                marks.append(Mark(number, entry, attempts, since))
            continue
        since = entry.first_failed_us or case.now_us
        condition = given_up(outcome, entry.attempts + 1, case.policy)
        if condition is not None:
            letters.append(Letter(record, condition, outcome.failure, entry.attempts + 1, since))
        else:
            marks.append(Mark(number, entry, entry.attempts + 1, since))
            wait = True
        if key is not None:
            held[key] = condition is not None
    return Decision(_with_call(worklist, chain(case.batch, marks)), tuple(letters), wait)


def given_up(outcome: Failed | Rejected, attempts: int, policy: RetryPolicy) -> Condition | None:
    """Return why a record that failed so many times is given up; None: it is tried again."""
    if isinstance(outcome, Rejected):
        return "Rejected"
    return "RetryAttemptsExhausted" if is_exhausted(attempts, policy) else None


def _reported(worklist: Worklist, outcome: Reported, case: Case) -> Decision:
    """Apply AWS's rule: the checkpoint moves to the lowest reported record.

    Source: K-26; progress restarts the count of attempts (K-30).
    """
    head, policy = worklist.head, case.policy
    records = head.records(case.batch)
    rest = [_from(entry, outcome.lowest) for entry in head.entries if entry.last >= outcome.lowest]
    if outcome.lowest > records.first:
        return Decision(worklist.replaced([Call(tuple(afresh(entry) for entry in rest))]))
    counted = [failed_once_more(entry, case.now_us) for entry in rest]
    if not is_exhausted(counted[0].attempts, policy):
        return Decision(worklist.replaced([Call(tuple(counted))]), wait=True)
    letters = _letters(counted, "RetryAttemptsExhausted", outcome.failure, case)
    if policy.on_exhausted == "batch":
        return Decision(worklist.replaced(()), letters)
    others = [
        Mark(record.sequence_number, entry, 0, 0) for entry, record in _each(head, case.batch)
    ][1:]
    return Decision(_with_call(worklist, chain(case.batch, others)), letters[:1])


def _each(call: Call, batch: Records) -> Iterable[tuple[Entry, Record]]:
    for entry in call.entries:
        for record in batch.between(entry.first, entry.last):
            yield entry, record


def _letters(
    entries: Iterable[Entry], condition: Condition, failure: Failure, case: Case
) -> tuple[Letter, ...]:
    return tuple(
        Letter(record, condition, failure, entry.attempts, entry.first_failed_us)
        for entry in entries
        for record in case.batch.between(entry.first, entry.last)
    )


def _with_call(worklist: Worklist, call: Call | None) -> Worklist:
    return worklist.replaced([call] if call else [])


def _from(entry: Entry, first: int) -> Entry:
    return narrowed(entry, max(entry.first, first), entry.last)


def _touched(entry: Entry, now_us: int) -> Entry:
    return amended(entry, first_failed_us=entry.first_failed_us or now_us)
