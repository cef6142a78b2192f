"""`input="record"`: one pass over a batch that holds back the keys of failed records.

Records of other keys continue. A failed record and later records of its key stay open until the
lane has waited; the next pass covers the open records. Open entries are in order of sequence
numbers, as in the in-flight slot:

    before                                        [1-100]
    5 failed, 9 and 20 have its key, 57 is next   [5 ×1] [9] [20] [57-100]

An entry with attempts is one failed record. A pass first retries failed records, those with the
fewest attempts first. It stops retrying when a record fails again and no call has succeeded. So
an outage uses up the retries of one record at a time, not those of all held records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from streamfn._core import SLOT_ENTRIES_MAX, Entry, Records

from .bisect import halves
from .outcome import CAUSE_NONE, Condition, Expired, Failed, Rejected, died
from .retry import afresh, failed_once_more
from .settle import DiscardedRecord, SettleContext, given_up
from .worklist import Call, amended, narrowed

HOLD_MAX: Final = SLOT_ENTRIES_MAX
"""With so many open entries no further record starts, because the slot is full."""


@dataclass(frozen=True, slots=True)
class RecordRange:
    """Records to call one by one until one fails: the first ones of the open entry `place`."""

    records: Records
    place: int
    attempt: int
    """1 for records that have not failed."""


class RecordPass:
    """One pass over the open entries of a batch.

    Repeat until `next` returns None: take a range from `next`, call its records, and report the
    result with `settled`. If entries are open then, records have failed: wait, and make the next
    pass.
    """

    __slots__ = (
        "_context",
        "_discarded",
        "_entries",
        "_held",
        "_place",
        "_repeats",
        "has_success",
        "revision",
    )  # fmt: skip

    def __init__(
        self, entries: Sequence[Entry], context: SettleContext, timeout_seconds: float
    ) -> None:
        """Begin a pass; verdicts of a supervisor count as failures of this pass.

        Args:
            entries: The open entries, lowest first.
            context: Their batch, and the policy.
            timeout_seconds: The mapping's timeout, for error messages.
        """
        self._context = context
        self._entries: list[Entry] = []
        self._discarded: list[DiscardedRecord] = []
        self._held: set[str] = set()
        self._place = 0
        self.has_success = False
        """Whether a call of this pass succeeded."""
        self.revision = 0
        """Changes with `entries`, so that an up-to-date slot need not be written again."""
        repeats: list[Entry] = []
        for entry in entries:
            records = self._records(entry)
            if not records:
                continue
            # WHY: a verdict depends on whether the running record was the first of its entry.
            entry = narrowed(entry, records.first, entry.last)  # noqa: PLW2901
            if entry.cause != CAUSE_NONE:
                self._take_verdict(entry, records, timeout_seconds)
            elif len(records) > 1:
                self._entries.append(afresh(entry))
            else:
                self._entries.append(entry)
                if entry.attempts:
                    repeats.append(entry)
        self._repeats = sorted(repeats, key=lambda entry: (entry.attempts, entry.first))
        self._hold_keys_of_failed()

    @property
    def entries(self) -> list[Entry]:
        """The open entries, lowest first, as the in-flight slot must hold them."""
        return list(self._entries)

    def take_discarded(self) -> list[DiscardedRecord]:
        """Return the records that were given up since the last call of this method."""
        discarded, self._discarded = self._discarded, []
        return discarded

    def next(self) -> RecordRange | None:
        """Return the next records to call; None at the end of the pass."""
        if self._repeats:
            entry = self._repeats.pop(0)
            place = next(n for n, each in enumerate(self._entries) if each.first == entry.first)
            return RecordRange(self._records(entry), place, entry.attempts + 1)
        return self._sweep()

    def settled(
        self, record_range: RecordRange, done: int, outcome: Failed | Rejected | Expired | None
    ) -> None:
        """Record the results of a range.

        Args:
            record_range: The range that `next` returned last.
            done: Number of its records that succeeded.
            outcome: Outcome of the record after these; None: it was not called.
        """
        self.revision += 1
        entry = self._entries[record_range.place]
        records = self._records(entry)
        if entry.attempts and not done and outcome is None:
            self._repeats.insert(0, entry)  # it was not called, so it is next again
            return
        self.has_success |= done > 0
        kept = self._judge(entry, records, done, outcome) if outcome else None
        first_open = done + (outcome is not None)
        rest = [_without_history(entry, records, first_open)] if first_open < len(records) else []
        is_repeat = bool(entry.attempts)
        self._entries[record_range.place : record_range.place + 1] = [kept, *rest] if kept else rest
        if kept and is_repeat and not self.has_success:
            self._repeats.clear()
        if is_repeat:
            self._hold_keys_of_failed()
        elif kept:
            self._place += 1
            self._hold(records[done].partition_key)

    def _judge(
        self, entry: Entry, records: Records, place: int, outcome: Failed | Rejected | Expired
    ) -> Entry | None:
        """Return the entry of a failed record; None if the record is given up."""
        record = records[place]
        number = record.sequence_number
        if isinstance(outcome, Expired):
            failed: Entry = narrowed(entry, number, number)
            condition: Condition | None = "RecordAgeExceeded"
        else:
            failed = failed_once_more(narrowed(entry, number, number), self._context.now_us)
            condition = given_up(outcome, failed.attempts, self._context.policy)
        if condition is None:
            return failed
        since = failed.first_failed_us or self._context.now_us
        discarded = DiscardedRecord(record, condition, outcome.failure, failed.attempts, since)
        self._discarded.append(discarded)
        return None

    def _take_verdict(self, entry: Entry, records: Records, timeout_seconds: float) -> None:
        """Count a call whose runner was killed; if it is not known which record ran, split."""
        cleared = amended(entry, cause=CAUSE_NONE)
        if len(records) > 1:
            for half in halves(Call((cleared,)), records):
                self._entries.append(afresh(half.entries[0]))
            return
        kept = self._judge(cleared, records, 0, died(entry, timeout_seconds))
        if kept:
            self._entries.append(kept)

    def _sweep(self) -> RecordRange | None:
        """Return the next records that have not failed and whose keys are not held."""
        while self._place < len(self._entries):
            entry = self._entries[self._place]
            if entry.attempts:
                self._place += 1
                continue
            records = self._records(entry)
            free = self._leading(records)
            if free == 0:
                if not self._hold_back(entry, records):
                    return None
            elif len(records) > 1 and self._is_full:
                return None
            else:
                return RecordRange(records[:free], self._place, 1)
        return None

    def _leading(self, records: Records) -> int:
        """Return the number of records before the first one with a held key."""
        if not self._held:
            return len(records)
        keys = records.partition_keys()
        return next((place for place, key in enumerate(keys) if key in self._held), len(keys))

    def _hold_back(self, entry: Entry, records: Records) -> bool:
        """Hold the first record and those next to it with the same key; False: no room."""
        self.revision += 1
        keys = records.partition_keys()
        length = next((n for n, key in enumerate(keys) if key != keys[0]), len(keys))
        last = records[length - 1].sequence_number
        held = narrowed(entry, entry.first, last)
        rest = [_without_history(entry, records, length)] if length < len(records) else []
        if rest and self._is_full:
            return False
        self._entries[self._place : self._place + 1] = [held, *rest]
        self._place += 1
        return True

    @property
    def _is_full(self) -> bool:
        # INVARIANT: the number of entries grows only while a record has failed. Without a failed
        # record there is nothing to wait for, and the sweep must continue.
        return len(self._entries) >= HOLD_MAX and any(entry.attempts for entry in self._entries)

    def _hold(self, key: str | None) -> None:
        if key is not None:  # records without a key have no order
            self._held.add(key)

    def _hold_keys_of_failed(self) -> None:
        self._held.clear()
        for entry in self._entries:
            if entry.attempts:
                self._hold(self._records(entry)[0].partition_key)

    def _records(self, entry: Entry) -> Records:
        return self._context.batch.between(entry.first, entry.last)


def _without_history(entry: Entry, records: Records, start: int) -> Entry:
    return Entry(records[start].sequence_number, entry.last)
