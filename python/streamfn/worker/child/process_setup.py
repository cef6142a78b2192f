"""What a runner sets up in its process, and what forked children must not inherit of it."""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import os
import signal
import socket
import sys
import threading
from types import FrameType
from typing import Final

IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
"""Signals that are the supervisor's: it drains, and tells its runners."""
SHIELDED: Final = (*IGNORED, signal.SIGUSR1)
"""Those that a runner handles."""


def prepare_process() -> None:
    """Leave signals to the supervisor; write stacks on SIGUSR1 and on a crash."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    for number in IGNORED:
        # WHY: a handler, where SIG_IGN would be inherited by the programs that a function starts.
        signal.signal(number, _ignore)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(line_buffering=True)  # what a function printed survives its crash


def let_children_be(connection: socket.socket, lifeline: int) -> None:
    """Have forked children close the descriptors of this runner, and take default signal handlers.

    Handlers that the app or a function installed stay, as after any fork. The log closes its own
    descriptors, and the board takes nothing from a child (`_core`).

    Args:
        connection: To the supervisor.
        lifeline: The pipe that the native thread reads.
    """
    pipe, masks = _identity(lifeline), threading.local()

    def before() -> None:
        # WHY: a signal that comes before the child has its own handlers would be ours, and lost.
        masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, SHIELDED)

    def in_parent() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.before)

    def in_child() -> None:
        with contextlib.suppress(OSError):
            connection.close()
        with contextlib.suppress(OSError):
            if _identity(lifeline) == pipe:  # or a function closed it, and has the number now
                os.close(lifeline)
        _restore_signals()
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.before)

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)


def run_exit_functions() -> None:
    """Do what Python does at its end; whatever the user's exit functions raise is theirs."""
    with contextlib.suppress(BaseException):
        _end_child_processes()
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()  # noqa: SLF001 -- there is no public way
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()


def _end_child_processes() -> None:
    """Ask children that `multiprocessing` started to end, or its exit function waits for them."""
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is not None:
        for child in multiprocessing.active_children():
            child.terminate()


def _restore_signals() -> None:
    for number in IGNORED:
        if signal.getsignal(number) is _ignore:
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)
    if signal.getsignal(signal.SIGUSR1) is None:  # faulthandler's, which Python does not know
        faulthandler.unregister(signal.SIGUSR1)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Do nothing."""


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
