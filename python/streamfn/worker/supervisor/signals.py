"""Receives the signals of a worker.

SIGTERM, first SIGINT     drain
second SIGINT             abandon, exit code 130
SIGQUIT                   abandon, exit code 131
SIGUSR1                   write stacks and the calls in flight
SIGHUP                    reload the code; drain if the worker's terminal was closed
SIGTSTP                   stop the runners too, which are in their own process groups
"""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, Self

HANDLED: Final = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGHUP, signal.SIGTSTP),
)


class SignalBox:
    """Collects signals while it is entered in the main thread; in other threads it gets none."""

    def __init__(self) -> None:
        self._arrived: deque[int] = deque()
        self._reader, self._writer = socket.socketpair()
        self._before: dict[int, Any] = {}
        self._wakeup_before = -1
        for end in (self._reader, self._writer):
            end.settimeout(0)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._wakeup_before = signal.set_wakeup_fd(
                self._writer.fileno(), warn_on_full_buffer=False
            )
            handler: Callable[[int, FrameType | None], None] = self._arrive
            self._before = {n: signal.signal(n, handler) for n in HANDLED if not _is_nohup(n)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._before:
            signal.set_wakeup_fd(self._wakeup_before)
        self._reader.close()
        self._writer.close()

    def fileno(self) -> int:
        """Return a descriptor that is readable when a signal has arrived."""
        return self._reader.fileno()

    def take(self) -> list[int]:
        """Return the signals that arrived since the last call of this method."""
        try:
            while self._reader.recv(1024):
                pass
        except BlockingIOError:
            pass
        taken = list(self._arrived)
        for _ in taken:
            self._arrived.popleft()
        return taken

    def _arrive(self, number: int, _frame: FrameType | None) -> None:
        self._arrived.append(number)


def signal_name(number: int) -> str:
    """Return the name of a signal, such as `SIGKILL`."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _is_nohup(number: int) -> bool:
    """Whether the signal is SIGHUP and was ignored from the start, as `nohup` wants it."""
    return number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN


class Terminal:
    """The terminal that the worker was started on, if there is one."""

    def __init__(self) -> None:
        """Note whether stderr is a terminal."""
        self._was_there = sys.stderr is not None and sys.stderr.isatty()

    @property
    def is_closed(self) -> bool:
        """Whether it was there and was closed: then the kernel or the shell sends SIGHUP."""
        return self._was_there and not sys.stderr.isatty()
