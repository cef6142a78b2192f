"""What every call of a user's function needs, whatever it is called with."""

from __future__ import annotations

from datetime import timedelta
from sys import getprofile, getrecursionlimit, gettrace
from types import TracebackType
from typing import Final

from streamfn.error_text import frames_of
from streamfn.model.function import Handler, is_async, takes_context

from .lazy_event_loop import LazyEventLoop
from .surroundings import SURROUNDINGS

CANCEL_GRACE: Final = timedelta(seconds=1)
"""How long a cancelled `async` call may take to end; after that its process is killed."""


class Handling:
    """How a function is called, and which frames of a traceback are its own."""

    def __init__(self, handler: Handler, loops: LazyEventLoop, *own: str) -> None:
        """Look at a function.

        Args:
            handler: The function.
            loops: The event loop of this process.
            own: Paths whose frames are removed from the top of tracebacks.
        """
        self.takes_context = _takes_context(handler)
        self.is_async = is_async(handler) or is_async(type(handler).__call__)
        """Whether the function runs on the event loop; then a call is cancelled at its timeout."""
        self._loops = loops
        self._first = (__file__, *own)
        self._own: tuple[str, ...] = self._first

    def finish(self, returned: object, seconds: float) -> object:
        """Run an `async` call to its end; other values are returned unchanged.

        Raises:
            FunctionTimedOut: The call was cancelled after `seconds`.
            Disturbance: The call failed, perhaps because of another call.
            BaseException: The function raised.
        """
        loop = self._loops.get()
        self._own = (*self._first, *loop.FRAMES)
        return loop.finish(returned, seconds)

    def frames(self, error: BaseException) -> TracebackType | None:
        """Return an exception's traceback without our own frames at its top."""
        frames = frames_of(error)
        while frames and frames.tb_frame.f_code.co_filename.startswith(self._own):
            frames = frames.tb_next
        return frames


def end_call(tracer: object, profiler: object) -> None:
    """Undo what a function set in this thread, so that later calls do not see it.

    Args:
        tracer: The trace function from before the call.
        profiler: The profile function from before the call.
    """
    SURROUNDINGS.is_unseen = True
    is_as_before = gettrace() is tracer and getprofile() is profiler
    if not is_as_before or getrecursionlimit() < SURROUNDINGS.depth:
        SURROUNDINGS.restore_thread(tracer, profiler)


def _takes_context(handler: Handler) -> bool:
    try:
        return takes_context(handler)
    except ValueError:  # a builtin without a signature
        return False
