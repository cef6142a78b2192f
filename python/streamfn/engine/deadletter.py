"""The dead letters of a mapping, folded from its dead-letter stream, and their redrive.

The stream only grows: a dead letter is `failed`, later markers with the same origin say what
became of it. One that was written twice, by a crash between the letter and the checkpoint, shows
once.

    failed ──> open ──> queued ──> resolved
                │         └─ failed again ──> open (next round)
                └────> dropped
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from streamfn import _core
from streamfn._core import Record, ShardReader
from streamfn.clock import Clock, SystemClock
from streamfn.errors import StreamNotFound
from streamfn.log import Log
from streamfn.model.record import DEAD_LETTER_HEADER
from streamfn.units import from_microseconds, to_microseconds

from . import letter as letters_of
from .destination import Put, put_all
from .letter import Kind, Origin

Status = Literal["open", "queued", "resolved", "dropped"]

Place = tuple[str, str, int, int, bool, str | None]
"""Stream, shard id, sequence number and time of a record's origin; or of a window, where it was
closed, and by which replay.

WHY the time: a stream that was removed and made again gives out the same numbers once more.
"""
Delivery = tuple[Place, int, int]
"""Place, round and time of a dead letter: what its parts have in common, and no other has."""

READ_RECORDS: Final = 1_000
POLL: Final = timedelta(milliseconds=100)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A record that a function could not process, and the error of its last attempt."""

    id: str
    """`shardId-…:sequence_number` of the record's origin.

    With `@stream` where two are alike, and with `@time` as well where the stream is another by now.
    """
    data: bytes
    partition_key: str | None
    headers: dict[str, bytes]
    """The record's own."""
    stream: str
    shard_id: str
    sequence_number: int
    """These three: where the record was first put."""
    put_at: datetime
    """When it was."""
    round: int
    """How often it was redriven before."""
    function: str
    condition: str
    """`RetryAttemptsExhausted`, `RecordAgeExceeded` or `Rejected`."""
    error_type: str
    error_message: str
    traceback: str
    attempts: int
    """Calls of this record that failed, all rounds together."""
    first_failed: datetime
    last_failed: datetime
    function_version: str
    status: Status
    window: tuple[datetime, datetime] | None = None
    """Start and end of a window whose final call was given up; `data` is its state then."""
    replay: str | None = None
    """Name of the replay that the window is one of; None: it is one of the function's own."""


class DeadLetters:
    """View of one mapping's dead letters; empty while nothing has failed."""

    def __init__(self, log: Log, mapping_name: str, *, clock: Clock | None = None) -> None:
        """Look at the dead letters of `<app>.<function>` in an open log."""
        self._log: _core.Log = log.core
        self._mapping_name = mapping_name
        self._clock = clock or SystemClock()
        self._letters: dict[Place, DeadLetter] = {}
        self._parts: dict[Delivery, dict[int, bytes]] = {}
        """Of dead letters that were not read to their end."""
        self._readers: list[ShardReader] = []

    def entries(self, status: Status | None = "open") -> list[DeadLetter]:
        """Return those of a status, or all with None, in the order in which they first failed."""
        self._refresh()
        return [each for each in self._told_apart() if status in {None, each.status}]

    def get(self, id: str) -> DeadLetter:
        """Return one, of any status.

        Raises:
            KeyError: There is none of that id.
        """
        for each in self.entries(None):
            if id in {each.id, f"{each.id}@{each.stream}"}:
                return each
        raise KeyError(id)

    def redrive(self, ids: Collection[str] | None = None) -> int:
        """Queue open dead letters to be tried again, and return how many.

        Copies go to the redrive stream, which the function alone reads under its own policy; a
        running worker, or the next one, calls it with them. What is not open is left alone.

        Args:
            ids: Which; None: all that are open.

        The state of a window stays: there is no record to call the function with.

        Raises:
            KeyError: An id that does not exist; nothing was queued.
        """
        chosen = [each for each in self._chosen(ids) if each.window is None]
        if not chosen:
            return 0
        name = f"{self._mapping_name}.redrive"
        stream = self._log.create_stream(name, exist_ok=True, internal=True)
        put_all(stream, [self._copy(each) for each in chosen])
        # WHY: after the copies. A crash in between leaves letters open that were copied: they can
        # be queued twice, never be lost.
        self._mark(chosen, "queued")
        return len(chosen)

    def drop(self, ids: Collection[str] | None = None) -> int:
        """Give open dead letters up for good, and return how many; their data stays in the stream.

        Args:
            ids: Which; None: all that are open.

        Raises:
            KeyError: An id that does not exist; nothing was dropped.
        """
        chosen = self._chosen(ids)
        if chosen:
            self._mark(chosen, "dropped")
        return len(chosen)

    def wait(self, timeout: timedelta | None = None) -> bool:
        """Wait until no dead letter is queued, and return whether that is so.

        Needs a worker that runs the function.

        Args:
            timeout: The longest wait; None: no limit.
        """
        end = None if timeout is None else self._clock.monotonic() + timeout.total_seconds()
        while self.entries("queued"):
            if end is not None and self._clock.monotonic() >= end:
                return False
            for reader in self._readers:
                self._fold(reader.poll(READ_RECORDS, wait=POLL.total_seconds()))
        return True

    def _told_apart(self) -> list[DeadLetter]:
        """Return all letters, with ids that are as long as it takes to be each of one of them."""
        found = list(self._letters.values())
        for longer in (_with_stream, _with_time):
            doubles = Counter(each.id for each in found)
            found = [
                replace(each, id=longer(each)) if doubles[each.id] > 1 else each for each in found
            ]
        return found

    def _chosen(self, ids: Collection[str] | None) -> list[DeadLetter]:
        letters = self.entries("open") if ids is None else [self.get(each) for each in ids]
        return [each for each in letters if each.status == "open"]

    def _copy(self, letter: DeadLetter) -> Put:
        headers = letters_of.redriven(letter.function, self._origin(letter), letter.headers)
        return letter.data, letter.partition_key, headers

    def _mark(self, chosen: Sequence[DeadLetter], kind: Kind) -> None:
        now_us = to_microseconds(self._clock.now())
        markers: list[Put] = [
            (b"", None, letters_of.marker(kind, each.function, self._origin(each), now_us))
            for each in chosen
        ]
        put_all(self._log.stream(f"{self._mapping_name}.dlq"), markers)

    def _origin(self, letter: DeadLetter) -> Origin:
        return Origin(
            letter.stream,
            letter.shard_id,
            letter.sequence_number,
            to_microseconds(letter.put_at),
            letter.round,
            letter.attempts,
            to_microseconds(letter.first_failed),
            None if letter.window is None else _bounds(letter.window),
            letter.replay,
        )

    def _refresh(self) -> None:
        """Read what was appended since the last time."""
        if not self._readers:
            try:
                stream = self._log.stream(f"{self._mapping_name}.dlq")
            except StreamNotFound:
                return
            self._readers = [stream.reader(shard.shard_id) for shard in stream.shards()]
        for reader in self._readers:
            while records := reader.poll(READ_RECORDS):
                self._fold(records)

    def _fold(self, records: Iterable[Record]) -> None:
        for record in records:
            header = letters_of.read(record)
            if header is not None:
                self._apply(record, header)

    def _apply(self, record: Record, header: dict[str, Any]) -> None:
        origin = Origin.read(header)
        is_window = origin.window is not None
        number, time_us = origin.sequence_number, origin.timestamp_us
        place = (origin.stream, origin.shard_id, number, time_us, is_window, origin.replay)
        known = self._letters.get(place)
        if header["kind"] == "failed":
            data = self._whole((place, origin.round, header["last_failed_us"]), record, header)
            if data is None:
                return
            # WHY: queued, and failed again in the same round: written twice by a crash. Its copy
            # is on its way all the same.
            if known is None or known.status != "queued" or origin.round > known.round:
                self._letters[place] = _read_letter(record, data, header, origin)
        elif known is not None and _follows(header, known):
            self._letters[place] = replace(known, status=header["kind"])

    def _whole(self, of: Delivery, record: Record, header: dict[str, Any]) -> bytes | None:
        """Return the data of a dead letter; None while parts of it are missing."""
        if "part" not in header:
            return record.data
        number, count = header["part"]
        parts = self._parts.setdefault(of, {})
        parts[number] = record.data
        if len(parts) < count:
            return None
        del self._parts[of]
        return b"".join(data for _, data in sorted(parts.items()))


def _with_stream(letter: DeadLetter) -> str:
    return f"{letter.id}@{letter.stream}"


def _with_time(letter: DeadLetter) -> str:
    return f"{letter.id}@{letter.put_at:%Y-%m-%dT%H:%M:%S.%fZ}"


def _follows(header: dict[str, Any], known: DeadLetter) -> bool:
    """Whether a marker is about the dead letter as it is now, not about an earlier round."""
    if header["kind"] == "resolved":
        # WHY: a quick worker can be done with a copy before its letter is marked as queued.
        return known.status in {"open", "queued"} and int(header["round"]) > known.round
    return known.status == "open" and int(header["round"]) == known.round


def _read_letter(record: Record, data: bytes, header: dict[str, Any], origin: Origin) -> DeadLetter:
    window = None
    if origin.window is not None:
        window = from_microseconds(origin.window[0]), from_microseconds(origin.window[1])
    return DeadLetter(
        id=_id(origin),
        data=data,
        partition_key=record.partition_key,
        headers={name: v for name, v in record.headers.items() if name != DEAD_LETTER_HEADER},
        stream=origin.stream,
        shard_id=origin.shard_id,
        sequence_number=origin.sequence_number,
        put_at=from_microseconds(origin.timestamp_us),
        round=origin.round,
        function=header["function"],
        condition=header["condition"],
        error_type=header["error_type"],
        error_message=header["error_message"],
        traceback=header["traceback"],
        attempts=header["attempts"],
        first_failed=from_microseconds(header["first_failed_us"]),
        last_failed=from_microseconds(header["last_failed_us"]),
        function_version=header["function_version"],
        status="open",
        window=window,
        replay=origin.replay,
    )


def _id(origin: Origin) -> str:
    place = f"{origin.shard_id}:{origin.sequence_number}"
    if origin.window is None:
        return place
    replay = f"@{origin.replay.rpartition('@')[2]}" if origin.replay else ""
    return f"{place}:window{replay}"


def _bounds(window: tuple[datetime, datetime]) -> tuple[int, int]:
    return to_microseconds(window[0]), to_microseconds(window[1])
