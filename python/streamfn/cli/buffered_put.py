"""Puts records in large calls, and knows at each moment which lines of the input were put."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from streamfn import _core
from streamfn.errors import RecordTooLarge, StreamfnError
from streamfn.log import Stream
from streamfn.units import format_count

from .console import output
from .exits import CommandError
from .input_formats import BadLine, InputRecord, InputRecords, with_earlier_lines
from .lines import CHUNK_BYTES, Lines

RECORDS_A_CALL: Final = 10_000
BAD_LINES_TOLD: Final = 20
"""Bad lines that are told one by one; later ones are only counted, unless `-v` is set."""


class Target(Protocol):
    """The stream that records are put into."""

    name: str

    @property
    def exists(self) -> bool:
        """Whether the stream exists."""
        ...

    def stream(self) -> Stream:
        """Return the stream; create it if it does not exist."""
        ...


@dataclass(slots=True)
class BufferedPut:
    """Collects records and puts many in one call."""

    target: Target
    lines: Lines
    show: Callable[[], object]
    skips_bad: bool = False
    """Whether bad lines are skipped; otherwise the first one is an error."""
    count: int = 0
    """Records put."""
    bad: int = 0
    """Bad lines skipped."""
    _waiting: list[InputRecord] = field(default_factory=list)
    _bytes: int = 0
    _put_until: int = 0
    """All lines up to this number were put, or skipped."""

    def put_all(self, records: InputRecords) -> None:
        """Put all records; on an error, those before the wrong one were put."""
        began = time.monotonic()
        try:
            try:
                for record in records:
                    self._collect(record)
            finally:
                self._flush()
            self.target.stream()  # created also if there is no record
        finally:
            took = time.monotonic() - began
            if self.target.exists:
                output.note(f"put {format_count(self.count, 'record')} into `{self.target.name}`")
                output.detail(f"in {took:.2f} s, {self.count / max(took, 1e-6):,.0f} records/s")
            if self.bad:
                output.note(f"skipped {format_count(self.bad, 'bad line')} of {self.lines.name}")

    def skip(self, bad: BadLine) -> None:
        """Count a bad line and tell it, if lines may be skipped.

        Raises:
            CommandError: They may not.
        """
        if not self.skips_bad:
            go_on = [] if bad.first == 1 else [f"go on there with --from-line {bad.first}"]
            hints = [bad.hint, *go_on, "skip such lines with --skip-bad"]
            hint = "; ".join(each for each in hints if each)
            raise CommandError(with_earlier_lines(bad.message, bad.first), hint)
        self.bad += 1
        tell = output.note if self.bad <= BAD_LINES_TOLD else output.detail
        tell(f"skipped: {bad.message}")
        if self.bad == BAD_LINES_TOLD:
            output.note("further bad lines are only counted (hint: -v prints all)")

    def _collect(self, record: InputRecord | BadLine | None) -> None:
        if isinstance(record, InputRecord):
            self._waiting.append(record)
            self._bytes += len(record.data)
        elif record is not None:
            self.skip(record)
        full = self._bytes >= CHUNK_BYTES or len(self._waiting) >= RECORDS_A_CALL
        if full or self.lines.next_may_block:
            self._flush()

    def _flush(self) -> None:
        records, self._waiting, self._bytes = self._waiting, [], 0
        if not records:
            return
        while records:
            try:
                self._put(records)
                break
            except RecordTooLarge as error:
                # WHY: the core refused the whole call; the lines before the one too large are put.
                self._put(records[: error.index])
                self.skip(self._too_large(records[error.index], error))
                records = records[error.index + 1 :]
        self.show()

    def _too_large(self, record: InputRecord, error: RecordTooLarge) -> BadLine:
        what = f"{error.size:,} {error.what}, the limit is {error.limit:,}"
        message = f"line {record.line} of {self.lines.name} is too large: {what}"
        return BadLine(record.line, message, error.hint)

    def _put(self, records: list[InputRecord]) -> None:
        if not records:
            return
        if not self.target.exists:
            _check_size(records[0])
        keys = [record.key for record in records]
        data = [record.data for record in records]
        stream = self.target.stream()
        try:
            stream.put_many(data, None if not any(keys) else keys)
        except RecordTooLarge:
            raise
        except (StreamfnError, OSError, KeyboardInterrupt):
            self._tell_doubt(records)
            raise
        self.count += len(records)
        self._put_until = records[-1].line

    def _tell_doubt(self, records: list[InputRecord]) -> None:
        """Say where to go on after a call whose outcome is not known for each of its records."""
        first, last = self._put_until + 1, records[-1].line
        some = f"some of the lines {first} to {last} may be in the stream"
        if len(records) == 1:
            some = f"line {last} may be in the stream"
        output.note(
            f"the lines before {first} were put, {some}: "
            f"--from-line {first} goes on there and may put these twice"
        )


def _check_size(record: InputRecord) -> None:
    """Apply the limits of the core to a record before a stream is created for it.

    Raises:
        RecordTooLarge: The record is over a limit.
    """
    for size, limit, what in (
        (
            len(record.data) + len((record.key or "").encode()),
            _core.RECORD_BYTES_MAX,
            "record bytes",
        ),
        (len(record.key or ""), _core.PARTITION_KEY_CHARS_MAX, "partition key characters"),
    ):
        if size > limit:
            raise RecordTooLarge(size, limit, what, 0)
