"""Where given-up records go, and what a call sends on: durably, before the checkpoint moves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from streamfn._core import RECORD_BYTES_MAX, Log, Record, Stream
from streamfn.clock import Clock
from streamfn.error_text import TRACEBACK_BYTES_MAX
from streamfn.errors import RecordTooLarge, StreamNotFound
from streamfn.model.mapping import EventSourceMapping
from streamfn.units import to_microseconds

from . import letter as letters_of
from .letter import Origin
from .output import Output, by_stream
from .settle import DiscardedRecord

PUT_BYTES: Final = 8 * 2**20
"""Dead letters are put in portions of about so much."""

Put = tuple[bytes, str | None, dict[str, bytes]]
"""Data, partition key and headers of one record to be put."""


class FailureDestination:
    """The `on_failure` of one mapping: its dead-letter stream, another stream, or nowhere."""

    def __init__(self, log: Log, mapping: EventSourceMapping, clock: Clock) -> None:
        self._log, self._mapping, self._clock = log, mapping, clock
        self._streams: dict[str, Stream] = {}

    def is_redriven(self, record: Record) -> bool:
        """Whether the record comes from the mapping's redrive stream."""
        return record.stream == self._mapping.redrive_stream

    def deliver(self, letters: Sequence[DiscardedRecord]) -> list[str | None]:
        """Append the letters that are not dropped; they are durable when it returns.

        Returns:
            The stream that each letter is in now; None: it was dropped.

        Raises:
            StreamfnError: The destination cannot take them now. Doing it again is safe.
        """
        places: list[str | None] = [None] * len(letters)
        wanted = [self._stream_for(letter) for letter in letters]
        for name in dict.fromkeys(filter(None, wanted)):
            own = [place for place, stream in enumerate(wanted) if stream == name]
            found = self._bring([letters[place] for place in own], name)
            for place, stream in zip(own, found, strict=True):
                places[place] = stream
        return places

    def resolve(self, records: Sequence[Record]) -> None:
        """Say in the dead-letter stream that these redriven records succeeded.

        Raises:
            StreamfnError: As `deliver`.
        """
        now_us = to_microseconds(self._clock.now())
        function = self._mapping.name
        origins = [Origin.of(record, self._mapping) for record in records]
        markers: list[Put] = [
            (b"", None, letters_of.marker("resolved", function, origin, now_us))
            for origin in origins
        ]
        self._put(self._mapping.dlq_stream, markers)

    def send_on(self, outputs: Sequence[Output]) -> None:
        """Append what successful calls send on; durable when it returns.

        Raises:
            StreamfnError: As `deliver`.
        """
        for name, own in by_stream(outputs):
            self._put(name, [(each.data, each.partition_key, {}) for each in own])

    def _stream_for(self, letter: DiscardedRecord) -> str | None:
        """Return the stream that a letter is meant for; None: it is to be dropped.

        What came out of the dead-letter stream goes back there, whatever `on_failure` says now:
        otherwise it would stay "queued" for ever.
        """
        if self.is_redriven(letter.record):
            return self._mapping.dlq_stream
        return self._mapping.failure_stream

    def _bring(self, letters: Sequence[DiscardedRecord], name: str) -> list[str]:
        """Append letters to a stream, in portions; return where each of them found room."""
        places: list[str] = []
        # WHY not a list: each has a copy of the traceback, and there may be thousands.
        puts = (self._dead_letter(each, TRACEBACK_BYTES_MAX) for each in letters)
        for portion in portions(puts):
            try:
                self._put(name, portion)
                places += [name] * len(portion)
            except RecordTooLarge:  # nothing of the portion was written
                own = letters[len(places) : len(places) + len(portion)]
                places += [self._bring_alone(letter, name) for letter in own]
        return places

    def _bring_alone(self, letter: DiscardedRecord, name: str) -> str:
        """Append a letter without its traceback, or to the function's own dead letters.

        WHY: a stream of the user's has the usual limits, which the record may reach by itself. The
        dead letters have room for any record and all that is said of it; the state of a window can
        be larger than that, and is put in parts, which `DeadLetters` joins.
        """
        try:
            self._put(name, [self._dead_letter(letter, 0)])
        except RecordTooLarge:
            name = self._mapping.dlq_stream
            self._put(name, self._in_parts(letter))
        return name

    def _in_parts(self, letter: DiscardedRecord) -> list[Put]:
        data, key, headers = self._dead_letter(letter, TRACEBACK_BYTES_MAX)
        starts = range(0, len(data), RECORD_BYTES_MAX)
        if len(starts) <= 1:
            return [(data, key, headers)]
        return [
            (
                data[start : start + RECORD_BYTES_MAX],
                key,
                letters_of.as_part(headers, n, len(starts)),
            )
            for n, start in enumerate(starts)
        ]

    def _dead_letter(self, letter: DiscardedRecord, traceback_bytes: int) -> Put:
        now_us = to_microseconds(self._clock.now())
        headers = letters_of.failed(letter, self._mapping, now_us, traceback_bytes)
        return letter.record.data, letter.record.partition_key, headers

    def _put(self, name: str, records: Sequence[Put]) -> None:
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = self._open(name)
        try:
            put_all(stream, records)
        except StreamNotFound:  # somebody removed it: then it is made as for the first record
            stream = self._streams[name] = self._open(name)
            put_all(stream, records)

    def _open(self, name: str) -> Stream:
        try:
            return self._log.stream(name)
        except StreamNotFound:
            return self._log.create_stream(name, exist_ok=True, internal="." in name)


def put_all(stream: Stream, records: Sequence[Put]) -> None:
    """Append records in order, in portions that fit memory."""
    for portion in portions(records):
        data, keys, headers = zip(*portion, strict=True)
        stream.put_many(data, keys, headers)


def portions(records: Iterable[Put]) -> Iterator[list[Put]]:
    """Return the records in order, in lists of about `PUT_BYTES`; no more are taken than that."""
    portion: list[Put] = []
    size = 0
    for put in records:
        portion.append(put)
        size += len(put[0]) + sum(map(len, put[2].values()))
        if size >= PUT_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion
