"""A child process of the supervisor: start, messages, signals, exit.

    starting ──Ready──> ready ──a drain, or it leaves──> draining
        ├──> standby ──────┘│                              │
        └───────────────────┴──────────────────────────────┴──> exited, seen on `ended`

A child on `standby` is ready, and waits until the one before it has exited (see `rollover`).

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

from .child_output import OutputPipe
from .memory_watch import MemoryReader, reader_of

State = Literal["starting", "standby", "ready", "draining"]

CLOSE_SECONDS: Final = 5.0
"""How long a killed process may take to exit."""
LEAVE_SECONDS: Final = 5.0
"""How long exit functions may take; those of an app may never return."""
RECEIVE_BYTES: Final = 1 << 16
START_CHILD: Final = str(Path(__file__).parents[1] / "child" / "start_child.py")


class ChildProcess:
    """A child process. No method except `close` waits for it: user code may block it forever.

    It leads its own process group, which is killed with it. So no process that its code started
    survives it, unless that process left the group (`setsid`).
    """

    def __init__(self, module: str, number: int, shared: Sequence[int] = ()) -> None:
        """Start the process.

        Args:
            module: Has `run_process`, which gets the descriptors of the socket, of the life-line
                and of `shared`, in this order.
            number: The number of the process among those of its kind; never used again.
            shared: More descriptors that it inherits.

        Raises:
            OSError: The system has no process, descriptor or memory left.
        """
        self.number = number
        self.state: State = "starting"
        self.is_blameless = False
        """Whether the supervisor killed it for a reason unrelated to its calls."""
        self.is_broken = False
        """Whether it reported that its own code or the log failed."""
        self.is_exhausted = False
        """Whether it is out of descriptors, memory or threads; it exits after its calls."""
        self.is_killed = False
        """Whether the supervisor has killed it, for whatever reason."""
        self.memory_limit: int | None = None
        """Bytes of memory that it may use, see `memory_watch`. None: no limit."""
        self.memory_found: int | None = None
        """What it used when it was killed for exceeding its limit."""
        self._memory: MemoryReader | None = None
        self.is_silent = False
        """Whether its end of the socket is closed: it exited, or user code closed descriptors."""
        self._leaving_since: float | None = None
        """When it reported that it is about to exit, on the monotonic clock."""
        self._leaving_with: int | None = None
        """The exit code that it then reported. WHY it counts even if the process ends otherwise:
        only exit functions run after the report, and their result does not matter."""
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
            self.outputs = (OutputPipe(is_raw=True), OutputPipe(is_raw=False))
            """What it writes to stdout and stderr; and what its Python code prints and logs."""
            for pipe in self.outputs:
                theirs.callback(os.close, pipe.writing_end)
                ours.callback(pipe.close)
            self._stacks = os.memfd_create("streamfn-stacks", os.MFD_CLOEXEC)
            ours.callback(os.close, self._stacks)
            raw, lines = self.outputs
            inherited = (control.fileno(), lifeline, lines.writing_end, self._stacks, *shared)
            self._process = subprocess.Popen(  # noqa: S603 -- this very Python
                [sys.executable, *self._arguments(module, inherited)],
                stdin=subprocess.DEVNULL,
                stdout=raw.writing_end,
                stderr=raw.writing_end,
                pass_fds=inherited,
                process_group=0,
            )
            ours.callback(self._process.wait)
            ours.callback(self.kill)
            self.ended = os.pidfd_open(self._process.pid)
            """A descriptor that is readable once the process has exited."""
            ours.pop_all()

    def _arguments(self, module: str, inherited: Sequence[int]) -> list[str]:
        """Return the arguments of the interpreter; `inherited` are as `module` gets them."""
        return ["-P", START_CHILD, module, *map(str, inherited)]

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def group(self) -> str:
        """The group of functions that it runs; "" if it runs none."""
        return ""

    def memory(self) -> int:
        """Return the bytes of memory that it uses; 0 if they cannot be read now."""
        if self._memory is None:
            self._memory = reader_of(self._process.pid)
        return 0 if self._memory is None else self._memory.read()

    def send(self, message: Message) -> None:
        """Send a message, now or as soon as the process takes it."""
        self._outgoing.append(encode(message))
        self.flush()

    def flush(self) -> None:
        """Send waiting messages, as far as the socket accepts them."""
        while self._outgoing:
            line = self._outgoing.popleft()
            try:
                sent = self.connection.send(line)
            except BlockingIOError:
                sent = 0
            except OSError:  # the process has exited; `ended` is readable or soon will be
                self._outgoing.clear()
                return
            if sent < len(line):
                self._outgoing.appendleft(line[sent:])
                return

    def receive_lines(self) -> list[bytes]:
        """Return the lines received so far; after the exit, the last ones."""
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
        """Whether it has released everything, and only its exit functions are left to run."""
        return self._leaving_with == 0

    def leaves(self, exit_code: int, now: float) -> None:
        """Note its report that only its exit functions are left to run."""
        self._leaving_since, self._leaving_with = now, exit_code
        if exit_code == 0:
            self.state = "draining"

    def retires(self) -> None:
        """Note its report that it is exhausted; it finishes its calls and exits."""
        self.is_exhausted, self.state = True, "draining"

    def end_if_it_does_not_leave(self, now: float) -> None:
        """Kill it if its exit functions run too long; its exit code does not change by that."""
        if self._leaving_since is not None and now - self._leaving_since > LEAVE_SECONDS:
            self._leaving_since = None
            self.kill()

    def end(self) -> None:
        """Kill it for a reason unrelated to its calls: they are made again, and not counted."""
        self.is_blameless = True
        self.kill()

    def kill(self) -> None:
        """Kill the process and its group at once."""
        self.is_killed = True
        self.signal_group(signal.SIGKILL)

    def signal_group(self, number: int) -> None:
        """Send a signal to the process group."""
        # INVARIANT: the process is not reaped before `exit_detail` or `close`, so its id, which is
        # the group's, belongs to no other process.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def dump_stacks(self) -> None:
        """Make it write the stacks of its threads, see `stacks`."""
        os.ftruncate(self._stacks, 0)
        os.lseek(self._stacks, 0, os.SEEK_SET)  # its descriptor has the same position
        if self.state != "starting":  # without its handler, SIGUSR1 would kill it
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.ended, signal.SIGUSR1)

    def stacks(self) -> str:
        """Return the stacks that it has written since `dump_stacks`, perhaps not all yet."""
        size = os.fstat(self._stacks).st_size
        return os.pread(self._stacks, size, 0).decode("utf-8", "backslashreplace")

    def exit_detail(self) -> int:
        """Reap the exited process; return its signal number, or minus its exit code.

        Its process group is killed first: once the process is reaped, its id may be reused.
        """
        self.kill()
        detail = -self._process.wait()
        return detail if self._leaving_with is None else -self._leaving_with

    def close(self) -> None:
        """Kill the process, wait for it for some seconds, and close its descriptors."""
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_SECONDS)
        self.connection.close()
        if self._memory is not None:
            self._memory.close()
        for pipe in self.outputs:
            pipe.close()
        os.close(self._stacks)
        os.close(self.ended)
        os.close(self._lifeline)
