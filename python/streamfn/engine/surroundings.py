"""Repairs process-wide state that all functions share and any of them may break.

Only state that no function can want broken is repaired: a closed output, a recursion limit too low
for our own code, a too long thread switch interval, a tracer that is still set. The working
directory, environment variables and patched objects are the functions' own responsibility.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import Any, Final, TextIO

_OUTPUTS: Final = {"stdout": 1, "stderr": 2}
"""The descriptor of each output."""


class Surroundings:
    """The state of the interpreter and the process when this object was made."""

    def __init__(self) -> None:
        self.depth = sys.getrecursionlimit()
        """The lowest recursion limit allowed."""
        self._interval = sys.getswitchinterval()
        self._outputs = {name: getattr(sys, name) for name in _OUTPUTS}
        self._lock = threading.Lock()
        self.is_unseen = False
        """Whether a call has ended since the last check; it may have broken something."""

    def look(self) -> bool:
        """Repair broken state; called after a failure, in the thread of the call.

        Returns:
            Whether anything was broken.
        """
        was_broken = False
        with suppress(BaseException), self._lock:  # a function's own objects may raise
            was_broken = self._interpreter()
            for name in _OUTPUTS:
                was_broken |= self._output(name)
        self.is_unseen = False
        return was_broken

    def restore_thread(self, tracer: Any, profiler: Any) -> None:  # noqa: ANN401 -- the user's own
        """Restore this thread's tracer and profiler after a call, and the recursion limit.

        Args:
            tracer: The trace function from before the call.
            profiler: The profile function from before the call.
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
        """Restore an output that is closed or None; if needed, open its descriptor again."""
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
    """Return an output on a descriptor; on `/dev/null` if the descriptor is closed."""
    try:
        os.fstat(number)
    except OSError:
        return open(os.devnull, "w")  # noqa: PTH123 -- it stays open
    return open(number, "w", buffering=1, closefd=False)


SURROUNDINGS: Final = Surroundings()
"""The surroundings of this process."""
