"""`streamfn put`: puts the lines of a file into a stream, as records."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import click

from streamfn import _core
from streamfn.errors import RecordTooLarge, StreamNotFound
from streamfn.log import Log, Stream
from streamfn.model.stream import Durability
from streamfn.units import format_count

from .console import output, progress_bar
from .exits import CommandError, Exit
from .input_formats import FORMATS, InputRecord, InputRecords, with_earlier_lines
from .lines import CHUNK_BYTES, STDIN, Lines, open_lines
from .params import StreamName, file_size, log_dir_option, output_options

RECORDS_A_CALL = 10_000


@click.command("put")
@click.argument("stream", type=StreamName())
@click.argument("file", default=STDIN, metavar="[FILE|-]")
@click.option("--key", metavar="FIELD", help="Field of each record that becomes its partition key.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["ndjson", "lines", "csv"]),
    default="ndjson",
    show_default=True,
    help="Format of the input; a CSV row becomes a JSON object.",
)
@click.option(
    "--shards",
    type=click.IntRange(1),
    metavar="N",
    help="Number of shards of a new STREAM [default: 1].",
)
@click.option(
    "--durability",
    type=click.Choice(["group", "process"]),
    help="Of a new STREAM: records survive power loss (group), or kills of processes (process)"
    " [default: group].",
)
@log_dir_option
@output_options
def command(
    *,
    stream: str,
    file: str,
    key: str | None,
    kind: str,
    shards: int | None,
    durability: str | None,
    log_dir: str,
) -> None:
    """Put the lines of FILE or of standard input into STREAM.

    STREAM is created if it does not exist. FILE may be compressed (.gz, .zst). The command stops at
    the first line that cannot be put; the lines before it were put.
    """
    if key is not None and kind == "lines":
        raise click.UsageError("--key needs --format ndjson or csv: plain lines have no fields")
    if file == STDIN and sys.stdin.isatty():
        output.note("reading records from the terminal, one per line; Ctrl-D ends the input")
    level = cast("Durability | None", durability)
    with ExitStack() as stack:
        # WHY first: an error of the log is reported before the command waits for input.
        target = TargetStream(stack, log_dir, stream, shards=shards, durability=level)
        lines, raw = stack.enter_context(open_lines(file))
        bar = progress_bar(f"put {stream}", file_size(file))
        with bar as show:
            put = BufferedPut(target, lines, lambda: show(raw.tell()) if file != STDIN else None)
            put.put_all(FORMATS[kind](lines, key))


class TargetStream:
    """The stream that records are put into; `stream` creates a missing one, with its log.

    WHY not at once: if the first line cannot be put, no new stream or log must remain.
    """

    def __init__(
        self,
        stack: ExitStack,
        log_dir: str,
        name: str,
        *,
        shards: int | None,
        durability: Durability | None,
    ) -> None:
        """Look for the stream and check the options against it; `stack` closes the log."""
        self.name = name
        self._stack, self._log_dir = stack, log_dir
        self._shards, self._durability = shards, durability
        self._stream: Stream | None = None
        self._log: Log | None = None
        place = Path(log_dir)
        if place.exists() and not (place.is_dir() and not any(place.iterdir())):
            self._log = stack.enter_context(Log.open(log_dir))
            self._stream = self._found(self._log)

    @property
    def exists(self) -> bool:
        """Whether the stream exists."""
        return self._stream is not None

    def stream(self) -> Stream:
        """Return the stream; create it, with a message, if it does not exist."""
        if self._stream is None:
            if self._log is None:
                self._log = self._stack.enter_context(Log.open(self._log_dir))
            # WHY `exist_ok`: another process may create it at this moment.
            made = self._log.create_stream(
                self.name, shards=self._shards or 1, durability=self._durability, exist_ok=True
            )
            count = format_count(len(made.core.shards()), "shard")
            level = made.core.durability
            output.note(f"created stream `{self.name}` with {count}, durability {level}")
            self._check(made)
            self._stream = made
        return self._stream

    def _found(self, log: Log) -> Stream | None:
        try:
            found = log.stream(self.name)
        except StreamNotFound:
            return None
        self._check(found)
        return found

    def _check(self, stream: Stream) -> None:
        there = len([shard for shard in stream.core.shards() if shard.is_open])
        for option, wanted, found in (
            ("--shards", self._shards, there),
            ("--durability", self._durability, stream.core.durability),
        ):
            if wanted is not None and wanted != found:
                message = f"`{self.name}` exists already, with {option} {found} and not {wanted}"
                raise CommandError(message, f"omit {option}", Exit.CONFIG)


@dataclass(slots=True)
class BufferedPut:
    """Collects records and puts many in one call."""

    target: TargetStream
    lines: Lines
    show: Callable[[], object]
    count: int = 0
    _waiting: list[InputRecord] = field(default_factory=list)
    _bytes: int = 0

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

    def _collect(self, record: InputRecord | None) -> None:
        if record is not None:
            self._waiting.append(record)
            self._bytes += len(record.data)
        full = self._bytes >= CHUNK_BYTES or len(self._waiting) >= RECORDS_A_CALL
        if full or self.lines.next_may_block:
            self._flush()

    def _flush(self) -> None:
        records, self._waiting, self._bytes = self._waiting, [], 0
        if not records:
            return
        try:
            self._put(records)
        except RecordTooLarge as error:
            # WHY: the core refused the whole call; the lines before the one too large are put.
            self._put(records[: error.index])
            line = records[error.index].line
            what = f"{error.size:,} {error.what}, the limit is {error.limit:,}"
            message = f"line {line} of {self.lines.name} is too large: {what}"
            raise CommandError(with_earlier_lines(message, line), error.hint) from None
        self.show()

    def _put(self, records: list[InputRecord]) -> None:
        if records:
            if not self.target.exists:
                _check_size(records[0])
            keys = [record.key for record in records]
            data = [record.data for record in records]
            self.target.stream().put_many(data, None if not any(keys) else keys)
            self.count += len(records)


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
