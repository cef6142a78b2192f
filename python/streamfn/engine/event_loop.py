"""The event loop that all `async` functions of a runner share; imported only where there are some.

One loop, so that calls can share what belongs to a loop: an HTTP session, a pool of connections. It
has a thread of its own; each lane's thread waits there for its call.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Final

from streamfn.errors import FunctionTimedOut


class EventLoop:
    """Runs calls side by side, each cancelled at its timeout."""

    FRAMES: Final = (__file__, str(Path(asyncio.__file__).parent))
    """Where the frames lie that a user's traceback does without."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="async-functions", daemon=True)
        self._thread.start()

    def finish(self, returned: object, timeout_seconds: float) -> object:
        """Run an awaitable to its end, an async generator into a list; return others as they are.

        Called from any thread but the loop's; blocks.

        Raises:
            FunctionTimedOut: It was cancelled.
            BaseException: Whatever the awaitable raised.
        """
        if inspect.isasyncgen(returned):
            returned = _listed(returned)
        if not inspect.isawaitable(returned):
            return returned
        call = asyncio.run_coroutine_threadsafe(_bounded(returned, timeout_seconds), self._loop)
        result, error = call.result()
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        """Cancel what the calls left running, and close."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()


async def _listed(items: AsyncIterator[object]) -> list[object]:
    return [item async for item in items]


async def _bounded(
    awaitable: Awaitable[object], seconds: float
) -> tuple[object, BaseException | None]:
    """Return what the call returned, and what it raised.

    WHY: a task that raises `SystemExit` ends the loop, and with it the calls of the other lanes.
    """
    scope = asyncio.timeout(seconds)
    try:
        async with scope:
            return await awaitable, None
    except TimeoutError as error:
        if not scope.expired():
            return None, error
        timed_out = FunctionTimedOut(seconds)
        timed_out.__cause__ = error
        return None, timed_out.with_traceback(error.__traceback__)
    except BaseException as error:  # noqa: BLE001 -- it is raised again in the thread that called
        return None, error
