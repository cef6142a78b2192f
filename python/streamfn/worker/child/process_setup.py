"""Sets up a child process of the supervisor, and what user code forks from it."""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Final

OOM_SCORE: Final = 500
"""Added to the score of a child process: out of memory, the kernel ends it before a supervisor."""
OOM_SCORE_MAX: Final = 1000
IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
"""Signals that the supervisor handles: it drains its children by messages."""
SHIELDED: Final = (*IGNORED, signal.SIGUSR1)
"""Signals for which a child process installs a handler."""


def prepare_process(stacks: int) -> None:
    """Leave signals to the supervisor; write stacks on SIGUSR1, and to stderr on a crash.

    Args:
        stacks: Descriptor of memory that the supervisor reads.
    """
    raise_oom_score()
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=True)
    for number in IGNORED:
        # WHY a handler: programs that a function starts would inherit SIG_IGN.
        signal.signal(number, _ignore)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(line_buffering=True)  # so that printed lines survive a crash


def raise_oom_score(path: Path = Path("/proc/self/oom_score_adj")) -> None:
    """Make the kernel prefer this process, and those that it starts, when memory runs out.

    WHY: a supervisor that survives notices the kill, and its records are called again at once.
    """
    with contextlib.suppress(OSError, ValueError):
        score = int(path.read_text()) + OOM_SCORE
        path.write_text(str(min(score, OOM_SCORE_MAX)))


def let_children_be(connection: socket.socket, lifeline: int) -> None:
    """Make forked children close this process's descriptors and restore the signal handlers.

    Signal handlers that the app or a function installed stay, as after any fork. The log closes
    its own descriptors, and the board ignores writes of a forked child (`_core`).

    Args:
        connection: The connection to the supervisor.
        lifeline: The pipe that the native thread reads.
    """
    pipe, masks = _identity(lifeline), threading.local()

    def before() -> None:
        # WHY: until the child has its own handlers, ours would handle and lose its signals.
        masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, SHIELDED)

    def in_parent() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.before)

    def in_child() -> None:
        with contextlib.suppress(OSError):
            connection.close()
        with contextlib.suppress(OSError):
            if _identity(lifeline) == pipe:  # a function may have closed it and reused the number
                os.close(lifeline)
        _restore_signals()
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.before)

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)


def run_exit_functions() -> None:
    """Run the exit functions as Python does at exit; ignore the exceptions that they raise."""
    with contextlib.suppress(BaseException):
        _end_child_processes()
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()  # noqa: SLF001 -- no public way
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()


def _end_child_processes() -> None:
    """Terminate children of `multiprocessing`, because its exit function waits for them."""
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is not None:
        for child in multiprocessing.active_children():
            child.terminate()


def _restore_signals() -> None:
    for number in IGNORED:
        if signal.getsignal(number) is _ignore:
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)
    if signal.getsignal(signal.SIGUSR1) is None:  # None: it is faulthandler's handler
        faulthandler.unregister(signal.SIGUSR1)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Do nothing."""


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
