"""A log directory, open."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any, Literal, Self

from streamfn import _core
from streamfn.errors import ConfigError
from streamfn.model.stream import Durability, Retention
from streamfn.units import parse_duration, parse_size

from .stream import Stream


class Log:
    """A log directory, open. Also a context manager that closes it.

    Threads may share it. After a `fork` the child opens its own.
    """

    __slots__ = ("_core",)

    def __init__(self, core: _core.Log) -> None:
        self._core = core

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, durability: Durability = "group", create: bool = True
    ) -> Log:
        """Open a log directory, and make it unless `create=False`.

        Args:
            path: The directory; a local file system.
            durability: Default of the streams this handle creates. `"group"`: what is acknowledged
                survives power loss; `"process"`: the kill of any process.
            create: Whether a directory that is not there, or is empty, becomes a log.

        Raises:
            ConfigError: It is something else, or lies on a network file system.
            UnsupportedFormat: A version that this one does not read wrote it.
        """
        return cls(_core.Log.open(os.fsdecode(path), durability=durability, create=create))

    @property
    def core(self) -> _core.Log:
        """The handle of the core."""
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
        compression: Literal["zstd", "none"] = "zstd",
        exist_ok: bool = False,
    ) -> Stream:
        """Create a stream and return it.

        Args:
            name: 1 to 128 of letters, digits, `_` and `-`.
            shards: How many; records of one partition key always go to the same.
            durability: `"group"` or `"process"`; default: that of this handle.
            retention: `"7d"`, `"10GiB"`, `"consumed"`, or a tuple of these. None: keep all.
            compression: Of the data on disk.
            exist_ok: Return a stream that is there already, as it is.

        Raises:
            ConfigError: A value that cannot be used.
            StreamExists: It is there already.
        """
        created = self._core.create_stream(
            name,
            shards=shards,
            durability=durability,
            compression=compression,
            exist_ok=exist_ok,
            **_retention(retention),
        )
        return Stream(self._core, created)

    def remove_stream(
        self, name: str, *, force: bool = False, timeout: float | None = None
    ) -> None:
        """Remove a stream with all its records, for good.

        Who has it open, in any process, gets `StreamNotFound` from then on.

        Args:
            name: The stream.
            force: Also if functions have read it: they forget their positions in it. Their dead
                letters stay.
            timeout: Longest wait for each lock, in seconds. None: 30.

        Raises:
            StreamNotFound: There is none.
            ConfigError: Functions have read it (unless `force`), or a worker is reading it now.
        """
        self._core.remove_stream(name, force=force, timeout=timeout)

    def stream(self, name: str) -> Stream:
        """Return the stream of that name.

        Raises:
            StreamNotFound: There is none.
        """
        return Stream(self._core, self._core.stream(name))

    def streams(self) -> list[str]:
        """Return the names of all streams, sorted; internal ones are left out."""
        return sorted(self._core.streams())

    def close(self) -> None:
        """Sync what is acknowledged and close; a second time does nothing."""
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


def _retention(given: Retention | tuple[Retention, ...] | None) -> dict[str, Any]:
    """Turn `"7d"`, `"10GiB"`, `"consumed"` or a tuple of these into arguments of the core."""
    words = () if given is None else given if isinstance(given, tuple | list) else (given,)
    limits: dict[str, Any] = {}
    for word in words:
        name, value = _limit(word)
        if name in limits:
            raise ConfigError("retention", f"`{word}` is a second limit of its kind, give one")
        limits[name] = value
    return limits


def _limit(word: object) -> tuple[str, float | int | bool]:
    if not isinstance(word, str):
        raise ConfigError("retention", f"`{word}` is not a text, write `7d`, `10GiB` or `consumed`")
    if word == "consumed":
        return "retention_consumed", True
    for name, parse in (("retention_seconds", _seconds), ("retention_bytes", parse_size)):
        try:
            value = parse(word)
        except ValueError:
            continue
        if value > 0 and not word.strip().isdigit():  # a bare number could be either
            return name, value
    raise ConfigError("retention", f"`{word}` is not an age (7d), a size (10GiB) or `consumed`")


def _seconds(word: str) -> float:
    return parse_duration(word).total_seconds()
