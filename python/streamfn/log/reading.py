"""Makes batches from shard readers: parents before children, so that keys keep their order."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from streamfn import _core
from streamfn.model.batch import Batch

RECORDS_MAX = 10_000
"""Most records of one batch."""
BYTES_MAX = 8 * 2**20
"""Most payload bytes of one batch."""
WAIT_SECONDS = 0.1
"""Longest wait inside the core; between waits Python can handle signals."""
LOGGER: Final = logging.getLogger("streamfn")


def poll(reader: _core.ShardReader, records_max: int, bytes_max: int) -> _core.Records:
    """Return the records that a reader has now, and log the damage that it skipped."""
    records = reader.poll(records_max, bytes_max)
    for damage in reader.take_skipped():
        LOGGER.warning("skipped damaged data: %s", damage)
    return records


def up_to(
    readers: Mapping[str, _core.ShardReader], shards: Sequence[_core.ShardInfo]
) -> Iterator[Batch]:
    """Yield the records below the ends of `shards`, the shards taking turns.

    Args:
        readers: By shard id, each at its starting position.
        shards: The shards of the readers, as they were when reading began.
    """
    ends = {each.shard_id: each.end for each in shards}
    parents = {each.shard_id: set(each.parents) for each in shards}
    waiting = dict(readers)
    while waiting:
        for shard_id, reader in list(waiting.items()):
            if parents[shard_id] & waiting.keys():
                continue
            end = ends[shard_id]
            records = poll(reader, RECORDS_MAX, BYTES_MAX) if reader.position < end else None
            if records and records.last >= end:
                records = records.between(records.first, end - 1)
            if not records:
                del waiting[shard_id]
                reader.close()
                continue
            yield Batch(records)


class Follower:
    """Follows some shards of a stream and their child shards."""

    def __init__(
        self,
        stream: _core.Stream,
        readers: Mapping[str, _core.ShardReader],
        *,
        since: datetime | None = None,
        is_alone: bool = False,
        skip_corruption: bool = False,
    ) -> None:
        """Start at the positions of the readers.

        Args:
            stream: Their stream.
            readers: By shard id.
            since: Starting position in shards that appear later; None: their first record.
            is_alone: Read these shards only, not their children.
            skip_corruption: Skip damage in shards that appear later.
        """
        self._stream, self._readers = stream, dict(readers)
        self._since, self._is_alone = since, is_alone
        self._skip_corruption = skip_corruption
        self._parents = {each.shard_id: set(each.parents) for each in stream.shards()}
        self._childless: set[str] = set()

    @property
    def is_over(self) -> bool:
        """Whether no more records can come."""
        return self._is_alone and not self._readers

    def poll(self, records_max: int, bytes_max: int) -> list[_core.Records]:
        """Return the new records of each shard; a child is read after its parents are finished."""
        found = []
        for shard_id, reader in list(self._readers.items()):
            if self._parents.get(shard_id, set()) & self._readers.keys():
                continue
            records = poll(reader, records_max, bytes_max)
            if records:
                found.append(records)
            elif reader.is_finished:
                del self._readers[shard_id]
                reader.close()
                self._childless.add(shard_id)
        if self._childless and not self._is_alone and self._adopt():
            found += self.poll(records_max, bytes_max)
        return found

    def _adopt(self) -> bool:
        """Start reading the children of finished shards; return whether there are new ones."""
        is_new = False
        for each in self._stream.shards():
            self._childless -= set(each.parents)
            if each.shard_id not in self._parents:
                self._parents[each.shard_id] = set(each.parents)
                self._readers[each.shard_id] = self._stream.reader(
                    each.shard_id, self._since, skip_corruption=self._skip_corruption
                )
                is_new = True
        return is_new


def following(log: _core.Log, follower: Follower) -> Iterator[Batch]:
    """Yield existing and then new batches, forever or until the only shard read is closed."""
    while not follower.is_over:
        seen = log.wake()
        found = follower.poll(RECORDS_MAX, BYTES_MAX)
        for records in found:
            yield Batch(records)
        if not found and not follower.is_over:
            log.wait(seen, WAIT_SECONDS)
