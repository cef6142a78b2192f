"""A lane in memory that applies the rules to one batch as a runner and its supervisor would."""

from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from streamfn._core import Entry, Record, Records
from streamfn.clock import ManualClock
from streamfn.engine.outcome import CAUSE_CRASHED, Failed, Failure
from streamfn.engine.record_pass import RecordPass
from streamfn.engine.settle import SettleContext, expire, settle, take_verdict
from streamfn.engine.worklist import Worklist
from streamfn.model.policy import RetryPolicy

SEGFAULT = 11
TIMEOUT = 60.0
NOW_US = 1_767_225_600_000_000
"""Where `ManualClock` starts."""


class Died(BaseException):
    """Stands for the death of the process that the function runs in."""


def records_of(keys, first=100, step=1):
    """One record for each key; sequence numbers may have gaps, as those of a lane do."""
    return Records(
        [
            Record(
                b"%d" % place,
                key,
                sequence_number=first + place * step,
                stream="orders",
                timestamp_us=NOW_US,
            )
            for place, key in enumerate(keys)
        ]
    )


def plain(entries):
    """Entries as tuples, which compare."""
    return [
        (e.first, e.last, e.attempts, e.joined, e.cause, e.detail, e.first_failed_us)
        for e in entries
    ]


def failed(message="no"):
    return Failed(Failure("ValueError", message))


@dataclass
class PlayedLane:
    """What came of one batch."""

    calls: list[list[int]] = field(default_factory=list)
    """Sequence numbers of each call, the fatal ones included."""
    done: list[int] = field(default_factory=list)
    discarded: list = field(default_factory=list)
    waits: int = 0
    splits: int = 0
    slots: list = field(default_factory=list)
    """Entries written before each call."""

    @property
    def dead(self):
        return [letter.record.sequence_number for letter in self.discarded]


def covered(lane, entries):
    """The records of a lane that entries cover: what a runner that takes it over is given."""
    return Records.concat([lane.between(entry.first, entry.last) for entry in entries])


def numbers_of(worklist, batch):
    """Sequence numbers that a work list covers."""
    return {n for call in worklist.calls for n in call.records(batch).sequence_numbers()}


def play_batch(batch, function, policy=None, clock=None, calls_max=5_000):
    """Play `input="batch"`: `function(records)` returns an outcome or raises `Died`.

    After each wait, and each death, another runner goes on from what the slot says.
    """
    lane = batch
    context = SettleContext(batch, policy or RetryPolicy(), clock or ManualClock())
    played = PlayedLane()
    worklist = Worklist.of([Entry(batch.first, batch.last)])
    while worklist.calls:
        assert len(played.calls) < calls_max, "it never ends"
        worklist = Worklist.of(worklist.entries())  # as a slot would carry it
        verdict = take_verdict(worklist, TIMEOUT)
        if verdict:
            worklist, outcome = verdict
        else:
            expired = expire(worklist, context)
            played.discarded += expired.discarded
            worklist = expired.worklist
            if expired.discarded:
                continue
            records = worklist.head.records(batch)
            played.slots.append(worklist.entries())
            played.calls.append(records.sequence_numbers())
            try:
                outcome = function(records)
            except Died:
                head = len(worklist.head.entries)
                entries = worklist.entries()
                worklist = Worklist.of([*map(crashed, entries[:head]), *entries[head:]])
                batch = covered(lane, worklist.entries())
                context = replace(context, batch=batch)
                continue
        decision = settle(worklist, outcome, context)
        played.discarded += decision.discarded
        before, after = numbers_of(worklist, batch), numbers_of(decision.worklist, batch)
        played.done += sorted(before - after - set(played.dead))
        played.waits += decision.wait
        played.splits += decision.is_split
        worklist = decision.worklist
        if decision.wait:
            context.clock.advance(timedelta(seconds=1))
            batch = covered(lane, worklist.entries())
            context = replace(context, batch=batch)
    return played


def play_records(batch, function, policy=None, clock=None, calls_max=20_000):
    """Play `input="record"`: `function(record)` returns None, an outcome, or raises `Died`."""
    context = SettleContext(batch, policy or RetryPolicy(), clock or ManualClock())
    played = PlayedLane()
    entries = [Entry(batch.first, batch.last)]
    while entries:
        hold = RecordPass(entries, replace(context, batch=covered(batch, entries)), TIMEOUT)
        played.discarded += hold.take_discarded()
        death = None
        while death is None and (record_range := hold.next()):
            played.slots.append(hold.entries)
            death = _play_stretch(played, hold, record_range, function)
            played.discarded += hold.take_discarded()
            assert len(played.calls) < calls_max, "it never ends"
        entries = hold.entries if death is None else running_blamed(hold.entries, death)
        played.waits += death is None and bool(entries)
    return played


def _play_stretch(played, hold, record_range, function):
    """Call until one fails; return the number of a record that killed the process."""
    for place, record in enumerate(record_range.records):
        played.calls.append([record.sequence_number])
        try:
            outcome = function(record)
        except Died:
            played.done += record_range.records[:place].sequence_numbers()
            return record.sequence_number
        if outcome is not None:
            played.done += record_range.records[:place].sequence_numbers()
            hold.settled(record_range, place, outcome)
            return None
    played.done += record_range.records.sequence_numbers()
    hold.settled(record_range, len(record_range.records), None)
    return None


def crashed(entry):
    return Entry(
        entry.first, entry.last, entry.attempts, entry.joined, CAUSE_CRASHED, SEGFAULT,
        entry.first_failed_us or NOW_US,
    )  # fmt: skip


def running_blamed(entries, running):
    """What a supervisor makes of a slot when the board names the running record."""
    result = []
    for entry in entries:
        if entry.first <= running <= entry.last:
            result.append(crashed(Entry(running, running, entry.attempts)))
            if running < entry.last:
                result.append(Entry(running + 1, entry.last))
        else:
            result.append(entry)
    return result


class EngineKit:
    """The above, for the tests of this folder."""

    Died = Died
    SEGFAULT = SEGFAULT
    TIMEOUT = TIMEOUT
    NOW_US = NOW_US
    records_of = staticmethod(records_of)
    plain = staticmethod(plain)
    failed = staticmethod(failed)
    crashed = staticmethod(crashed)
    play_batch = staticmethod(play_batch)
    play_records = staticmethod(play_records)


@pytest.fixture(scope="session")
def kit():
    """A lane in memory and its parts."""
    return EngineKit
