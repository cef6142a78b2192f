"""Calls a function through a worker of the log without blocking the event loop."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from typing import Any, Final
from weakref import WeakKeyDictionary

from streamfn import _core
from streamfn.errors import FunctionNotFound, WorkerUnavailable
from streamfn.log import Log

from .async_connection import AsyncConnection, opened
from .frames import Frame
from .invoke import CallOptions, Local, check, check_here, here, payload_of, shown
from .liveness import SILENCE_SECONDS, AnswerLost, NotCalled
from .logs import existing_log, is_open
from .reply import Reply, value_of
from .request import Request
from .search import Offer, Search
from .workers import is_announced, is_living


class AsyncPeer:
    """One worker of one log, for one event loop: a connection that all its tasks share."""

    def __init__(self, log_dir: str, worker: str) -> None:
        self._log_dir, self._worker = log_dir, worker
        self._connection: AsyncConnection | None = None
        self._opening: asyncio.Task[AsyncConnection] | None = None

    async def call(
        self, request: Request, log: _core.Log, patience: float = SILENCE_SECONDS
    ) -> Frame:
        """Send a call on a connection that answers, and return the RESULT or REFUSED.

        Raises:
            NotCalled: The worker does not answer; nothing was called.
            AnswerLost: As `AsyncConnection.call`.
        """
        for is_last in (False, True):
            connection = await self._ready(patience)
            try:
                return await connection.call(request, lambda: is_living(log, self._worker))
            except NotCalled:
                # WHY again: an idle connection ends with its front, and the next front listens.
                if is_last:
                    raise
        raise AssertionError("the second try returns or raises")

    async def _ready(self, patience: float) -> AsyncConnection:
        """Return the connection, once it has answered; all tasks wait for one opening or ping."""
        deadline = time.monotonic() + patience
        while True:
            if self._connection is not None and self._connection.is_fresh:
                return self._connection
            left = max(deadline - time.monotonic(), 0.0)
            try:
                # WHY shielded: the task that began it may be cancelled.
                return await asyncio.shield(self._opening or self._begin(left))
            except NotCalled:
                if time.monotonic() >= deadline:
                    raise

    def _begin(self, patience: float) -> asyncio.Task[AsyncConnection]:
        self._opening = asyncio.create_task(self._open(patience))
        self._opening.add_done_callback(self._opened)
        return self._opening

    def _opened(self, task: asyncio.Task[AsyncConnection]) -> None:
        self._opening = None
        if not task.cancelled():
            task.exception()  # WHY: asyncio logs it, if no task is left that takes it

    async def _open(self, patience: float) -> AsyncConnection:
        if self._connection is not None and not await _answers(self._connection):
            self._connection.retire()
            self._connection = None
        if self._connection is None:
            self._connection = await opened(self._log_dir, self._worker, patience)
        return self._connection


async def _answers(connection: AsyncConnection) -> bool:
    if connection.is_closed:
        return False
    try:
        await connection.ping()
    except NotCalled:
        return False
    return True


_Peers = dict[tuple[str, str], AsyncPeer]
_loops: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _Peers]] = WeakKeyDictionary()
os.register_at_fork(after_in_child=_loops.clear)


async def invoke_through_worker(
    log: Log,
    function: str,
    payload: bytes,
    *,
    client_context: Any = None,  # noqa: ANN401 -- any JSON value
    tail: bool = False,
) -> Reply:
    """Call a function in a process of a worker; see `client.invoke_through_worker`.

    If the task is cancelled, the call goes on, and its answer is dropped.
    """
    core = log.core
    search = Search(core, function, payload, client_context, tail)
    offers = search.offers()
    offer = await _next(offers, is_first=True, search=search)
    while True:
        peers = _loops.setdefault(asyncio.get_running_loop(), {})
        key = core.path, offer.worker
        peer = peers.get(key) or peers.setdefault(key, AsyncPeer(*key))
        try:
            frame = await peer.call(search.request, core, offer.patience)
        except NotCalled:
            search.not_called(offer)
        except AnswerLost as error:
            raise search.request.lost(error.reason) from None
        else:
            if (reply := search.heard(offer, frame)) is not None:
                return reply
        offer = await _next(offers, is_first=False, search=search)


async def _next(offers: Iterator[Offer], *, is_first: bool, search: Search) -> Offer:
    """Return the next worker to ask; to look at all workers is left to a thread."""
    if is_first and search.has_favourite:
        return next(offers)
    return await asyncio.to_thread(next, offers)


async def invoke(function: str, payload: object, options: CallOptions, local: Local) -> Any:  # noqa: ANN401 -- any JSON value
    """Call a function and return what it returned; see `streamfn.invocation.invoke.invoke`.

    A call in this process runs in a thread.
    """
    return value_of(shown(await _answered(function, payload_of(payload), options, local)))


async def _answered(function: str, payload: bytes, options: CallOptions, local: Local) -> Reply:
    check(payload, options)
    if is_open(options.log):
        log = existing_log(options.log)
    else:
        log = await asyncio.to_thread(existing_log, options.log)
    if log is None or options.where == "local":
        return await asyncio.to_thread(here, function, payload, options, local)
    context, tail = options.client_context, options.tail
    try:
        return await invoke_through_worker(
            log, function, payload, client_context=context, tail=tail
        )
    except (FunctionNotFound, WorkerUnavailable) as error:
        if options.where == "worker":
            raise
        if await asyncio.to_thread(is_announced, log.core, error.name):
            raise
        check_here(function, error, local)
    return await asyncio.to_thread(local.run, payload)
