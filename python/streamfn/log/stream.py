"""`Stream`: puts and reads records, splits, merges and trims shards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import EllipsisType
from typing import get_args

from streamfn import _core
from streamfn.errors import ConfigError
from streamfn.model.batch import Batch
from streamfn.model.mapping import OnCorruption
from streamfn.model.put import PutResult, PutResults
from streamfn.model.retention import Retention, parse_retention
from streamfn.model.stream import Compression, ShardInfo, StreamInfo
from streamfn.units import from_microseconds

from .reading import Follower, following, up_to


class Stream:
    """A named set of shards (Kafka: a topic and its partitions)."""

    __slots__ = ("_core", "_log")

    def __init__(self, log: _core.Log, core: _core.Stream) -> None:
        self._log, self._core = log, core

    @property
    def core(self) -> _core.Stream:
        """The handle of `streamfn._core`."""
        return self._core

    @property
    def name(self) -> str:
        """The stream's name."""
        return self._core.name

    def put(
        self,
        data: bytes,
        partition_key: str | None = None,
        headers: Mapping[str, bytes] | None = None,
        *,
        timeout: float | None = None,
    ) -> PutResult:
        """Append one record and wait until it has the stream's durability.

        Args:
            data: The payload; at most 10 MiB together with key and headers.
            partition_key: Chooses the shard; records with the same key stay in order. None: the
                record goes to any shard and has no order.
            headers: Names and values stored with the record; at most 64 KiB.
            timeout: Longest wait for the shard's lock, in seconds. None: 30.

        Raises:
            ConfigError: `timeout` is infinite or not a number; nothing was written.
            RecordTooLarge: A limit above is exceeded; nothing was written.
            LogFull: The disk is full; nothing was written.
            LockTimeout: The lock was not free in time; nothing was written.
            StoragePoisoned: An earlier sync failed.
        """
        return PutResult(*self._core.put(data, partition_key, headers, timeout))

    def put_many(
        self,
        data: Sequence[bytes],
        partition_keys: Sequence[str | None] | None = None,
        headers: Sequence[Mapping[str, bytes] | None] | None = None,
        *,
        timeout: float | None = None,
    ) -> PutResults:
        """Append records and wait until they have the stream's durability.

        Order is kept per partition key. If one entry is invalid, the whole call is refused before
        anything is written.

        Args:
            data: The payloads, each at most 10 MiB with its key and headers.
            partition_keys: One key or None for each payload; records without a key have no order.
            headers: One mapping or None for each payload.
            timeout: Longest wait for a shard's lock, in seconds. None: 30.

        Returns:
            One result per record, in the order given, made lazily.

        Raises:
            ConfigError: `timeout` is infinite or not a number; nothing was written.
            RecordTooLarge: An entry is over a limit; `index` is its index.
            LogFull: The disk is full.
            LockTimeout: A lock was not free in time.
            StoragePoisoned: An earlier sync failed.

        Shapes: len(result) == len(data).
        """
        return PutResults(self._core.put_many(data, partition_keys, headers, timeout))

    def read(
        self,
        start: str | int | datetime = "trim_horizon",
        *,
        shard: str | None = None,
        follow: bool = False,
        on_corruption: OnCorruption = "raise",
    ) -> Iterator[Batch]:
        """Iterate over the records in batches; each batch is of one shard and in its order.

        A shard that was split or merged is read to its end before its child shards, so that the
        records of a key come in order.

        Args:
            start: `"trim_horizon"` (the oldest record kept), `"latest"`, an aware datetime, or a
                sequence number (with `shard`, or in a stream of one shard).
            shard: Read this shard only.
            follow: Wait for new records and new shards, forever; with `shard`, until that shard is
                split or merged. Without `follow` the iteration ends at the records that were
                visible when it began.
            on_corruption: What to do at damaged records. `"raise"`: stop there. `"skip"`: continue
                behind them, and log a warning with the skipped sequence numbers.

        Raises:
            ConfigError: There is no such shard.
            SequenceTrimmed: The records at `start` are no longer kept.
            Corruption: Records are damaged, and `on_corruption="raise"`.
        """
        if follow:
            follower = self.follower(start, shard=shard, on_corruption=on_corruption)
            return following(self._log, follower)
        shards = self._shards(shard)
        skip = _skips(on_corruption)
        return up_to(self._readers(shards, start, skip=skip), shards)

    def follower(
        self,
        start: str | int | datetime = "trim_horizon",
        *,
        shard: str | None = None,
        on_corruption: OnCorruption = "raise",
    ) -> Follower:
        """Return the object that `read(follow=True)` polls; its `poll` does not wait.

        Args:
            start: As in `read`.
            shard: As in `read`.
            on_corruption: As in `read`.
        """
        skip = _skips(on_corruption)
        return Follower(
            self._core,
            self._readers(self._shards(shard), start, skip=skip),
            since=start if isinstance(start, datetime) else None,
            is_alone=shard is not None,
            skip_corruption=skip,
        )

    def split(
        self, shard: str, *, at: int | None = None, timeout: float | None = None
    ) -> tuple[str, str]:
        """Close a shard and open two child shards, each with a part of its hash-key range.

        Records keep their order per key: readers and functions finish the old shard first.
        Producers in all processes switch to the new shards automatically.

        Args:
            shard: An open shard.
            at: First hash key of the second child. None: each child gets half of the range.
            timeout: Longest wait for each lock, in seconds. None: 30.

        Returns:
            The ids of the two children, lower hash keys first.

        Raises:
            ConfigError: There is no such shard, `at` is outside its range, or the log would have
                more than 4,096 shards, including closed ones.
            StreamClosed: The shard is closed: it was split or merged before.
        """
        return self._core.split(shard, at, timeout)

    def merge(self, a: str, b: str, *, timeout: float | None = None) -> str:
        """Close two shards with adjacent hash-key ranges and open one child shard for both.

        Records keep their order per key, as in `split`.

        Args:
            a: An open shard.
            b: Another open shard; its range must end just below or begin just above that of `a`.
            timeout: Longest wait for each lock, in seconds. None: 30.

        Returns:
            The id of the child.

        Raises:
            ConfigError: There is no such shard, or the ranges are not adjacent.
            StreamClosed: A shard is closed: it was split or merged before.
        """
        return self._core.merge(a, b, timeout)

    def set(
        self,
        *,
        retention: Retention | tuple[Retention, ...] | EllipsisType | None = ...,
        compression: Compression | None = None,
        timeout: float | None = None,
    ) -> None:
        """Change settings of the stream; those that are not given stay as they are.

        Programs that have the stream open, and their retention, use the new settings within two
        seconds. The number of shards changes with `split` and `merge`. The durability cannot
        change.

        Args:
            retention: `"7d"`, `"10GiB"`, `"consumed"`, or a tuple of these. None: keep all records.
                A shorter retention deletes records for good, whether or not they were read.
            compression: `"zstd"` or `"none"`, for the records that are put from now on.
            timeout: Longest wait for the lock, in seconds. None: 30.

        Raises:
            ConfigError: An argument is invalid.
            LogFull: The disk is full; nothing has changed.
            LockTimeout: The lock was not free in time; nothing has changed.
        """
        limits = {} if retention is ... else parse_retention(retention).arguments()
        self._core.set(
            compression=compression, sets_retention=retention is not ..., timeout=timeout, **limits
        )

    def trim(self, before: int | datetime, *, shard: str | None = None) -> int:
        """Delete old records. This cannot be undone: no process can read them any more.

        A file is removed once it holds no record that is kept. If a function has not processed the
        deleted records, its worker reports that they were lost.

        Args:
            before: The first record to keep: an aware datetime, or a sequence number (with `shard`,
                or in a stream of one shard).
            shard: Trim this shard only.

        Returns:
            Bytes freed on disk.

        Raises:
            ConfigError: There is no such shard, or `before` is a number and there are several
                shards.
        """
        shards = self._shards(shard)
        if isinstance(before, int) and len(shards) > 1:
            raise ConfigError("before", f"`{before}` is a place in one shard, name the shard")
        return sum(self._core.trim(each.shard_id, before) for each in shards)

    def info(self) -> StreamInfo:
        """Return the stream's settings, shards and sizes."""
        shards = self._core.shards()
        return StreamInfo(
            name=self.name,
            durability=self._core.durability,
            compression=self._core.compression,
            created=from_microseconds(self._core.created_us),
            retention=dict(self._core.retention),
            shards=tuple(_shard_info(shard) for shard in shards),
        )

    def __repr__(self) -> str:
        return f"<Stream {self.name}>"

    def _readers(
        self, shards: list[_core.ShardInfo], start: str | int | datetime, *, skip: bool
    ) -> dict[str, _core.ShardReader]:
        return {
            each.shard_id: self._core.reader(each.shard_id, start, skip_corruption=skip)
            for each in shards
        }

    def _shards(self, only: str | None) -> list[_core.ShardInfo]:
        shards = self._core.shards()
        if only is None:
            return shards
        chosen = [shard for shard in shards if shard.shard_id == only]
        if not chosen:
            known = ", ".join(shard.shard_id for shard in shards)
            raise ConfigError("shard", f"`{self.name}` has no shard `{only}`, use one of {known}")
        return chosen


def _skips(on_corruption: OnCorruption) -> bool:
    if on_corruption not in get_args(OnCorruption):
        raise ConfigError("on_corruption", f"`{on_corruption}` is not `raise` or `skip`")
    return on_corruption == "skip"


def _shard_info(shard: _core.ShardInfo) -> ShardInfo:
    return ShardInfo(
        shard_id=shard.shard_id,
        is_open=shard.is_open,
        parents=tuple(shard.parents),
        trim_horizon=shard.trim_horizon,
        end=shard.end,
        bytes=shard.bytes,
        segments=shard.segments,
        last_record=(
            from_microseconds(shard.last_timestamp_us) if shard.last_timestamp_us else None
        ),
        hash_keys=(shard.hash_key_first, shard.hash_key_last),
    )
