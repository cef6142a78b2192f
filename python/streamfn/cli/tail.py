"""`streamfn tail`: prints the records of a stream as lines."""

from __future__ import annotations

import heapq
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import IO, cast

import click

from streamfn.log import Log, Stream
from streamfn.log.reading import Follower, poll
from streamfn.model.record import Record
from streamfn.model.stream import ShardInfo
from streamfn.units import to_microseconds

from .params import StreamName, json_option, log_dir_option, open_log, output_options
from .positions import SEQ_HELP, TIME_HELP, PositionType, StreamPosition

OFFSET = PositionType("beginning", "end", "-N", "@TIME", "SEQ")
_by_time = attrgetter("timestamp_us")

POLL_RECORDS = 1_000
POLL_BYTES = 2**20
DEFAULT_FORMAT = r"%s\n"
WAIT_SECONDS = 0.1
"""Longest wait before Python may handle Ctrl-C."""


@click.command("tail")
@click.argument("stream", type=StreamName(internal=True))
@click.option(
    "-o",
    "--offset",
    default="beginning",
    show_default=True,
    type=OFFSET,
    metavar=OFFSET.metavar,
    help=f"Where to start: beginning (or trim_horizon), end (or latest), -N for the last N "
    f"records; {TIME_HELP}; {SEQ_HELP}.",
)
@click.option(
    "-e", "--exit", "ends", is_flag=True, help="Print the records that exist now, then stop."
)
@click.option("-n", "--count", type=click.IntRange(1), metavar="N", help="Stop after N records.")
@click.option(
    "-f",
    "--format",
    "form",
    help=r"%s payload, %k key, %p shard, %o sequence number, %T time in ms, %h headers; "
    r"\n ends a line [default: %s\n].",
)
@click.option(
    "--on-corruption",
    type=click.Choice(["raise", "skip"]),
    default="raise",
    show_default=True,
    help="At damaged records: stop with an error, or skip them and report the lost numbers.",
)
@click.option(
    "--shard", metavar="SHARD", help="Read only this shard, such as shardId-000000000000."
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write to FILE; compressed if its name ends in .gz or .zst.",
)
@json_option
@log_dir_option
@output_options
def command(  # noqa: PLR0913 -- one parameter for each option
    *,
    stream: str,
    offset: StreamPosition,
    ends: bool,
    count: int | None,
    form: str | None,
    on_corruption: str,
    shard: str | None,
    output: str | None,
    as_json: bool,
    log_dir: str,
) -> None:
    """Print the records of STREAM, then new records as they arrive.

    Records are printed in order, oldest first; those of several shards are merged by time. With
    --json, each line is a JSON object.
    """
    if as_json and form is not None:
        raise click.UsageError("use --json or --format, not both")
    line = _json_line if as_json else _formatted(form or DEFAULT_FORMAT)
    written = 0
    with open_log(log_dir) as log:
        reader = _TailReader(log, log.stream(stream), offset, shard)
        reader.skips = on_corruption == "skip"
        records = reader.records(follow=not ends)
        with _sink(output) as sink:
            for record in records:
                if record is None:
                    sink.flush()  # no further record at the moment: show those written so far
                    continue
                sink.write(line(record))
                written += 1
                if written == count:
                    break


class _TailReader:
    """Reads some shards of a stream from a position; `ends` is what was visible at the start."""

    def __init__(self, log: Log, stream: Stream, offset: StreamPosition, shard: str | None) -> None:
        self.log, self.stream = log, stream
        self.skips = False
        """Whether damaged records are skipped."""
        shards = stream.info().shards
        self.shards = [each for each in shards if shard in {None, each.shard_id}]
        self.is_alone = shard is not None
        if not self.shards:
            known = ", ".join(each.shard_id for each in shards)
            raise click.BadParameter(f"`{stream.name}` has no shard `{shard}`, use one of {known}")
        self.ends = {each.shard_id: each.end for each in self.shards}
        self.not_before = _not_before(shards)
        offset.check_shards(len(self.shards), stream.name)
        self.start, self.last = offset.start, offset.last_records

    def records(self, *, follow: bool) -> Iterator[Record | None]:
        """Yield records, and None whenever there is no further record yet."""
        if self.last is not None:
            yield from self._last(self.last)
        else:
            shards = [self._up_to(shard_id, self.start, end) for shard_id, end in self.ends.items()]
            yield from heapq.merge(*shards, key=self._time)
        if follow:
            yield None
            yield from self._new()

    def _time(self, record: Record) -> int:
        """Return the sort key of a record: its time, or the end of its shard's parents if later."""
        return max(record.timestamp_us, self.not_before[record.shard_id])

    def _last(self, count: int) -> Iterator[Record]:
        """Yield the last `count` records by time."""
        found = [self._last_of(shard, count) for shard in self.shards]
        yield from deque(heapq.merge(*found, key=self._time), maxlen=count)

    def _last_of(self, shard: ShardInfo, count: int) -> list[Record]:
        """Return up to `count` last records of a shard.

        Sequence numbers may have gaps, so the range that is read grows until it has enough.
        """
        window = count
        while True:
            begin = max(shard.end - window, shard.trim_horizon)
            records = list(self._up_to(shard.shard_id, begin, shard.end))
            if len(records) >= count or begin == shard.trim_horizon:
                return records[-count:]
            window *= 4

    def _up_to(self, shard_id: str, start: str | int | datetime, end: int) -> Iterator[Record]:
        reader = self.stream.core.reader(shard_id, start, skip_corruption=self.skips)
        while reader.position < end:
            records = poll(reader, POLL_RECORDS, POLL_BYTES)
            if not records:
                break
            yield from records.between(records.first, end - 1)
        reader.close()

    def _new(self) -> Iterator[Record | None]:
        """Yield the records after `ends`, from `start` on; those of one poll are merged by time."""
        start, core = self.start, self.log.core
        least = start if isinstance(start, int) else 0
        readers = {
            each: self.stream.core.reader(each, max(end, least), skip_corruption=self.skips)
            for each, end in self.ends.items()
        }
        follower = Follower(
            self.stream.core, readers, is_alone=self.is_alone, skip_corruption=self.skips
        )
        while not follower.is_over:
            seen = core.wake()
            polled = follower.poll(POLL_RECORDS, POLL_BYTES)
            for record in heapq.merge(*polled, key=_by_time):
                if not isinstance(start, datetime) or record.timestamp >= start:
                    yield record
            yield None
            if not polled and not follower.is_over:
                core.wait(seen, WAIT_SECONDS)


def _not_before(shards: Sequence[ShardInfo]) -> dict[str, int]:
    """Return for each shard when the last of its parents ended, in µs.

    A clock that was set back between two shards must not reverse the order of a key.
    """
    starts: dict[str, int] = {}
    ends: dict[str, int] = {}
    for shard in shards:  # parents come before their children
        start = max((ends[parent] for parent in shard.parents if parent in ends), default=0)
        last = to_microseconds(shard.last_record) + 1 if shard.last_record else 0
        starts[shard.shard_id], ends[shard.shard_id] = start, max(start, last)
    return starts


def _json_line(record: Record) -> bytes:
    import orjson

    from .shapes import record_shape

    return orjson.dumps(record_shape(record), option=orjson.OPT_APPEND_NEWLINE)


def _formatted(form: str) -> Callable[[Record], bytes]:
    from .shapes import record_format

    return record_format(form)


@contextmanager
def _sink(output: str | None) -> Iterator[IO[bytes]]:
    """Yield the file that the lines go to; a compressed file is completed also after an error."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    suffix = Path(output).suffix
    if suffix in {".bz2", ".xz", ".zip"}:
        raise click.BadParameter(
            f"`{output}` cannot be compressed that way: use a name ending in .gz or .zst"
        )
    with ExitStack() as stack:
        file = stack.enter_context(Path(output).open("wb"))
        match suffix:
            case ".zst":
                import zstandard

                yield stack.enter_context(zstandard.ZstdCompressor(level=3).stream_writer(file))
            case ".gz":
                import gzip

                writer = stack.enter_context(gzip.GzipFile(fileobj=file, mode="wb"))
                yield cast("IO[bytes]", writer)
            case _:
                yield file
