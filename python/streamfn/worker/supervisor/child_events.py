"""Waits for what child processes say, for their exits and for signals, and hands it on."""

from __future__ import annotations

import selectors
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from .child_process import ChildProcess
from .signals import SignalBox

C = TypeVar("C", bound=ChildProcess)
C_contra = TypeVar("C_contra", bound=ChildProcess, contravariant=True)


class ChildHandler(Protocol[C_contra]):
    """Takes in what one kind of child says."""

    def read(self, child: C_contra, /) -> None:
        """Take in the messages that have come."""
        ...

    def exited(self, child: C_contra, /) -> None:
        """Take in the last messages of a child that has exited, and forget it."""
        ...


class _Watched(Generic[C]):
    """A child and its handler."""

    __slots__ = ("child", "handler")

    def __init__(self, child: C, handler: ChildHandler[C]) -> None:
        self.child, self.handler = child, handler

    def read(self) -> None:
        self.handler.read(self.child)

    def exited(self) -> None:
        self.handler.exited(self.child)


class ChildEvents:
    """One selector for all children of a supervisor, of whatever kind, and for its signals."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def watch_signals(
        self, signals: SignalBox, on_signals: Callable[[Iterable[int]], None]
    ) -> None:
        """Have `wait` hand on the numbers of signals."""
        self._selector.register(signals, selectors.EVENT_READ, lambda: on_signals(signals.take()))

    def watch(self, child: C, handler: ChildHandler[C]) -> None:
        """Have `wait` hand on what a child says, and its exit."""
        watched = _Watched(child, handler)
        self._selector.register(child.connection, selectors.EVENT_READ, watched)
        self._selector.register(child.ended, selectors.EVENT_READ, watched)

    def wait(self, seconds: float) -> None:
        """Sleep until something happens, or for so long, and hand on what has happened."""
        ready = [key for key, _ in self._selector.select(seconds)]
        exited = []
        for key in ready:
            watched = key.data
            if not isinstance(watched, _Watched):
                watched()
            elif key.fileobj is watched.child.connection:
                watched.read()
                if watched.child.is_silent:  # it would be readable for ever
                    self._selector.unregister(watched.child.connection)
            else:
                exited.append(watched)
        for watched in exited:  # what the child sent last is read by now
            self._reap(watched)

    def close(self) -> None:
        """Watch nothing any more."""
        self._selector.close()

    def _reap(self, watched: _Watched[C]) -> None:
        child = watched.child
        watched.exited()
        self._selector.unregister(child.ended)
        if child.connection in self._selector.get_map():
            self._selector.unregister(child.connection)
        child.close()
