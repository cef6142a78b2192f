"""A reader: follows every shard of a stream until it is told to stop, or is killed.

Its journal:

    open     shard, sequence number it begins at
    records  shard, [sequence numbers], [digests]
    trimmed  shard, first and last that retention took before it came to them
    end      shard, time, sequence number: asked at that time, there was nothing from there on
"""

import signal
import sys
import time
from pathlib import Path

from journal import Journal, digest

from streamfn import Log
from streamfn._core import ShardReader, Stream
from streamfn.errors import SequenceTrimmed

LIMIT = 500
LOOK_FOR_SHARDS_SECONDS = 0.2


class Reader:
    """The shards of one stream, and how far each was read."""

    def __init__(self, journal: Journal, stream: Stream, start: str) -> None:
        self._journal, self._stream = journal, stream
        self._readers: dict[str, ShardReader] = {}
        self._told_ends: dict[str, int] = {}
        self._look_again = 0.0
        self._start = start

    def look_for_shards(self) -> None:
        """Open the shards that are new; those that appear later from their first record."""
        if time.monotonic() < self._look_again:
            return
        self._look_again = time.monotonic() + LOOK_FOR_SHARDS_SECONDS
        for shard in self._stream.shards():
            if shard.shard_id not in self._readers:
                self._open(shard.shard_id, self._start)
        self._start = "trim_horizon"

    def read_on(self) -> bool:
        """Read a portion of each shard; False if there was nothing."""
        found = [self._read(shard_id) for shard_id in list(self._readers)]
        return any(found)

    def _open(self, shard_id: str, start: str) -> None:
        reader = self._stream.reader(shard_id, start)
        self._journal.note("open", shard_id, reader.position)
        self._readers[shard_id] = reader

    def _read(self, shard_id: str) -> bool:
        reader = self._readers[shard_id]
        asked = time.monotonic_ns()
        try:
            records = reader.poll(LIMIT)
        except SequenceTrimmed as trimmed:
            self._journal.note("trimmed", shard_id, trimmed.lost_from, trimmed.lost_to)
            self._open(shard_id, "trim_horizon")
            return True
        if not records:
            self._tell_end(shard_id, asked, reader.position)
            return False
        digests = [digest(each.data, each.partition_key, each.headers) for each in records]
        self._journal.note("records", shard_id, records.sequence_numbers(), digests)
        return True

    def _tell_end(self, shard_id: str, asked: int, position: int) -> None:
        if self._told_ends.get(shard_id) != position:
            self._told_ends[shard_id] = position
            self._journal.note("end", shard_id, asked, position)


def main(folder: Path, log_dir: str, name: str, stream: str, start: str) -> None:
    """Read until SIGTERM; then close the log as a well-behaved program does."""
    told_to_stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told_to_stop.append(number))
    journal = Journal(folder / f"reader-{name}-{stream}")
    with Log.open(log_dir, create=False) as log:
        reader = Reader(journal, log.stream(stream).core, start)
        while not told_to_stop:
            wake = log.core.wake()
            reader.look_for_shards()
            if not reader.read_on():
                log.core.wait(wake, 0.1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
