"""The event loop of a process, made when it is needed first."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .disturbance import Disturbance

if TYPE_CHECKING:
    from .event_loop import EventLoop


class LazyEventLoop:
    """Has one event loop, or none: a runner without `async` functions does not import asyncio."""

    def __init__(self, *, is_shielded: bool = False) -> None:
        """Begin without a loop.

        Args:
            is_shielded: Whether a thread that waits for a call goes on waiting when something
                raises in it, such as a function's signal handler: its call has not ended.
        """
        self._is_shielded = is_shielded
        self._lock = threading.Lock()
        self._loop: EventLoop | None = None

    def get(self) -> EventLoop:
        """Return the loop.

        Raises:
            Disturbance: There is none to be had.
        """
        with self._lock:
            if self._loop is None:
                try:
                    # WHY: here, for the import of asyncio takes as long as that of all the rest.
                    from .event_loop import EventLoop  # noqa: PLC0415

                    self._loop = EventLoop(is_shielded=self._is_shielded)
                except BaseException as error:  # noqa: BLE001 -- no loop for anybody's call
                    raise Disturbance(error, is_fatal=True) from None
            return self._loop

    def close(self) -> None:
        """Close the loop, if one was needed; the next `get` makes another."""
        with self._lock:
            if self._loop is not None:
                self._loop.close()
                self._loop = None
