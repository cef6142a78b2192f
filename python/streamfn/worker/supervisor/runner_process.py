"""One runner process, seen from its supervisor: started, spoken to, listened to, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from streamfn._core import Board
from streamfn.worker.messages import Answering, Lines, Message, decode_answer, encode

from .deadlines import DeadlineWatch
from .verdict import Cell

State = Literal["starting", "ready", "draining"]

CLOSE_SECONDS: Final = 5.0
"""How long a killed process may take to be gone."""
LEAVE_SECONDS: Final = 5.0
"""How long exit functions may take: those of an app may never return."""
SEND_BYTES: Final = 1 << 16
PROGRAM: Final = str(Path(__file__).parents[1] / "child" / "start_child.py")
MODULE: Final = "streamfn.worker.runner.runner"


@dataclass(frozen=True, slots=True)
class Seat:
    """A place that a runner fills; the one who comes after a death takes the same."""

    number: int
    is_solo: bool = False


class RunnerProcess:
    """A child process. Nothing here waits for it: it may be stuck in somebody's function.

    It leads a process group of its own, which ends with it: so nothing that a function started
    outlives its runner, unless it left the group (`setsid`).
    """

    def __init__(self, number: int, seat: Seat, board: Board) -> None:
        """Start the process; it says `Ready` or `NotReady` when it has imported the app.

        Args:
            number: Its number in this worker, never used again.
            seat: What it fills.
            board: Memory to share with it; kept after its death.
        """
        self.number, self.seat, self.board = number, seat, board
        self.state: State = "starting"
        self.watch: DeadlineWatch | None = None
        self.expired: frozenset[Cell] = frozenset()
        """Calls past their time, for which it was killed."""
        self.is_blameless = False
        """It was killed for other reasons."""
        self.is_broken = False
        """It gave up by itself: the fault is in the log, or in us."""
        self.is_exhausted = False
        """It has no descriptors or no memory left, and ends as soon as its calls have."""
        self.is_in_doubt = False
        """It gave up by itself: calls failed in it for what others did."""
        self.is_silent = False
        """It has closed its end: it is dead, or somebody's function closed all descriptors."""
        self._leaves_since: float | None = None
        """When it said that it was about to end, on the monotonic clock."""
        self._leaves_with: int | None = None
        """The exit code that it then named. WHY it holds, however the process ends: what exit
        functions do comes after everything that matters."""
        self._lines = Lines()
        self._outgoing: deque[bytes] = deque()
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            self.connection, control = socket.socketpair()
            ours.enter_context(self.connection)
            theirs.enter_context(control)
            self.connection.settimeout(0)
            lifeline, self._lifeline = os.pipe()
            theirs.callback(os.close, lifeline)
            ours.callback(os.close, self._lifeline)
            given = (control.fileno(), lifeline, board.fd)
            self._process = subprocess.Popen(  # noqa: S603 -- this very Python
                [sys.executable, "-P", PROGRAM, MODULE, *map(str, given)],
                stdin=subprocess.DEVNULL,
                pass_fds=given,
                process_group=0,
            )
            ours.callback(self._process.wait)
            ours.callback(self.kill)
            self.ended = os.pidfd_open(self._process.pid)
            """A descriptor that is readable once the process is dead."""
            ours.pop_all()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, message: Message) -> None:
        """Send a message, now or as soon as the runner takes it."""
        self._outgoing.append(encode(message))
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it."""
        while self._outgoing:
            line = self._outgoing.popleft()
            try:
                sent = self.connection.send(line)
            except BlockingIOError:
                sent = 0
            except OSError:  # it is dead, and its end is about to be noticed
                self._outgoing.clear()
                return
            if sent < len(line):
                self._outgoing.appendleft(line[sent:])
                return

    def receive(self) -> list[Answering]:
        """Return the messages that have come; after its death, the last of them."""
        answers: list[Answering] = []
        while True:
            try:
                data = self.connection.recv(SEND_BYTES)
            except BlockingIOError:
                return answers
            except OSError:
                data = b""
            if not data:
                self.is_silent = True
                return answers
            answers += [decode_answer(line) for line in self._lines.feed(data)]

    def cells(self) -> tuple[Cell, ...]:
        """Return the calls in progress; after its death, those it died in."""
        return tuple(Cell(*cell) for cell in self.board.cells())

    @property
    def is_drained(self) -> bool:
        """Whether it has given all lanes back, and only its exit functions are left to run."""
        return self._leaves_with == 0

    def leaves(self, exit_code: int, now: float) -> None:
        """It says that only the exit functions of its process are left to run."""
        self._leaves_since, self._leaves_with = now, exit_code
        if exit_code == 0:
            self.state = "draining"

    def end_if_it_does_not_leave(self, now: float) -> None:
        """Kill it when its exit functions have run too long; its end counts as if they had not."""
        if self._leaves_since is not None and now - self._leaves_since > LEAVE_SECONDS:
            self._leaves_since = None
            self.kill()

    def kill(self) -> None:
        """End it and its process group at once, whatever they are doing."""
        self.signal_group(signal.SIGKILL)

    def signal_group(self, number: int) -> None:
        """Send a signal to the process and to what it started."""
        # INVARIANT: the process is not reaped before `exit_detail` or `close`, so its id, which is
        # the group's, is nobody else's.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def dump_stacks(self) -> None:
        """Have it write the stacks of its threads to stderr."""
        signal.pidfd_send_signal(self.ended, signal.SIGUSR1)

    def exit_detail(self) -> int:
        """Reap the dead process; return its signal number, or minus its exit code.

        What it had started is killed first: once the process is reaped, its id may be reused.
        """
        self.kill()
        detail = -self._process.wait()
        return detail if self._leaves_with is None else -self._leaves_with

    def close(self) -> None:
        """Wait for the dead process, though not for ever, and free what was shared with it."""
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_SECONDS)
        self.connection.close()
        os.close(self.ended)
        os.close(self._lifeline)
