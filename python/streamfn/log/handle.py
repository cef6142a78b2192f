"""`Log`: an open log directory."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

from streamfn import _core
from streamfn.model.retention import Retention, parse_retention
from streamfn.model.stream import Compression, Durability

from .stream import Stream


class Log:
    """An open log directory; as a context manager it closes the log on exit.

    Threads may share a `Log`. After a `fork` the child process must open its own.
    """

    __slots__ = ("_core",)

    def __init__(self, core: _core.Log) -> None:
        self._core = core

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, durability: Durability = "group", create: bool = True
    ) -> Log:
        """Open a log directory, and create it unless `create=False`.

        Args:
            path: The directory; it must be on a local file system.
            durability: Default for the streams that this handle creates. `"group"`: acknowledged
                records survive power loss. `"process"`: they survive the kill of any process.
            create: Make a log of a directory that is missing or empty.

        Raises:
            ConfigError: The directory is not a log, or is on a network file system.
            UnsupportedFormat: A version of streamfn with another format wrote the log.
        """
        return cls(_core.Log.open(os.fsdecode(path), durability=durability, create=create))

    @property
    def core(self) -> _core.Log:
        """The handle of `streamfn._core`."""
        return self._core

    @property
    def path(self) -> str:
        """The directory."""
        return self._core.path

    def create_stream(
        self,
        name: str,
        *,
        shards: int = 1,
        durability: Durability | None = None,
        retention: Retention | tuple[Retention, ...] | None = None,
        compression: Compression = "zstd",
        exist_ok: bool = False,
    ) -> Stream:
        """Create a stream and return it.

        Args:
            name: 1 to 128 letters, digits, `_` or `-`.
            shards: Number of shards. Records with the same partition key go to the same shard.
            durability: `"group"` or `"process"`; default: that of this handle.
            retention: `"7d"`, `"10GiB"`, `"consumed"`, or a tuple of these. None: keep all records.
            compression: Compression of the data on disk.
            exist_ok: If the stream exists, return it unchanged.

        Raises:
            ConfigError: An argument is invalid.
            StreamExists: The stream exists, and `exist_ok` is False.
        """
        created = self._core.create_stream(
            name,
            shards=shards,
            durability=durability,
            compression=compression,
            exist_ok=exist_ok,
            **parse_retention(retention).arguments(),
        )
        return Stream(self._core, created)

    def remove_stream(
        self, name: str, *, force: bool = False, timeout: float | None = None
    ) -> None:
        """Remove a stream with all its records. This cannot be undone.

        Processes that have the stream open get `StreamNotFound` from then on.

        Args:
            name: The stream.
            force: Remove it even if functions have read it. Their positions in the stream are
                removed too; their dead letters stay.
            timeout: Longest wait for each lock, in seconds. None: 30.

        Raises:
            StreamNotFound: There is no such stream.
            ConfigError: Functions have read it (unless `force`), or a worker is reading it now.
        """
        self._core.remove_stream(name, force=force, timeout=timeout)

    def stream(self, name: str) -> Stream:
        """Return the stream of that name.

        Raises:
            StreamNotFound: There is no such stream.
        """
        return Stream(self._core, self._core.stream(name))

    def streams(self) -> list[str]:
        """Return the names of all streams, sorted, without internal streams."""
        return sorted(self._core.streams())

    def close(self) -> None:
        """Sync all acknowledged records and close the log; closing it again does nothing."""
        self._core.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Log {self.path}>"
