"""The event loop of a process, created on first use."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .disturbance import Disturbance

if TYPE_CHECKING:
    from .event_loop import EventLoop


class LazyEventLoop:
    """Creates the loop on first use; a runner without `async` functions never imports asyncio."""

    def __init__(self, *, is_shielded: bool = False) -> None:
        """Start without a loop.

        Args:
            is_shielded: Whether a thread that waits for a call keeps waiting when an exception is
                raised in it, for example by a function's signal handler.
        """
        self._is_shielded = is_shielded
        self._lock = threading.Lock()
        self._loop: EventLoop | None = None

    def get(self) -> EventLoop:
        """Return the loop.

        Raises:
            Disturbance: No loop could be created.
        """
        with self._lock:
            if self._loop is None:
                try:
                    # WHY here: importing asyncio takes as long as all other imports together.
                    from .event_loop import EventLoop  # noqa: PLC0415

                    self._loop = EventLoop(is_shielded=self._is_shielded)
                except BaseException as error:  # noqa: BLE001 -- the user's loop policy may raise
                    raise Disturbance(error, is_fatal=True) from None
            return self._loop

    def close(self) -> None:
        """Close the loop if there is one; the next `get` creates another."""
        with self._lock:
            if self._loop is not None:
                self._loop.close()
                self._loop = None
