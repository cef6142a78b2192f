"""What servers share: how their process runs, and how the way to a function is timed.

A server listens on loopback, keeps its files in a folder of its own, and ends by its process id.
"""

import ctypes
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

import orjson
from systems import Durability

from streamfn.bench.measures import LATENCY_RATE, Times

LOOPBACK: Final = "127.0.0.1"
LATENCY_BYTES: Final = 100
"""Of a record whose way to a function is timed."""
PATIENCE: Final = 60.0
"""Seconds after which something that should have happened counts as broken."""
_PRCTL: Final = ctypes.CDLL(None).prctl
_SET_PARENT_DEATH_SIGNAL: Final = 1
Answer = TypeVar("Answer")


class Server:
    """The process of a peer's server; what it says goes to `server.log`."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self._said = folder / "server.log"
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                command, cwd=folder, stdout=said, stderr=said,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 -- a system call, no lock
            )  # fmt: skip

    def wait_for(self, attempt: Callable[[], Answer | None]) -> Answer:
        """Try until there is an answer: the server is up."""
        end = time.monotonic() + PATIENCE
        while (answer := attempt()) is None:
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"the server did not start: {self._said.read_text()}")
            time.sleep(0.01)
        return answer

    def stop(self) -> None:
        """End the process and wait until it has gone."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _end_with_parent() -> None:
    """Be sent SIGTERM when the parent dies, even if that was killed."""
    _PRCTL(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nobody listens on."""
    with ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind((LOOPBACK, 0))
        return [probe.getsockname()[1] for probe in sockets]


class Pushing(Protocol):
    """A system that wakes a function in another process when a record comes."""

    def __init__(self, folder: Path, durability: Durability) -> None: ...

    def put_each(self, records: Iterable[bytes]) -> None:
        """Append records one by one; each is durable before the next is asked for."""

    def follower(self, count: int) -> list[str]:
        """Return the command of a process that follows from the end on, as `follow` hears it."""

    def close(self) -> None:
        """Let go of the files."""


@dataclass(frozen=True, slots=True)
class Way:
    """How long records were on their way from `put` to the function."""

    times: Times
    rate: float
    """Records a second that were put; less than was asked for if the system did not keep up."""


def follow(system: Pushing, count: int, record_bytes: int) -> Way:
    """Time the way of `count` records, `LATENCY_RATE` a second, to a function in another process.

    The follower says `ready` when it would get a record. Each record begins with the nanoseconds of
    `time.monotonic` at which it was put; when the follower has seen all, it says the seconds each
    was on its way, as a JSON array.
    """
    with subprocess.Popen(system.follower(count), stdout=subprocess.PIPE) as follower:
        assert follower.stdout is not None
        try:
            assert follower.stdout.readline() == b"ready\n"
            begun = time.monotonic()
            system.put_each(_stamped(count, record_bytes))
            rate = count / (time.monotonic() - begun)
            times: list[float] = orjson.loads(follower.stdout.read())
        finally:
            follower.kill()
    assert len(times) == count
    return Way(Times.of(times), rate)


def _stamped(count: int, record_bytes: int) -> Iterator[bytes]:
    """Records that say when they were put, each when it is due."""
    due = time.monotonic()
    for _ in range(count):
        # An event loop that waits for the next of these has nothing else to do.
        time.sleep(max(0.0, due - time.monotonic()))
        due += 1 / LATENCY_RATE
        yield (b"%d " % time.monotonic_ns()).ljust(record_bytes, b".")


def on_its_way(data: bytes, now: int) -> float:
    """Seconds since a stamped record was put; `now` in nanoseconds of `time.monotonic`."""
    return (now - int(data.split(maxsplit=1)[0])) / 1e9


def say_ready() -> None:
    """A follower would get a record from now on."""
    print("ready", flush=True)


def say_times(times: Sequence[float]) -> None:
    """A follower has seen all records."""
    sys.stdout.buffer.write(orjson.dumps(times))
