"""Waits for messages and exits of child processes and for signals, and dispatches them."""

from __future__ import annotations

import selectors
from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar

from .child_output import OutputPipe
from .child_process import ChildProcess
from .signals import SignalBox

C = TypeVar("C", bound=ChildProcess)
C_contra = TypeVar("C_contra", bound=ChildProcess, contravariant=True)


class ChildHandler(Protocol[C_contra]):
    """Handles the messages, the output and the exits of one kind of child."""

    def printed(self, child: C_contra, fields: dict[str, Any], /) -> None:
        """Handle a line that the child printed or logged."""
        ...

    def read(self, child: C_contra, /) -> None:
        """Handle the messages that have been received."""
        ...

    def exited(self, child: C_contra, /) -> None:
        """Handle the last messages of a child that has exited, and forget the child."""
        ...


class _Watched(Generic[C]):
    """A child and its handler."""

    __slots__ = ("child", "handler")

    def __init__(self, child: C, handler: ChildHandler[C]) -> None:
        self.child, self.handler = child, handler

    def read(self) -> None:
        self.handler.read(self.child)

    def read_output(self, pipe: OutputPipe) -> None:
        for fields in pipe.read():
            self.handler.printed(self.child, fields)

    def drain_output(self) -> None:
        for pipe in self.child.outputs:
            for fields in pipe.drain():
                self.handler.printed(self.child, fields)

    def exited(self) -> None:
        self.handler.exited(self.child)


class ChildEvents:
    """One selector for a supervisor's signals and all its children, of any kind."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def watch_signals(
        self, signals: SignalBox, on_signals: Callable[[Iterable[int]], None]
    ) -> None:
        """Make `wait` call `on_signals` with the numbers of signals."""
        self._selector.register(signals, selectors.EVENT_READ, lambda: on_signals(signals.take()))

    def watch(self, child: C, handler: ChildHandler[C]) -> None:
        """Make `wait` call `handler` for a child's messages and its exit."""
        watched = _Watched(child, handler)
        self._selector.register(child.connection, selectors.EVENT_READ, watched)
        self._selector.register(child.ended, selectors.EVENT_READ, watched)
        for pipe in child.outputs:
            self._selector.register(pipe, selectors.EVENT_READ, watched)

    def wait(self, seconds: float) -> None:
        """Sleep until something happens, at most for `seconds`, and call the handlers."""
        ready = [key for key, _ in self._selector.select(seconds)]
        exited = []
        for key in ready:
            watched = key.data
            if not isinstance(watched, _Watched):
                watched()
            elif isinstance(key.fileobj, OutputPipe):
                watched.read_output(key.fileobj)
                if key.fileobj.is_closed:
                    self._selector.unregister(key.fileobj)
            elif key.fileobj is watched.child.connection:
                watched.read()
                if watched.child.is_silent:  # it would stay readable forever
                    self._selector.unregister(watched.child.connection)
            else:
                exited.append(watched)
        for watched in exited:  # after `read`, so that a child's last messages are handled first
            self._reap(watched)

    def close(self) -> None:
        """Close the selector."""
        self._selector.close()

    def _reap(self, watched: _Watched[C]) -> None:
        child = watched.child
        watched.drain_output()
        watched.exited()
        self._selector.unregister(child.ended)
        for source in (child.connection, *child.outputs):
            if source in self._selector.get_map():
                self._selector.unregister(source)
        child.close()
