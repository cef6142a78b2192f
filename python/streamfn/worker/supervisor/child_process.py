"""A child process of the supervisor: started, spoken to, listened to, ended.

    starting ──Ready──> ready ──a drain, or it leaves──> draining
        └──────────────────┴──────────────────────────────┴──> exited, seen on `ended`

A runner is the first kind (`runner_process`). The child's own half is `worker.child`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from streamfn.worker.messages import Lines, Message, encode

State = Literal["starting", "ready", "draining"]

CLOSE_SECONDS: Final = 5.0
"""How long a killed process may take to be gone."""
LEAVE_SECONDS: Final = 5.0
"""How long exit functions may take: those of an app may never return."""
RECEIVE_BYTES: Final = 1 << 16
START_CHILD: Final = str(Path(__file__).parents[1] / "child" / "start_child.py")


class ChildProcess:
    """A child process. Nothing here waits for it: user code may hold it for ever.

    It leads a process group of its own, which is killed with it. So nothing that its code started
    outlives it, unless that left the group (`setsid`).
    """

    def __init__(self, module: str, number: int, shared: Sequence[int] = ()) -> None:
        """Start the process.

        Args:
            module: Has `run_process`, which gets the descriptors of the socket, of the life-line
                and of `shared`, in this order.
            number: The number of the process among those of its kind; never used again.
            shared: More descriptors that it inherits.

        Raises:
            OSError: There is no process, descriptor or memory to be had.
        """
        self.number = number
        self.state: State = "starting"
        self.is_blameless = False
        """The supervisor killed it for a reason that has nothing to do with what it was doing."""
        self.is_broken = False
        """It reported that its own code, or the log, failed."""
        self.is_exhausted = False
        """It has no descriptors or no memory left, and ends as soon as its calls have ended."""
        self.is_silent = False
        """Its end of the socket is closed: it has exited, or user code closed all descriptors."""
        self._leaving_since: float | None = None
        """When it reported that it was about to end, on the monotonic clock."""
        self._leaving_with: int | None = None
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
            inherited = (control.fileno(), lifeline, *shared)
            self._process = subprocess.Popen(  # noqa: S603 -- this very Python
                [sys.executable, "-P", START_CHILD, module, *map(str, inherited)],
                stdin=subprocess.DEVNULL,
                pass_fds=inherited,
                process_group=0,
            )
            ours.callback(self._process.wait)
            ours.callback(self.kill)
            self.ended = os.pidfd_open(self._process.pid)
            """A descriptor that is readable once the process has exited."""
            ours.pop_all()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, message: Message) -> None:
        """Send a message, now or as soon as the process takes it."""
        self._outgoing.append(encode(message))
        self.flush()

    def flush(self) -> None:
        """Send the messages that wait, as far as the socket takes them."""
        while self._outgoing:
            line = self._outgoing.popleft()
            try:
                sent = self.connection.send(line)
            except BlockingIOError:
                sent = 0
            except OSError:  # the process has exited, and `ended` is about to say so
                self._outgoing.clear()
                return
            if sent < len(line):
                self._outgoing.appendleft(line[sent:])
                return

    def receive_lines(self) -> list[bytes]:
        """Return the lines that have come; after its exit, the last of them."""
        lines: list[bytes] = []
        while True:
            try:
                data = self.connection.recv(RECEIVE_BYTES)
            except BlockingIOError:
                return lines
            except OSError:
                data = b""
            if not data:
                self.is_silent = True
                return lines
            lines += self._lines.feed(data)

    @property
    def is_drained(self) -> bool:
        """Whether it has given back all that it held, and only its exit functions are left."""
        return self._leaving_with == 0

    def leaves(self, exit_code: int, now: float) -> None:
        """Note its report that only the exit functions of its process are left to run."""
        self._leaving_since, self._leaving_with = now, exit_code
        if exit_code == 0:
            self.state = "draining"

    def retires(self) -> None:
        """Note its report that it has run out of something: it finishes its calls and leaves."""
        self.is_exhausted, self.state = True, "draining"

    def end_if_it_does_not_leave(self, now: float) -> None:
        """Kill it when its exit functions run for too long; it counts as ended before them."""
        if self._leaving_since is not None and now - self._leaving_since > LEAVE_SECONDS:
            self._leaving_since = None
            self.kill()

    def kill(self) -> None:
        """Kill it and its process group at once."""
        self.signal_group(signal.SIGKILL)

    def signal_group(self, number: int) -> None:
        """Send a signal to the process and to what it started."""
        # INVARIANT: the process is not reaped before `exit_detail` or `close`, so its id, which is
        # the group's, belongs to no other process.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def dump_stacks(self) -> None:
        """Have it write the stacks of its threads to stderr."""
        if self.state != "starting":  # its handler may not be there yet, and SIGUSR1 kills
            signal.pidfd_send_signal(self.ended, signal.SIGUSR1)

    def exit_detail(self) -> int:
        """Reap the exited process; return its signal number, or minus its exit code.

        What it had started is killed first: once the process is reaped, its id may be reused.
        """
        self.kill()
        detail = -self._process.wait()
        return detail if self._leaving_with is None else -self._leaving_with

    def close(self) -> None:
        """Wait for the killed process for some seconds, and close its descriptors."""
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_SECONDS)
        self.connection.close()
        os.close(self.ended)
        os.close(self._lifeline)
