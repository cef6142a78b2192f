"""The workers that this process has called, and its idle connections to them.

Connections belong to the process that made them: a forked child begins without any.
"""

from __future__ import annotations

import os
import random
from typing import Final

from streamfn import _core

from .connection import SILENCE_SECONDS, Connection, NotCalled
from .frames import Frame
from .request import Request
from .workers import Announced, is_living, read_announced

IDLE_MAX: Final = 64
"""Idle connections that are kept for each worker."""


class Peer:
    """One worker of one log. Threads may share it."""

    def __init__(self, log_dir: str, worker: str) -> None:
        self.log_dir, self.worker = log_dir, worker
        self._idle: list[Connection] = []
        self.answers: bool | None = None
        """Whether it answered the last time; None: it was never asked."""

    def call(self, request: Request, log: _core.Log, patience: float = SILENCE_SECONDS) -> Frame:
        """Send a call on a connection that answers, and return the RESULT or REFUSED.

        Raises:
            NotCalled: The worker does not answer; nothing was called.
            AnswerLost: As `Connection.call`.
        """
        while True:
            connection, is_new = self._take(patience)
            try:
                frame = connection.call(request, lambda: is_living(log, self.worker))
            except NotCalled:
                # WHY again: an idle connection ends with its front, and the next front listens.
                self._drop(connection)
                if is_new:
                    self.answers = False
                    raise
            except BaseException:  # KeyboardInterrupt too: its answer may come later
                self._drop(connection)
                raise
            else:
                self.answers = True
                self._give_back(connection)
                return frame

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._drop(self._idle.pop())

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
        try:
            connection = Connection(self.log_dir, self.worker, patience)
        except NotCalled:
            self.answers = False
            raise
        _state.connections.add(connection)
        return connection, True

    def _give_back(self, connection: Connection) -> None:
        if len(self._idle) < IDLE_MAX:
            self._idle.append(connection)
        else:
            self._drop(connection)

    @staticmethod
    def _drop(connection: Connection) -> None:
        _state.connections.discard(connection)
        connection.close()


class _State:
    """What this process knows; a forked child forgets it."""

    def __init__(self) -> None:
        self.peers: dict[tuple[str, str], Peer] = {}
        """By log directory and worker."""
        self.favourites: dict[tuple[str, str], Peer] = {}
        """By log directory and function: the worker that answered last."""
        self.connections: set[Connection] = set()
        """All that are open."""

    def close(self) -> None:
        for connection in list(self.connections):
            connection.close()
        for known in (self.peers, self.favourites, self.connections):
            known.clear()


_state = _State()
os.register_at_fork(after_in_child=_state.close)


def favourite(function: str, log_dir: str) -> Peer | None:
    """Return the worker that answered the last call of a function.

    WHY: it spares a call the look at all workers, which takes as long as the call.
    """
    peer = _state.favourites.get((log_dir, function))
    return peer if peer is not None and peer.answers else None


def prefer(peer: Peer, function: str) -> None:
    """Ask this worker first, the next time."""
    _state.favourites[peer.log_dir, function] = peer


def look_again(log: _core.Log) -> Announced:
    """Return what the workers announce now, and forget those that have ended."""
    announced = read_announced(log)
    for key, peer in list(_state.peers.items()):
        if key[0] == log.path and key[1] not in announced:
            _state.peers.pop(key, None)
            peer.answers = False
            peer.close()
    return announced


def peers_for(function: str, log: _core.Log, announced: Announced) -> list[Peer]:
    """Return the workers that announce a function: who answered last time first, then random."""
    found = [
        _peer(log.path, worker) for worker, functions in announced.items() if function in functions
    ]
    if len(found) > 1:
        random.shuffle(found)
        found.sort(key=lambda peer: {True: 0, None: 1, False: 2}[peer.answers])
    return found


def _peer(log_dir: str, worker: str) -> Peer:
    key = (log_dir, worker)
    peer = _state.peers.get(key)
    return peer if peer is not None else _state.peers.setdefault(key, Peer(log_dir, worker))


def _popped(idle: list[Connection]) -> Connection | None:
    try:
        return idle.pop()
    except IndexError:
        return None
