"""Appends dead letters and outputs, durably, before the checkpoint moves."""

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
"""Approximate size of the portions in which dead letters are put."""

Put = tuple[bytes, str | None, dict[str, bytes]]
"""Data, partition key and headers of one record to put."""


class FailureDestination:
    """The `on_failure` of one mapping: its dead-letter stream, another stream, or nowhere."""

    def __init__(
        self, log: Log, mapping: EventSourceMapping, clock: Clock, code_version: str = ""
    ) -> None:
        self._code_version = code_version
        self._log, self._mapping, self._clock = log, mapping, clock
        self._streams: dict[str, Stream] = {}

    def is_redriven(self, record: Record) -> bool:
        """Whether the record comes from the mapping's redrive stream."""
        return record.stream == self._mapping.redrive_stream

    def deliver(self, letters: Sequence[DiscardedRecord]) -> list[str | None]:
        """Append the letters that are not dropped; they are durable when this returns.

        Returns:
            The stream that each letter was appended to; None: the letter was dropped.

        Raises:
            StreamfnError: The destination cannot take them now. Calling this again is safe.
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
        """Mark the dead letters of these redriven records as resolved.

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
        """Append the outputs of successful calls; they are durable when this returns.

        Raises:
            StreamfnError: As `deliver`.
        """
        for name, own in by_stream(outputs):
            self._put(name, [(each.data, each.partition_key, {}) for each in own])

    def _stream_for(self, letter: DiscardedRecord) -> str | None:
        """Return the stream for a letter; None: the letter is dropped.

        A redriven record goes back to the dead-letter stream, whatever `on_failure` is now.
        Otherwise it would stay `queued` forever.
        """
        if self.is_redriven(letter.record):
            return self._mapping.dlq_stream
        return self._mapping.failure_stream

    def _bring(self, letters: Sequence[DiscardedRecord], name: str) -> list[str]:
        """Append letters to a stream, in portions; return the stream that took each of them."""
        places: list[str] = []
        # WHY a generator: each letter has a copy of the traceback, and there may be thousands.
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
        """Append a letter without its traceback, or to the function's own dead-letter stream.

        WHY: the user's streams have the usual limits, and a record may reach them without a header.
        The dead-letter stream has room for any record with its header. The state of a window may
        be larger still; it is put in parts, which `DeadLetters` joins.
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
        headers = letters_of.failed(
            letter, self._mapping, now_us, traceback_bytes, self._code_version
        )
        return letter.record.data, letter.record.partition_key, headers

    def _put(self, name: str, records: Sequence[Put]) -> None:
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = self._open(name)
        try:
            put_all(stream, records)
        except StreamNotFound:  # the stream was removed: create it again
            stream = self._streams[name] = self._open(name)
            put_all(stream, records)

    def _open(self, name: str) -> Stream:
        try:
            return self._log.stream(name)
        except StreamNotFound:
            return self._log.create_stream(name, exist_ok=True, internal="." in name)


def put_all(stream: Stream, records: Sequence[Put]) -> None:
    """Append records in order, in portions of limited size."""
    for portion in portions(records):
        data, keys, headers = zip(*portion, strict=True)
        stream.put_many(data, keys, headers)


def portions(records: Iterable[Put]) -> Iterator[list[Put]]:
    """Yield the records in order, in lists of about `PUT_BYTES`, reading no further ahead."""
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
