"""What every function of a process relies on, and any of them may break for all.

Only what nobody can want broken is put right: an output that is closed, a stack too low for our own
code, threads that take turns too rarely, a tracer that is still set. Where a function works, which
variables it sets and what it puts in place of something else is its own business.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import Any, Final, TextIO

_OUTPUTS: Final = {"stdout": 1, "stderr": 2}
"""Their descriptors."""


class Surroundings:
    """The interpreter's, and the process's, as they were when this was made."""

    def __init__(self) -> None:
        self.depth = sys.getrecursionlimit()
        """Frames that there may be one above the other, at least."""
        self._interval = sys.getswitchinterval()
        self._outputs = {name: getattr(sys, name) for name in _OUTPUTS}
        self._lock = threading.Lock()
        self.is_unseen = False
        """A call has ended since they were looked at, and may have left something broken."""

    def look(self) -> bool:
        """Put right what is broken for everybody; called after a failure, in its thread.

        Returns:
            Whether anything was.
        """
        was_broken = False
        with suppress(BaseException), self._lock:  # a function's own objects are looked at
            was_broken = self._interpreter()
            for name in _OUTPUTS:
                was_broken |= self._output(name)
        self.is_unseen = False
        return was_broken

    def restore_thread(self, tracer: Any, profiler: Any) -> None:  # noqa: ANN401 -- the user's own
        """Take from this thread what a call left set in it, and give our own code its stack back.

        Args:
            tracer: As it was before the call, as the next.
            profiler: See `sys.setprofile`.
        """
        sys.settrace(tracer)
        sys.setprofile(profiler)
        if sys.getrecursionlimit() < self.depth:
            sys.setrecursionlimit(self.depth)

    def _interpreter(self) -> bool:
        is_low = sys.getrecursionlimit() < self.depth
        is_slow = sys.getswitchinterval() > self._interval
        if is_low:
            sys.setrecursionlimit(self.depth)
        if is_slow:
            sys.setswitchinterval(self._interval)
        return is_low or is_slow

    def _output(self, name: str) -> bool:
        """Put an output back that is gone; where it was closed, on the descriptor that it had."""
        if not _is_closed(getattr(sys, name, None)):
            return False
        first = self._outputs[name]
        if _is_closed(first):
            first = _on_descriptor(_OUTPUTS[name])
            self._outputs[name] = first
        setattr(sys, name, first)
        return True


def _is_closed(stream: object) -> bool:
    return stream is None or getattr(stream, "closed", False) is True


def _on_descriptor(number: int) -> TextIO:
    """Return an output on a descriptor, or on none."""
    try:
        os.fstat(number)
    except OSError:
        return open(os.devnull, "w")  # noqa: PTH123 -- it stays
    return open(number, "w", buffering=1, closefd=False)


SURROUNDINGS: Final = Surroundings()
"""Of this process."""
