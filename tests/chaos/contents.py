"""What is in the log when a run is over: as a reader gets it, and as the bytes on disk have it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from decoder import read_shard, read_state
from history import Place
from journal import digest

from streamfn import Log
from streamfn.errors import SequenceTrimmed
from streamfn.log import Stream
from streamfn.model.record import DEAD_LETTER_HEADER


class Span(NamedTuple):
    """Neighbouring numbers that one batch on disk takes."""

    first: int
    count: int
    control: str | None
    """`CLOSE`, `EPOCH`; None: records."""


@dataclass(slots=True)
class Shard:
    """One shard of a stream."""

    hash_keys: tuple[int, int]
    horizon: int = 0
    read: dict[int, str] = field(default_factory=dict)
    """Digest by number, from the reader everybody uses."""
    decoded: dict[int, str] = field(default_factory=dict)
    """The same, from the decoder that shares nothing with the engine."""
    spans: list[Span] = field(default_factory=list)


@dataclass(slots=True)
class Contents:
    """All streams."""

    shards: dict[tuple[str, str], Shard]
    retention: dict[str, dict[str, Any]]
    """Of each stream; empty: nothing ever goes."""
    dead: set[tuple[str, Place]]
    """Function and record of each dead letter."""
    looked: int
    """When this was read, on the clock that all processes share."""

    def is_lossy(self, stream: str) -> bool:
        """Whether records may go before every function has had them."""
        return bool(self.retention[stream].keys() & {"seconds", "bytes"})


def read_contents(log_dir: Path) -> Contents:
    """Read a log that nobody has open."""
    with Log.open(log_dir, create=False) as log:
        streams = [log.stream(name) for name in log.streams()]
        contents = Contents(
            shards={key: shard for stream in streams for key, shard in _read(stream)},
            retention={stream.name: _limits(stream) for stream in streams},
            dead=set(_dead_letters(log)),
            looked=0,
        )
    contents.looked = time.monotonic_ns()
    for (stream, shard_id), shard in contents.shards.items():
        _decode(log_dir / "streams" / stream / shard_id, shard)
    return contents


def _limits(stream: Stream) -> dict[str, Any]:
    return {name: value for name, value in stream.info().retention.items() if value}


def _read(stream: Stream) -> Iterator[tuple[tuple[str, str], Shard]]:
    shards = {info.shard_id: Shard(info.hash_keys) for info in stream.info().shards}
    while True:
        try:
            for batch in stream.read():
                found = shards[batch.records.shard_id].read
                found |= {
                    each.sequence_number: digest(each.data, each.partition_key, each.headers)
                    for each in batch
                }
        except SequenceTrimmed:  # retention goes on while the log is open
            continue
        return (((stream.name, shard_id), shard) for shard_id, shard in shards.items())


def _dead_letters(log: Log) -> Iterator[tuple[str, Place]]:
    for name in log.core.streams(internal=True):
        if not name.endswith(".dlq"):
            continue
        function = name.split(".")[1]
        stream = log.core.stream(name)
        for shard in stream.shards():
            for record in stream.reader(shard.shard_id).poll(1 << 30, 1 << 40):
                origin = orjson.loads(record.headers[DEAD_LETTER_HEADER])["origin"]
                place = (origin["stream"], origin["shard_id"], origin["sequence_number"])
                yield function, Place(*place)


def _decode(folder: Path, shard: Shard) -> None:
    """Add what the files say, which nobody changes any more."""
    shard.horizon = read_state((folder / "state").read_bytes()).trim_horizon
    shard.read = {number: found for number, found in shard.read.items() if number >= shard.horizon}
    for batch in read_shard(folder):
        control = batch.control.kind if batch.control else None
        shard.spans.append(Span(batch.base, batch.count, control))
        for record in batch.records:
            if record.sequence_number >= shard.horizon:
                found = digest(record.data, record.key, record.headers)
                shard.decoded[record.sequence_number] = found
