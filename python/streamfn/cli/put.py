"""`streamfn put`: lines become records."""

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

from .console import progress_bar, voice
from .entries import READERS, Entries, Entry, with_rest
from .exits import CommandError, Exit
from .lines import CHUNK_BYTES, STDIN, Lines, opened
from .params import StreamName, file_size, log_dir_option, voice_options

RECORDS_A_CALL = 10_000


@click.command("put")
@click.argument("stream", type=StreamName())
@click.argument("file", default=STDIN, metavar="[FILE|-]")
@click.option("--key", metavar="FIELD", help="Field of each record that is its partition key.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["ndjson", "lines", "csv"]),
    default="ndjson",
    show_default=True,
    help="What a line is; a CSV row becomes a JSON object.",
)
@click.option("--shards", type=click.IntRange(1), metavar="N", help="Of a new stream (1).")
@click.option(
    "--durability",
    type=click.Choice(["group", "process"]),
    help="Of a new stream: what is put survives power loss (group) or the kill of any process.",
)
@log_dir_option
@voice_options
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
    """Put the lines of FILE, or of standard input, into STREAM; a new stream is created.

    FILE may be compressed (.gz, .zst). The first line that cannot be put ends the command; the
    lines before it are in.
    """
    if key is not None and kind == "lines":
        raise click.UsageError("plain lines have no fields: drop --key, or use ndjson or csv")
    if file == STDIN and sys.stdin.isatty():
        voice.note("reading from the terminal, one record a line; Ctrl-D ends")
    level = cast("Durability | None", durability)
    with ExitStack() as stack:
        # What is wrong with the log is told before the input is waited for.
        target = Target(stack, log_dir, stream, shards=shards, durability=level)
        lines, raw = stack.enter_context(opened(file))
        bar = progress_bar(f"put {stream}", file_size(file))
        with bar as show:
            put = Putting(target, lines, lambda: show(raw.tell()) if file != STDIN else None)
            put.all(READERS[kind](lines, key))


class Target:
    """The stream that is put into. One that is not there is made, with its log, by `stream`.

    WHY not at once: if the first line cannot be put, nothing is to be left behind.
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
        """Look for the stream, and refuse what does not fit it; `stack` closes the log."""
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
    def is_there(self) -> bool:
        """Whether the stream is there."""
        return self._stream is not None

    def stream(self) -> Stream:
        """Return the stream; create it, and say so, if it is not there."""
        if self._stream is None:
            if self._log is None:
                self._log = self._stack.enter_context(Log.open(self._log_dir))
            # WHY: `exist_ok`, as somebody else may be creating it at this moment.
            made = self._log.create_stream(
                self.name, shards=self._shards or 1, durability=self._durability, exist_ok=True
            )
            count = format_count(len(made.core.shards()), "shard")
            level = made.core.durability
            voice.note(f"created stream `{self.name}` with {count}, durability {level}")
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
                message = f"`{self.name}` is there already, with {option} {found} and not {wanted}"
                raise CommandError(message, f"leave {option} out", Exit.CONFIG)


@dataclass(slots=True)
class Putting:
    """Collects records and puts them, many in one call."""

    target: Target
    lines: Lines
    show: Callable[[], object]
    count: int = 0
    _waiting: list[Entry] = field(default_factory=list)
    _bytes: int = 0

    def all(self, entries: Entries) -> None:
        """Put every entry; on any error, those before it are in."""
        began = time.monotonic()
        try:
            try:
                for entry in entries:
                    self._collect(entry)
            finally:
                self._flush()
            self.target.stream()  # one without a record is made, too
        finally:
            took = time.monotonic() - began
            if self.target.is_there:
                voice.note(f"put {format_count(self.count, 'record')} into `{self.target.name}`")
                voice.detail(f"in {took:.2f} s, {self.count / max(took, 1e-6):,.0f} records/s")

    def _collect(self, entry: Entry | None) -> None:
        if entry is not None:
            self._waiting.append(entry)
            self._bytes += len(entry.data)
        full = self._bytes >= CHUNK_BYTES or len(self._waiting) >= RECORDS_A_CALL
        if full or self.lines.is_dry:
            self._flush()

    def _flush(self) -> None:
        entries, self._waiting, self._bytes = self._waiting, [], 0
        if not entries:
            return
        try:
            self._put(entries)
        except RecordTooLarge as error:
            # WHY: the core refused the whole call; what stands before the guilty line goes in.
            self._put(entries[: error.index])
            line = entries[error.index].line
            what = f"{error.size:,} {error.what}, the limit is {error.limit:,}"
            message = f"line {line} of {self.lines.name} is too large: {what}"
            raise CommandError(with_rest(message, line), error.hint) from None
        self.show()

    def _put(self, entries: list[Entry]) -> None:
        if entries:
            if not self.target.is_there:
                _check_size(entries[0])
            keys = [entry.key for entry in entries]
            data = [entry.data for entry in entries]
            self.target.stream().put_many(data, None if not any(keys) else keys)
            self.count += len(entries)


def _check_size(entry: Entry) -> None:
    """Refuse what the core will refuse, before a stream is made for it.

    Raises:
        RecordTooLarge: It is over a limit.
    """
    for size, limit, what in (
        (len(entry.data) + len((entry.key or "").encode()), _core.RECORD_BYTES_MAX, "record bytes"),
        (len(entry.key or ""), _core.PARTITION_KEY_CHARS_MAX, "partition key characters"),
    ):
        if size > limit:
            raise RecordTooLarge(size, limit, what, 0)
