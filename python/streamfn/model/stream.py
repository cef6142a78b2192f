"""`StreamInfo` and `ShardInfo`: settings and sizes of a stream."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

Durability = Literal["group", "process"]
"""What acknowledged records survive: `group` power loss, `process` the kill of any process."""
Compression = Literal["zstd", "none"]
"""How the data of new records is stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardInfo:
    """One shard of a stream."""

    shard_id: str
    is_open: bool
    """False once the shard was split or merged."""
    parents: tuple[str, ...]
    trim_horizon: int
    """Lowest sequence number kept."""
    end: int
    """The next sequence number; all records have lower ones."""
    bytes: int
    """Size on disk."""
    segments: int
    last_record: datetime | None
    """When the last record was put; None if there is none."""
    hash_keys: tuple[int, int]
    """First and last hash key of its range, both inclusive, within 0 to 2^128 - 1."""

    @property
    def records(self) -> int:
        """Number of sequence numbers kept, without the mark that ends a closed shard.

        This is the number of records, or more if numbers were skipped, as after a crash of the
        machine.
        """
        marks = 0 if self.is_open else 1
        return max(0, self.end - self.trim_horizon - marks)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamInfo:
    """One stream."""

    name: str
    durability: str
    compression: str
    created: datetime
    retention: dict[str, Any]
    shards: tuple[ShardInfo, ...]

    @property
    def records(self) -> int:
        """Sum over the shards."""
        return sum(shard.records for shard in self.shards)

    @property
    def bytes(self) -> int:
        """Sum over the shards."""
        return sum(shard.bytes for shard in self.shards)
