"""One runner process, seen from its supervisor: started, spoken to, listened to, ended."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from typing import Final, Literal

from streamfn._core import Board

from .messages import Answering, Lines, Message, decode_answer, encode
from .verdict import Cell
from .watch import DeadlineWatch

State = Literal["starting", "ready", "draining"]

CLOSE_SECONDS: Final = 5.0
"""How long a killed process may take to be gone."""
SEND_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Seat:
    """A place that a runner fills; the one who comes after a death takes the same."""

    number: int
    is_solo: bool = False


class RunnerProcess:
    """A child process. Nothing here waits for it: it may be stuck in somebody's function."""

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
        self.is_nobodys = False
        """It was killed for other reasons."""
        self.is_broken = False
        """It gave up by itself: the fault is in the log, or in us."""
        self.is_silent = False
        """It has closed its end: it is dead, or somebody's function closed all descriptors."""
        self._lines = Lines()
        self._outgoing: deque[bytes] = deque()
        self.connection, theirs = socket.socketpair()
        self.connection.settimeout(0)
        lifeline, self._lifeline = os.pipe()
        given = (theirs.fileno(), lifeline, board.fd)
        try:
            self._process = subprocess.Popen(  # noqa: S603 -- this very Python
                [sys.executable, "-m", "streamfn.worker.runner", *map(str, given)],
                stdin=subprocess.DEVNULL,
                pass_fds=given,
            )
        except OSError:
            self.connection.close()
            os.close(self._lifeline)
            raise
        finally:
            theirs.close()
            os.close(lifeline)
        self.ended = os.pidfd_open(self._process.pid)
        """A descriptor that is readable once the process is dead."""

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

    def is_dead(self) -> bool:
        """Whether the process has ended; its descriptors are closed by then, its leases free."""
        return bool(select.select([self.ended], [], [], 0)[0])

    def kill(self) -> None:
        """End it at once, whatever it is doing."""
        self._process.kill()

    def dump_stacks(self) -> None:
        """Have it write the stacks of its threads to stderr."""
        self._process.send_signal(signal.SIGUSR1)

    def exit_detail(self) -> int:
        """Wait for the dead process; return its signal number, or minus its exit code."""
        return -self._process.wait()

    def close(self) -> None:
        """Wait for the dead process, though not for ever, and free what was shared with it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_SECONDS)
        self.connection.close()
        os.close(self.ended)
        os.close(self._lifeline)
