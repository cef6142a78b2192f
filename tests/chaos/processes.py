"""The processes of a run: started, killed, stopped, each by a descriptor of its own.

A signal goes through a pidfd, so it can never reach another process that got the same id. Nothing
is ever signalled but what the harness started, and the runners that its workers started.
"""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO


class Actor:
    """A process that the harness started. Its stderr is kept in a file."""

    def __init__(self, name: str, command: list[str], folder: Path, environment: dict) -> None:
        self.name = name
        self.errors = folder / f"stderr-{name}"
        with self.errors.open("wb") as errors:
            self._process = self._start(command, environment, errors)
        self.pid = self._process.pid
        self._pidfd = os.pidfd_open(self.pid)

    @staticmethod
    def _start(command: list[str], environment: dict, errors: IO[bytes]) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, *command], env=environment, stdin=subprocess.DEVNULL, stderr=errors
        )

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal; False if the process has ended."""
        if self._process.poll() is not None:
            return False
        signal.pidfd_send_signal(self._pidfd, number)
        return True

    def wait(self, seconds: float) -> int | None:
        """Its exit code, as `Popen` gives it; None if it still runs after so long."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def poll(self) -> int | None:
        """Its exit code, if it has ended."""
        return self._process.poll()

    def close(self) -> None:
        """Leave nothing behind."""
        self.signal(signal.SIGKILL)
        self._process.wait()
        os.close(self._pidfd)


class Runner:
    """A child of a worker's supervisor."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid, self._pidfd = pid, pidfd

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal; False if the process has ended."""
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return False
        return True

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within so long."""
        return bool(select.select([self._pidfd], [], [], seconds)[0])

    def close(self) -> None:
        """Forget it."""
        os.close(self._pidfd)


def runners_of(worker: Actor) -> list[Runner]:
    """The living children of a supervisor."""
    return [runner for pid in _children(worker.pid) if (runner := _runner(pid, worker.pid))]


def _runner(pid: int, parent: int) -> Runner | None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    # The id is looked up again now that the descriptor holds it: had it been given to another
    # process in between, that one would have another parent.
    if pid in _children(parent):
        return Runner(pid, pidfd)
    os.close(pidfd)
    return None


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:
        pass
    return sorted(found)
