"""Writes lines to a stream in a thread, so that a slow reader never holds the caller up."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, TextIO

LINES_MAX: Final = 10_000
BYTES_MAX: Final = 16 * 2**20
"""Lines, and their characters together, that may wait; those that come then are dropped."""
CLOSE_SECONDS: Final = 5.0
"""How long the last lines may take at the end."""


class LineWriter:
    """A queue of lines before a stream.

    If the stream takes no more, because its reader is slow or its terminal stopped, up to
    `LINES_MAX` lines wait. Others are dropped and counted.
    """

    def __init__(self, stream: Callable[[], TextIO], dropped: Callable[[int], str]) -> None:
        """Start without a thread; the first line starts it.

        Args:
            stream: Returns where lines go.
            dropped: Returns the line that says how many lines were dropped.
        """
        self._stream, self._dropped_line = stream, dropped
        self._waiting: deque[str] = deque()
        self._size = self._dropped = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._is_writing = False

    def write(self, line: str) -> None:
        """Write a line, as soon as the stream takes it."""
        with self._changed:
            if len(self._waiting) >= LINES_MAX or self._size + len(line) > BYTES_MAX:
                self._dropped += 1
                return
            if self._dropped:
                self._add(self._dropped_line(self._dropped))
                self._dropped = 0
            self._add(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, seconds: float = CLOSE_SECONDS) -> None:
        """Wait until all lines are written, but not for ever."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._waiting or self._is_writing), seconds)

    def close(self) -> None:
        """Write what waits, and end the thread; a stream that takes nothing is given up."""
        with self._changed:
            if self._dropped:
                self._add(self._dropped_line(self._dropped))
                self._dropped = 0
            self._is_closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)

    def _add(self, line: str) -> None:
        self._waiting.append(line)
        self._size += len(line)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if not self._waiting:
                    return
                lines, self._waiting, self._size = self._waiting, deque(), 0
                self._is_writing = True
            # WHY one write: other programs that write to the same terminal come between lines only.
            with contextlib.suppress(OSError, ValueError):
                stream = self._stream()
                stream.write("".join(f"{line}\n" for line in lines))
                stream.flush()
