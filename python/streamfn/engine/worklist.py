"""The work list of a lane: the open records of its batch, as calls in strict order.

The in-flight slot holds it as a flat list of entries; a `joined` entry belongs to the same call as
the entry before it. A call runs only when all calls before it are settled, so the records of a key
stay in order.

    slot      [3-3 ×1] [7-7 joined] [20-20 joined] [51-100]
    work list (3, 7, 20)                           (51-100)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from streamfn._core import Entry, Records


@dataclass(frozen=True, slots=True)
class Call:
    """The records of one call: a chain of entries, lowest first, never empty."""

    entries: tuple[Entry, ...]

    @property
    def first(self) -> int:
        """Lowest sequence number."""
        return self.entries[0].first

    @property
    def last(self) -> int:
        """Highest sequence number."""
        return self.entries[-1].last

    @property
    def attempts(self) -> int:
        """The largest number of attempts of its records."""
        return max(entry.attempts for entry in self.entries)

    def records(self, batch: Records) -> Records:
        """Return the records of the batch that this call covers."""
        parts = [batch.between(entry.first, entry.last) for entry in self.entries]
        return parts[0] if len(parts) == 1 else Records.concat(parts)


@dataclass(frozen=True, slots=True)
class Worklist:
    """The calls still to make, in order; empty when the batch is done."""

    calls: tuple[Call, ...] = ()

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Worklist:
        """Read the entries of an in-flight slot."""
        chains: list[list[Entry]] = []
        for entry in entries:
            if entry.joined and chains:
                chains[-1].append(entry)
            else:
                chains.append([entry])
        return cls(tuple(Call(tuple(chain)) for chain in chains))

    @property
    def head(self) -> Call:
        """The call that runs next."""
        return self.calls[0]

    def replaced(self, calls: Iterable[Call]) -> Worklist:
        """Return the list with these calls (or none) in place of its head."""
        return Worklist((*calls, *self.calls[1:]))

    def entries(self) -> list[Entry]:
        """Return the entries for the in-flight slot."""
        return [
            entry if entry.joined == (place > 0) else amended(entry, joined=place > 0)
            for call in self.calls
            for place, entry in enumerate(call.entries)
        ]


def amended(
    entry: Entry,
    *,
    attempts: int | None = None,
    joined: bool | None = None,
    cause: int | None = None,
    first_failed_us: int | None = None,
) -> Entry:
    """Return the entry with some fields replaced; replacing `cause` clears `detail`."""
    return Entry(
        entry.first,
        entry.last,
        entry.attempts if attempts is None else attempts,
        entry.joined if joined is None else joined,
        entry.cause if cause is None else cause,
        entry.detail if cause is None else 0,
        entry.first_failed_us if first_failed_us is None else first_failed_us,
    )


def narrowed(entry: Entry, first: int, last: int) -> Entry:
    """Return the part of the entry from `first` to `last`, with its history."""
    return Entry(
        first,
        last,
        entry.attempts,
        entry.joined,
        entry.cause,
        entry.detail,
        entry.first_failed_us,
    )


class Mark(NamedTuple):
    """One record to call again."""

    sequence_number: int
    entry: Entry
    """The entry that covers it now."""
    attempts: int
    first_failed_us: int


def chain(batch: Records, marks: Iterable[Mark]) -> Call | None:
    """Return one call with these records; None if there are none.

    Adjacent records with an equal history share an entry.

    Args:
        batch: Open records of the batch, at least those of the marks.
        marks: The records to call again, lowest first.
    """
    entries: list[Entry] = []
    before: tuple[int, Entry] | None = None
    for number, entry, attempts, failed_us in marks:
        place = batch.index(number)
        # WHY: an entry stands for every record of the lane in its range. Records of two entries may
        # be adjacent among the open records and have records between them that are done.
        is_neighbour = before is not None and before == (place - 1, entry)
        before = (place, entry)
        last = entries[-1] if entries else None
        if is_neighbour and last and (last.attempts, last.first_failed_us) == (attempts, failed_us):
            entries[-1] = narrowed(last, last.first, number)
        else:
            entries.append(Entry(number, number, attempts, bool(entries), 0, 0, failed_us))
    return Call(tuple(entries)) if entries else None
