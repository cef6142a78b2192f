"""How far a mapping is behind the ends of its streams."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from streamfn._core import LaneStatus, Log, Records, Stream, slot_of
from streamfn.errors import SequenceTrimmed, StreamfnError

LANES_MAX: Final = 64
"""Lanes of which one record is read, so that the cost does not grow with the number of lanes."""
RECORDS_MAX: Final = 64
"""Records that are read to find the first one of a lane among those of other lanes."""


def records_behind(lanes: Iterable[LaneStatus]) -> int:
    """Return how many records wait for a mapping, including those in flight, from all its lanes.

    A lane has a position in its shard, but it is not known which records behind that position are
    its own. So each lane counts its share of them. The result is an estimate unless the shard has
    one lane. It is rounded up, so it is 0 only if no lane has records to read.
    """
    shards = defaultdict(list)
    for lane in lanes:
        shards[lane.stream, lane.shard_id].append(lane.behind)
    return sum(-(-sum(behind) // len(behind)) for behind in shards.values())


def oldest_unprocessed_us(log: Log, lanes: Iterable[LaneStatus]) -> int | None:
    """Return when the oldest record that waits for a mapping was appended, in µs since 1970.

    Of each lane the first record at its checkpoint is read. With more lanes than `LANES_MAX` those
    are read whose checkpoints are the oldest.

    Returns:
        None: no record waits.
    """
    behind = sorted(
        (lane for lane in lanes if lane.behind > 0), key=lambda lane: lane.checkpoint_us
    )
    times = [_first_unprocessed_us(log, lane) for lane in behind[:LANES_MAX]]
    return min((time for time in times if time is not None), default=None)


@dataclass(frozen=True, slots=True)
class Unread:
    """The records of streams in which a function has no lanes."""

    records: int
    oldest_us: int | None
    """When the oldest one was appended, in µs since 1970."""


def unread_streams(log: Log, streams: Iterable[str]) -> Unread:
    """Return what waits in streams in which a function has no lanes yet.

    WHY: on a full disk a worker cannot make the lanes, and all records wait for it.
    """
    records, times = 0, list[int]()
    for name in set(streams) & set(log.streams()):
        stream = log.stream(name)
        for shard in stream.shards():
            if shard.end > shard.trim_horizon:
                records += shard.end - shard.trim_horizon
                reader = stream.reader(shard.shard_id, "trim_horizon", skip_corruption=True)
                times += [record.timestamp_us for record in reader.poll(1)]
    return Unread(records, min(times, default=None))


def _first_unprocessed_us(log: Log, lane: LaneStatus) -> int | None:
    """Return the time of a lane's first record at or after its checkpoint; None: it has none."""
    try:
        records = _read(log.stream(lane.stream), lane)
    except StreamfnError:  # the stream was removed, or its files cannot be read
        return None
    for record in records:
        key, number = record.partition_key, record.sequence_number
        if lane.factor == 1 or slot_of(key, number, lane.factor) == lane.slot:
            return record.timestamp_us
    # WHY: the lane has to read further, so its first record is not older than the last one read.
    is_all = len(records) < RECORDS_MAX
    return None if is_all else records.last_timestamp_us


def _read(stream: Stream, lane: LaneStatus) -> Records:
    """Return some records from the checkpoint on, or from the first one that is kept."""
    limit = 1 if lane.factor == 1 else RECORDS_MAX
    try:
        return stream.reader(lane.shard_id, lane.checkpoint, skip_corruption=True).poll(limit)
    except SequenceTrimmed:
        return stream.reader(lane.shard_id, "trim_horizon", skip_corruption=True).poll(limit)
