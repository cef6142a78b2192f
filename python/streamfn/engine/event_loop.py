"""The event loop of a thread that calls `async` functions; imported only where there are some."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from pathlib import Path

from streamfn.errors import FunctionTimedOut

FRAMES = str(Path(asyncio.__file__).parent)
"""Where the frames lie that a user's traceback does without."""


class EventLoop:
    """Runs one call after the other, each cancelled at its timeout."""

    def __init__(self, timeout_seconds: float) -> None:
        self._seconds = timeout_seconds
        self._runner = asyncio.Runner()

    def finish(self, returned: object) -> object:
        """Run an awaitable to its end; anything else is returned as it is.

        Raises:
            FunctionTimedOut: It was cancelled.
        """
        if not inspect.isawaitable(returned):
            return returned
        return self._runner.run(self._bounded(returned))

    def close(self) -> None:
        """Cancel what the calls left running, and close."""
        self._runner.close()

    async def _bounded(self, awaitable: Awaitable[object]) -> object:
        scope = asyncio.timeout(self._seconds)
        try:
            async with scope:
                return await awaitable
        except TimeoutError as error:
            if scope.expired():
                raise FunctionTimedOut(self._seconds) from error
            raise
