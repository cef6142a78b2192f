"""`streamfn put`: lines become records."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import click

from streamfn import _core
from streamfn.errors import RecordTooLarge, StreamNotFound
from streamfn.log import Log, Stream
from streamfn.model.stream import Durability
from streamfn.units import format_count

from .console import progress_bar, voice
from .exits import CommandError, Exit
from .lines import CHUNK_BYTES, STDIN, Lines, opened
from .params import StreamName, file_size, log_dir_option, voice_options

RECORDS_A_CALL = 10_000


class Entry(NamedTuple):
    """One record to be put, and the line it came from."""

    data: bytes
    key: str | None
    line: int


Entries = Iterator[Entry | None]
"""What a format makes of the lines; None for a blank one."""


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

    FILE may be compressed (.zst). The first line that cannot be put ends the command; the lines
    before it are in.
    """
    if key is not None and kind == "lines":
        raise click.UsageError("plain lines have no fields: drop --key, or use ndjson or csv")
    if file == STDIN and sys.stdin.isatty():
        voice.note("reading from the terminal, one record a line; Ctrl-D ends")
    with opened(file) as (lines, raw), Log.open(log_dir) as log:
        target = _stream(log, stream, shards, durability)
        bar = progress_bar(f"put {stream}", file_size(file))
        with bar as show:
            put = Putting(target, lines, lambda: show(raw.tell()) if file != STDIN else None)
            put.all(_READERS[kind](lines, key))


@dataclass(slots=True)
class Putting:
    """Collects records and puts them, many in one call."""

    stream: Stream
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
        finally:
            took = time.monotonic() - began
            voice.note(f"put {format_count(self.count, 'record')} into `{self.stream.name}`")
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
            raise CommandError(_with_rest(message, line), error.hint) from None
        self.show()

    def _put(self, entries: list[Entry]) -> None:
        if entries:
            keys = [entry.key for entry in entries]
            self.stream.put_many([entry.data for entry in entries], None if not any(keys) else keys)
            self.count += len(entries)


def _stream(log: Log, name: str, shards: int | None, durability: str | None) -> Stream:
    """Return the stream; create it, and say so, if it is not there."""
    try:
        stream = log.stream(name)
    except StreamNotFound:
        level = cast("Durability | None", durability)
        # WHY: `exist_ok`, as somebody else may be creating it at this moment.
        stream = log.create_stream(name, shards=shards or 1, durability=level, exist_ok=True)
        count = format_count(len(stream.core.shards()), "shard")
        voice.note(f"created stream `{name}` with {count}, durability {stream.core.durability}")
    there = len([shard for shard in stream.core.shards() if shard.is_open])
    for option, wanted, found in (
        ("--shards", shards, there),
        ("--durability", durability, stream.core.durability),
    ):
        if wanted is not None and wanted != found:
            message = f"`{name}` is there already, with {option} {found} and not {wanted}"
            raise CommandError(message, f"leave {option} out", Exit.CONFIG)
    return stream


# ---------------------------------------------------------------- formats


def _ndjson(lines: Lines, key: str | None) -> Entries:
    import orjson

    for raw in lines:
        line = raw.strip()
        if not line:
            yield None
            continue
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            message = f"line {lines.number} of {lines.name} is not JSON ({error.msg})"
            hint = "correct it, or use --format lines or csv"
            raise CommandError(_with_rest(message, lines.number), hint) from None
        yield Entry(line, None if key is None else _key_of(value, key, lines), lines.number)


def _plain(lines: Lines, _key: str | None) -> Entries:
    for line in lines:
        yield Entry(line.removesuffix(b"\r"), None, lines.number)


def _csv(lines: Lines, key: str | None) -> Entries:
    import orjson

    csv.field_size_limit(_core.RECORD_BYTES_MAX)
    rows = csv.reader(_decoded(lines), strict=True)
    header: list[str] = []
    try:
        for row in rows:
            if not header:
                header = row
            elif not row:
                yield None
            else:
                if len(row) != len(header):
                    found = f"{len(row)} fields, the header has {len(header)}"
                    message = f"line {lines.number} of {lines.name} has {found}"
                    raise CommandError(_with_rest(message, lines.number))
                value = dict(zip(header, row, strict=True))
                partition_key = None if key is None else _key_of(value, key, lines)
                yield Entry(orjson.dumps(value), partition_key, lines.number)
    except csv.Error as error:
        message = f"line {lines.number} of {lines.name} is not CSV ({error})"
        raise CommandError(_with_rest(message, lines.number)) from None


def _decoded(lines: Lines) -> Iterator[str]:
    for line in lines:
        try:
            # WHY: the line break is given back, as a quoted field may hold one.
            yield line.decode("utf-8-sig" if lines.number == 1 else "utf-8") + "\n"
        except UnicodeDecodeError as error:
            message = f"line {lines.number} of {lines.name} is not UTF-8 ({error.reason})"
            raise CommandError(_with_rest(message, lines.number)) from None


def _key_of(value: Any, field_name: str, lines: Lines) -> str:  # noqa: ANN401 -- any JSON
    """Return the partition key in a field: a string, or a number or boolean as JSON writes it."""
    import orjson

    where = f"line {lines.number} of {lines.name}"
    if not isinstance(value, dict) or field_name not in value:
        message, hint = f"{where} has no field `{field_name}`", "name another field with --key"
        raise CommandError(_with_rest(message, lines.number), hint)
    key = value[field_name]
    if isinstance(key, bool | int | float):
        return orjson.dumps(key).decode()
    if not isinstance(key, str) or not key:
        kind = "an empty string" if key == "" else "null" if key is None else type(key).__name__
        message = f"`{field_name}` in {where} is {kind}, which cannot be a partition key"
        raise CommandError(_with_rest(message, lines.number), "it must be a string or a number")
    return key


def _with_rest(message: str, line: int) -> str:
    return f"{message}; the lines before it are in" if line > 1 else message


_READERS: dict[str, Callable[[Lines, str | None], Entries]] = {
    "ndjson": _ndjson,
    "lines": _plain,
    "csv": _csv,
}
