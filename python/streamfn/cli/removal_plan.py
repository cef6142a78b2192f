"""What a trim or a shorter retention would delete, and which functions have not read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from streamfn import _core
from streamfn.errors import Corruption
from streamfn.log import Log, Stream
from streamfn.model.stream import ShardInfo
from streamfn.units import format_count, format_size

from .times import iso_time, table_time

Removal = tuple[int, int, int]
"""The trim horizon of a shard afterwards, and the segments and bytes that are removed."""


@dataclass(frozen=True, slots=True)
class ShardRemoval:
    """What would be deleted from one shard."""

    shard: ShardInfo
    horizon: int
    """The lowest sequence number kept afterwards."""
    segments: int
    bytes: int

    @property
    def records(self) -> int:
        """Sequence numbers that would be deleted, without the mark that ends a closed shard."""
        end = self.shard.end - (0 if self.shard.is_open else 1)
        return max(0, min(self.horizon, end) - self.shard.trim_horizon)


@dataclass(frozen=True, slots=True)
class RemovalPlan:
    """What would be deleted from a stream."""

    stream: str
    shards: tuple[ShardRemoval, ...]
    newest: datetime | None
    """When the newest of the records was put. None: there are none, or it cannot be read."""
    unread: dict[str, int]
    """Records that a function has not processed, by its name; only functions with some."""

    @property
    def records(self) -> int:
        """Sum over the shards."""
        return sum(shard.records for shard in self.shards)

    @property
    def bytes(self) -> int:
        """Bytes of the files that would be deleted."""
        return sum(shard.bytes for shard in self.shards)

    def lines(self) -> list[str]:
        """Return sentences for a person: what goes, and who has not read it."""
        newest = f", put until {table_time(iso_time(self.newest))}" if self.newest else ""
        records = format_count(self.records, "record")
        first = f"{records} of `{self.stream}`{newest}; frees {format_size(self.bytes)} on disk"
        return [first, *self.unread_lines()]

    def unread_lines(self) -> list[str]:
        """Return a sentence for each function that has not processed all of it."""
        return [
            f"`{name}` has not processed {format_count(count)} of them"
            for name, count in sorted(self.unread.items())
        ]

    def why_nothing_is_freed(self) -> str | None:
        """Return why the disk keeps its size although records go; None: it does not, or none go."""
        kept = [each for each in self.shards if each.records and not each.segments]
        if self.bytes or not kept:
            return None
        one = kept[0]
        holds = f"the oldest file of {one.shard.shard_id} is also the one for new records"
        if one.shard.segments > 1:
            holds = f"the oldest file of {one.shard.shard_id} also holds records from {one.horizon}"
        return f"files are deleted whole, and {holds}"

    def to_json(self) -> dict[str, object]:
        """Return the plan as JSON shows it."""
        return {
            "records": self.records,
            "bytes": self.bytes,
            "newest_record": iso_time(self.newest) if self.newest else None,
            "unread": self.unread,
        }


def removal_plan(
    log: Log, stream: Stream, removal: Callable[[str], Removal], shard: str | None = None
) -> RemovalPlan:
    """Ask the core what would go.

    Args:
        log: The log.
        stream: The stream.
        removal: Returns the removal of the shard of this id.
        shard: Only this shard.
    """
    shards = tuple(
        ShardRemoval(each, *removal(each.shard_id))
        for each in stream.info().shards
        if shard in {None, each.shard_id}
    )
    return RemovalPlan(
        stream.name,
        shards,
        _newest(stream, shards),
        _unread(log, stream.name, {each.shard.shard_id: each for each in shards}),
    )


def _newest(stream: Stream, shards: tuple[ShardRemoval, ...]) -> datetime | None:
    times = [_last_time(stream, each) for each in shards if each.records]
    return max((time for time in times if time is not None), default=None)


def _last_time(stream: Stream, removal: ShardRemoval) -> datetime | None:
    last = removal.shard.trim_horizon + removal.records - 1
    if removal.horizon >= removal.shard.end:
        return removal.shard.last_record
    try:
        batch = next(iter(stream.read(last, shard=removal.shard.shard_id)), None)
    except Corruption:  # then it is told without the time
        return None
    return batch[0].timestamp if batch else None


def _unread(log: Log, stream: str, removals: dict[str, ShardRemoval]) -> dict[str, int]:
    found = {}
    for name in _core.Mapping.names(log.core):
        mapping = _core.Mapping.open(log.core, name)
        behind: dict[str, list[int]] = {}
        for lane in mapping.lanes(stream) if mapping else ():
            if (removal := removals.get(lane.shard_id)) and not lane.is_finished:
                first = max(lane.checkpoint, removal.shard.trim_horizon)
                last = removal.shard.trim_horizon + removal.records
                behind.setdefault(lane.shard_id, []).append(max(0, last - first))
        # The lanes of a shard share its records: each counts its part, rounded up.
        if count := sum(-(-sum(each) // len(each)) for each in behind.values()):
            found[name] = count
    return found
