"""The idle connections of this process to the fronts of workers, for callers that block.

Connections belong to the process that made them: a forked child begins without any.
"""

from __future__ import annotations

import atexit
import os
from typing import Final

from streamfn import _core

from .connection import Connection, opened
from .frames import Frame
from .liveness import SILENCE_SECONDS, NotCalled
from .request import Request
from .workers import is_living

IDLE_MAX: Final = 64
"""Idle connections that are kept for each worker."""
PEERS_MAX: Final = 64
"""Workers to which connections are kept; beyond it, those of the oldest are closed."""


class Peer:
    """One worker of one log. Threads may share it."""

    def __init__(self, log_dir: str, worker: str) -> None:
        self._log_dir, self._worker = log_dir, worker
        self._idle: list[Connection] = []

    def call(self, request: Request, log: _core.Log, patience: float = SILENCE_SECONDS) -> Frame:
        """Send a call on a connection that answers, and return the RESULT or REFUSED.

        Args:
            request: The call.
            log: The log of the worker.
            patience: Seconds to wait for HELLO on a new connection.

        Raises:
            NotCalled: The worker does not answer; nothing was called.
            AnswerLost: As `Connection.call`.
        """
        while True:
            connection, is_new = self._take(patience)
            try:
                frame = connection.call(request, lambda: is_living(log, self._worker))
            except NotCalled:
                # WHY again: an idle connection ends with its front, and the next front listens.
                self._drop(connection)
                if is_new:
                    raise
            except BaseException:  # KeyboardInterrupt too: its answer may come later
                self._drop(connection)
                raise
            else:
                self._give_back(connection)
                return frame

    def close(self) -> None:
        """Close the idle connections."""
        while (connection := _popped(self._idle)) is not None:
            self._drop(connection)

    def _take(self, patience: float) -> tuple[Connection, bool]:
        """Return a connection that answers, the last one used first, and whether it is new."""
        while (connection := _popped(self._idle)) is not None:
            if connection.is_fresh:
                return connection, False
            try:
                connection.ping()
            except NotCalled:
                self._drop(connection)
                self.close()  # WHY all: they lead to the same front, and are older
            except BaseException:
                self._drop(connection)
                raise
            else:
                return connection, False
        connection = opened(self._log_dir, self._worker, patience)
        _open.add(connection)
        return connection, True

    def _give_back(self, connection: Connection) -> None:
        if len(self._idle) < IDLE_MAX:
            self._idle.append(connection)
        else:
            self._drop(connection)

    @staticmethod
    def _drop(connection: Connection) -> None:
        _open.discard(connection)
        connection.close()


_open: set[Connection] = set()
"""All connections of this process."""
_peers: dict[tuple[str, str], Peer] = {}
"""By log directory and worker."""


def peer_of(log_dir: str, worker: str) -> Peer:
    """Return the peer for a worker."""
    key = log_dir, worker
    peer = _peers.get(key)
    if peer is None:
        peer = _peers.setdefault(key, Peer(log_dir, worker))
        for old in list(_peers)[:-PEERS_MAX]:
            _peers.pop(old).close()
    return peer


def _close_all() -> None:
    for connection in list(_open):
        connection.close()
    _open.clear()
    _peers.clear()


os.register_at_fork(after_in_child=_close_all)
atexit.register(_close_all)


def _popped(idle: list[Connection]) -> Connection | None:
    try:
        return idle.pop()
    except IndexError:
        return None
