"""Turning shard readers into batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from streamfn import _core
from streamfn.model.batch import Batch

RECORDS_MAX = 10_000
"""Most records of one batch."""
BYTES_MAX = 8 * 2**20
"""Most payload bytes of one batch."""
WAIT_SECONDS = 0.1
"""Longest wait before Python may handle a signal."""


def up_to(readers: Mapping[str, _core.ShardReader], ends: Mapping[str, int]) -> Iterator[Batch]:
    """Yield what lies below `ends`, the shards in turn.

    Args:
        readers: By shard id, placed where reading begins.
        ends: By shard id, the sequence number to stop at.
    """
    waiting = dict(readers)
    while waiting:
        for shard_id, reader in list(waiting.items()):
            end = ends[shard_id]
            records = reader.poll(RECORDS_MAX, BYTES_MAX) if reader.position < end else None
            if records and records.last >= end:
                records = records.between(records.first, end - 1)
            if not records:
                del waiting[shard_id]
                reader.close()
                continue
            yield Batch(records)


def following(log: _core.Log, readers: Sequence[_core.ShardReader]) -> Iterator[Batch]:
    """Yield what there is and then what comes, for ever."""
    while True:
        seen = log.wake()
        idle = True
        for reader in readers:
            records = reader.poll(RECORDS_MAX, BYTES_MAX)
            if records:
                idle = False
                yield Batch(records)
        if idle:
            log.wait(seen, WAIT_SECONDS)
