"""`Log`, `Stream` and `App.invoke` for asyncio: the same methods as coroutines.

    from streamfn import aio

    async with await aio.Log.open("events") as log:
        orders = await log.create_stream("orders", exist_ok=True)
        await orders.put(b"42", "ada")
        async for batch in orders.read(follow=True):
            ...

    total = await aio.invoke(app, "price", {"items": [3, 4]})

Each call of a `Log` runs in a thread pool, where it may block on locks and on the disk. Tasks that
put at the same time share record batches and syncs, as threads do.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from streamfn import _core
from streamfn.app import App
from streamfn.app.calling import LocalCall, full_name
from streamfn.invocation import async_client
from streamfn.invocation.invoke import CallOptions, Where
from streamfn.invocation.logs import LogPlace
from streamfn.log import Log as SyncLog
from streamfn.log import Stream as SyncStream
from streamfn.log.reading import BYTES_MAX, RECORDS_MAX, WAIT_SECONDS
from streamfn.model.batch import Batch
from streamfn.model.mapping import OnCorruption
from streamfn.model.put import PutResult, PutResults
from streamfn.model.stream import StreamInfo

THREADS: Final = 64
"""Calls that run at once. They mostly wait for the disk, so there are more than cores."""

_T = TypeVar("_T")


async def invoke(
    app: App,
    function: str,
    payload: Any = ...,  # noqa: ANN401 -- any JSON value
    *,
    where: Where = "auto",
    log: Log | LogPlace = None,
    client_context: Any = None,  # noqa: ANN401 -- any JSON value
    tail: bool = False,
) -> Any:  # noqa: ANN401 -- any JSON value
    """Call a function by request; see `streamfn.App.invoke`.

    All tasks of an event loop share one connection to each worker, so thousands may call at once.
    If the task is cancelled, the call goes on, and its answer is dropped. A call in this process
    (`where="local"`) runs in a thread.
    """
    place = log._log if isinstance(log, Log) else log  # noqa: SLF001 -- of this module
    options = CallOptions(where, place, client_context, tail)
    name = full_name(app, function)
    return await async_client.invoke(name, payload, options, LocalCall(app, name, options))


class Log:
    """An open log directory; see `streamfn.Log`. As an async context manager it closes the log."""

    def __init__(self, log: SyncLog) -> None:
        """Use `open`."""
        self._log = log
        self._pool = ThreadPoolExecutor(THREADS, "streamfn-aio")
        self._waker = _Waker(log.core, self._pool)

    @classmethod
    async def open(cls, path: str | os.PathLike[str], **options: Any) -> Log:  # noqa: ANN401
        """Open a log directory; takes the options of `streamfn.Log.open`."""
        return cls(await asyncio.to_thread(partial(SyncLog.open, path, **options)))

    @property
    def path(self) -> str:
        """The directory."""
        return self._log.path

    async def create_stream(self, name: str, **options: Any) -> Stream:  # noqa: ANN401
        """Create a stream and return it; takes the options of `streamfn.Log.create_stream`."""
        made = await self._run(partial(self._log.create_stream, name, **options))
        return Stream(made, self._pool, self._waker)

    async def stream(self, name: str) -> Stream:
        """Return the stream of that name, or raise `StreamNotFound`."""
        return Stream(await self._run(partial(self._log.stream, name)), self._pool, self._waker)

    async def streams(self) -> list[str]:
        """Return the names of all streams, sorted."""
        return await self._run(self._log.streams)

    async def remove_stream(self, name: str, **options: Any) -> None:  # noqa: ANN401
        """Remove a stream; takes the options of `streamfn.Log.remove_stream`."""
        await self._run(partial(self._log.remove_stream, name, **options))

    async def close(self) -> None:
        """Sync all acknowledged records and close the log."""
        await asyncio.to_thread(self._log.close)
        self._pool.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<aio.Log {self.path}>"

    async def _run(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)


class Stream:
    """A named set of shards; see `streamfn.Stream`."""

    def __init__(self, stream: SyncStream, pool: ThreadPoolExecutor, waker: _Waker) -> None:
        """Use `Log.stream` or `Log.create_stream`."""
        self._stream, self._pool, self._waker = stream, pool, waker

    @property
    def name(self) -> str:
        """The stream's name."""
        return self._stream.name

    async def put(
        self,
        data: bytes,
        partition_key: str | None = None,
        headers: Mapping[str, bytes] | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 -- of the shard's lock
    ) -> PutResult:
        """Append one record; see `streamfn.Stream.put`.

        If the task is cancelled, the record may or may not have been appended.
        """
        put = partial(self._stream.put, data, partition_key, headers, timeout=timeout)
        return await self._run(put)

    async def put_many(
        self,
        data: Sequence[bytes],
        partition_keys: Sequence[str | None] | None = None,
        headers: Sequence[Mapping[str, bytes] | None] | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 -- of the shards' locks
    ) -> PutResults:
        """Append records; see `streamfn.Stream.put_many`.

        Shapes: len(result) == len(data).
        """
        put = partial(self._stream.put_many, data, partition_keys, headers, timeout=timeout)
        return await self._run(put)

    async def read(
        self,
        start: str | int | datetime = "trim_horizon",
        *,
        shard: str | None = None,
        follow: bool = False,
        on_corruption: OnCorruption = "raise",
    ) -> AsyncIterator[Batch]:
        """Iterate over the records in batches; see `streamfn.Stream.read`."""
        if follow:
            async for batch in self._follow(start, shard, on_corruption):
                yield batch
            return
        read = partial(self._stream.read, start, shard=shard, on_corruption=on_corruption)
        batches = await self._run(read)
        while (batch := await self._run(partial(next, batches, None))) is not None:
            yield batch

    async def split(
        self,
        shard: str,
        *,
        at: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 -- of each lock
    ) -> tuple[str, str]:
        """Split a shard; see `streamfn.Stream.split`."""
        return await self._run(partial(self._stream.split, shard, at=at, timeout=timeout))

    async def merge(
        self,
        a: str,
        b: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 -- of each lock
    ) -> str:
        """Merge two shards; see `streamfn.Stream.merge`."""
        return await self._run(partial(self._stream.merge, a, b, timeout=timeout))

    async def trim(self, before: int | datetime, *, shard: str | None = None) -> int:
        """Delete old records; see `streamfn.Stream.trim`."""
        return await self._run(partial(self._stream.trim, before, shard=shard))

    async def set(self, **settings: Any) -> None:  # noqa: ANN401
        """Change settings; see `streamfn.Stream.set`."""
        await self._run(partial(self._stream.set, **settings))

    async def info(self) -> StreamInfo:
        """Return the stream's settings, shards and sizes."""
        return await self._run(self._stream.info)

    def __repr__(self) -> str:
        return f"<aio.Stream {self.name}>"

    async def _follow(
        self, start: str | int | datetime, shard: str | None, on_corruption: OnCorruption
    ) -> AsyncIterator[Batch]:
        follow = partial(self._stream.follower, start, shard=shard, on_corruption=on_corruption)
        follower = await self._run(follow)
        while not follower.is_over:
            seen = self._waker.seen()
            found = await self._run(partial(follower.poll, RECORDS_MAX, BYTES_MAX))
            for records in found:
                yield Batch(records)
            if not found and not follower.is_over:
                await self._waker.changed(seen)

    async def _run(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)


class _Waker:
    """Waits for changes of a log in a single thread, for all tasks that follow it."""

    def __init__(self, core: _core.Log, pool: ThreadPoolExecutor) -> None:
        self._core, self._pool = core, pool
        self._pending: asyncio.Future[Any] | None = None

    def seen(self) -> int:
        """Return the log's wake word; it changes whenever records become visible."""
        return self._core.wake()

    async def changed(self, seen: int) -> None:
        """Wait until the wake word is no longer `seen`, or for about 100 ms."""
        if self._core.wake() != seen:
            return
        if self._pending is None or self._pending.done():
            loop = asyncio.get_running_loop()
            self._pending = loop.run_in_executor(self._pool, self._core.wait, seen, WAIT_SECONDS)
        await asyncio.shield(self._pending)
