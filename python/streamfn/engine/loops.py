"""The event loop of a process, made when it is needed first."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .event_loop import EventLoop


class Loops:
    """Has one event loop, or none: a runner without `async` functions does not import asyncio."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: EventLoop | None = None

    def get(self) -> EventLoop:
        """Return the loop."""
        with self._lock:
            if self._loop is None:
                # WHY: here, for the import of asyncio takes as long as that of all the rest.
                from .event_loop import EventLoop  # noqa: PLC0415

                self._loop = EventLoop()
            return self._loop

    def close(self) -> None:
        """Close the loop, if one was needed."""
        with self._lock:
            if self._loop is not None:
                self._loop.close()
                self._loop = None
