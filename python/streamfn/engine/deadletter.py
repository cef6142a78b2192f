"""The dead letters of a mapping, read from its dead-letter stream, and their redrive.

The stream is append-only. A dead letter has kind `failed`; later markers with the same origin
change its status. A letter that was written twice, after a crash between letter and checkpoint, is
shown once.

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
"""Stream, shard id, sequence number and time of a record's origin, whether it is a window, and its
replay. A window's origin is the place where it was closed.

WHY the time: a stream that was removed and created again issues the same numbers again.
"""
Delivery = tuple[Place, int, int]
"""Place, round and time of a dead letter: they identify the parts of one letter."""

READ_RECORDS: Final = 1_000
POLL: Final = timedelta(milliseconds=100)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A record that a function could not process, and the error of its last attempt."""

    id: str
    """`shardId-…:sequence_number` of the record's origin.

    If two ids would be equal, `@stream` is appended. If the stream was removed and created again
    since, `@time` is appended too.
    """
    data: bytes
    partition_key: str | None
    headers: dict[str, bytes]
    """The headers of the record."""
    stream: str
    shard_id: str
    sequence_number: int
    """Stream, shard id and sequence number at which the record was first put."""
    put_at: datetime
    """When the record was first put."""
    round: int
    """Number of earlier redrives."""
    function: str
    condition: str
    """`RetryAttemptsExhausted`, `RecordAgeExceeded` or `Rejected`."""
    error_type: str
    error_message: str
    traceback: str
    attempts: int
    """Failed calls of this record, in all rounds."""
    first_failed: datetime
    last_failed: datetime
    function_version: str
    """Changes with the code of the function itself."""
    code_version: str
    """The code of the app, all its files, in the process that gave the record up."""
    status: Status
    window: tuple[datetime, datetime] | None = None
    """Start and end of a window whose final call was given up; then `data` is its state."""
    replay: str | None = None
    """Name of the replay that the window belongs to; None: it belongs to the function itself."""


class DeadLetters:
    """View of one mapping's dead letters; empty while no record has failed."""

    def __init__(self, log: Log, mapping_name: str, *, clock: Clock | None = None) -> None:
        """Open the view for `<app>.<function>` in an open log."""
        self._log: _core.Log = log.core
        self._mapping_name = mapping_name
        self._clock = clock or SystemClock()
        self._letters: dict[Place, DeadLetter] = {}
        self._parts: dict[Delivery, dict[int, bytes]] = {}
        """Parts of dead letters that are not complete yet."""
        self._readers: list[ShardReader] = []

    def entries(self, status: Status | None = "open") -> list[DeadLetter]:
        """Return the letters with a status, or all with None, in order of their first failure."""
        self._refresh()
        return [each for each in self._told_apart() if status in {None, each.status}]

    def get(self, id: str) -> DeadLetter:
        """Return one letter, of any status.

        Raises:
            KeyError: There is no letter with that id.
        """
        for each in self.entries(None):
            if id in {each.id, f"{each.id}@{each.stream}"}:
                return each
        raise KeyError(id)

    def redrive(self, ids: Collection[str] | None = None) -> int:
        """Queue open dead letters for a retry, and return how many.

        Copies of the records go to the redrive stream, which only this function reads, with its own
        policy. A running worker, or the next one, calls the function with them. Letters that are
        not open are left alone. So are the states of windows: they have no record to retry.

        Args:
            ids: Ids of the letters; None: all open letters.

        Raises:
            KeyError: An id does not exist; nothing was queued.
        """
        chosen = [each for each in self._chosen(ids) if each.window is None]
        if not chosen:
            return 0
        name = f"{self._mapping_name}.redrive"
        stream = self._log.create_stream(name, exist_ok=True, internal=True)
        put_all(stream, [self._copy(each) for each in chosen])
        # WHY after the copies: a crash in between leaves copied letters open. They can be queued
        # twice, but are never lost.
        self._mark(chosen, "queued")
        return len(chosen)

    def drop(self, ids: Collection[str] | None = None) -> int:
        """Mark open dead letters as dropped, and return how many; their data stays in the stream.

        Args:
            ids: Ids of the letters; None: all open letters.

        Raises:
            KeyError: An id does not exist; nothing was dropped.
        """
        chosen = self._chosen(ids)
        if chosen:
            self._mark(chosen, "dropped")
        return len(chosen)

    def wait(self, timeout: timedelta | None = None) -> bool:
        """Wait until no dead letter is queued; return False if the timeout ends first.

        A worker must be running the function.

        Args:
            timeout: Longest wait; None: no limit.
        """
        end = None if timeout is None else self._clock.monotonic() + timeout.total_seconds()
        while self.entries("queued"):
            if end is not None and self._clock.monotonic() >= end:
                return False
            for reader in self._readers:
                self._fold(reader.poll(READ_RECORDS, wait=POLL.total_seconds()))
        return True

    def _told_apart(self) -> list[DeadLetter]:
        """Return all letters, with the shortest ids that are unique."""
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
        """Read the records that were appended since the last call of this method."""
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
            # WHY: a queued letter that failed again in the same round was written twice, after a
            # crash. It stays queued, because its copy is in the redrive stream.
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
    """Whether a marker is about the current round of the dead letter."""
    if header["kind"] == "resolved":
        # WHY open too: a worker can process a copy before its letter is marked as queued.
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
        code_version=header["code_version"],
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
