"""What the storage engine is measured at by itself: recovery, start-up, take-over, locks, latency.

Whatever is killed is a process of its own, and every time starts just before the kill.
"""

import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from systems import Durability

from streamfn import _core
from streamfn.units import format_duration

MIB: Final = 2**20
SHARD: Final = "shardId-000000000000"
PATIENCE: Final = 60.0
"""Seconds after which something that should have happened counts as broken."""
Condition = Callable[[int, float], bool]
"""About a call: the process that made it, and when."""


@dataclass(frozen=True, slots=True)
class StorageSize:
    """How much is measured."""

    recovered_bytes: int
    log_sizes: tuple[int, ...]
    """Bytes of the logs whose start-up is compared."""
    takeovers: int
    lock_kills: int
    puts: int
    rounds: int


SMALL: Final = StorageSize(4 * MIB, (MIB, 4 * MIB), takeovers=1, lock_kills=2, puts=50, rounds=1)
FULL: Final = StorageSize(
    1024 * MIB,
    (64 * MIB, 1024 * MIB, 4096 * MIB),
    takeovers=200,
    lock_kills=200,
    puts=20_000,
    rounds=3,
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A row of the table."""

    what: str
    result: str
    goal: str = "–"


def quantiles(seconds: Sequence[float], *wanted: float) -> str:
    """Quantiles of some times, for people."""
    ordered = sorted(seconds)
    places = [min(int(len(ordered) * quantile), len(ordered) - 1) for quantile in wanted]
    found = [
        f"p{quantile * 100:g} {format_duration(timedelta(seconds=ordered[at]))}"
        for quantile, at in zip(wanted, places, strict=True)
    ]
    longest = format_duration(timedelta(seconds=ordered[-1]))
    return ", ".join([*found, f"longest {longest} ({len(ordered):,} times)"])


def fill(path: Path, length: int, *, segment_bytes: int | None, is_killed: bool) -> None:
    """Write a log of about `length` bytes in a process that closes it, or is killed."""
    code = """
        import os, random, signal, sys
        from streamfn import _core
        path, length, segment_bytes, is_killed = sys.argv[1], *map(int, sys.argv[2:])
        log = _core.Log.open(path)
        stream = log.create_stream("s", compression="none", segment_bytes=segment_bytes or None)
        noise = random.Random(1).randbytes(1 << 20)
        values = [noise[at : at + 1024] for at in range(0, len(noise), 1024)]
        for _ in range(length >> 20):
            stream.put_many(values)
        if is_killed:
            os.kill(os.getpid(), signal.SIGKILL)
        log.close()
    """
    arguments = [str(path), str(length), str(segment_bytes or 0), str(int(is_killed))]
    process = subprocess.run(_python(code, *arguments), check=False, timeout=600)
    assert process.returncode == (-signal.SIGKILL if is_killed else 0)


def opening(path: Path) -> float:
    """Seconds until a log is open and its stream at hand."""
    started = time.perf_counter()
    log = _core.Log.open(str(path))
    log.stream("s").shards()
    elapsed = time.perf_counter() - started
    log.close()
    return elapsed


def recovery(path: Path, size: StorageSize) -> list[float]:
    """Openings after the machine stopped: no page, and all of the log behind the recovery point."""
    fill(path, size.recovered_bytes, segment_bytes=2048 * MIB, is_killed=True)
    state = path / "streams/s" / SHARD / "state"
    begun = fresh_state(path)
    times = []
    for _ in range(size.rounds):
        (path / "control").unlink()
        state.write_bytes(begun)
        times.append(opening(path))
    return times


def fresh_state(path: Path) -> bytes:
    """The state of a shard that was just made, but with the reservation of the one at `path`."""
    other = path.with_name("other")
    log = _core.Log.open(str(other))
    log.create_stream("s").put(b"x")
    found = (other / "streams/s" / SHARD / "state").read_bytes()
    log.close()
    shutil.rmtree(other)
    return found


def take_lock_and_die(lock: Path) -> tuple[subprocess.Popen[str], float]:
    """A process that holds a lock and is killed; the time of the kill."""
    code = """
        import fcntl, sys, time
        lock = open(sys.argv[1])
        fcntl.flock(lock, fcntl.LOCK_EX)
        print("held", flush=True)
        time.sleep(60)
    """
    process = subprocess.Popen(_python(code, str(lock)), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    at = time.perf_counter()
    process.kill()
    return process, at


def lock_free_again(path: Path, size: StorageSize) -> list[float]:
    """From the kill of who holds `append.lock` to the end of a flock that waits for it."""
    _core.Log.open(str(path)).create_stream("s", durability="process")
    lock = path / "streams/s" / SHARD / "append.lock"
    times = []
    for _ in range(size.lock_kills):
        process, at = take_lock_and_die(lock)
        with lock.open() as ours:
            fcntl.flock(ours, fcntl.LOCK_EX)
            times.append(time.perf_counter() - at)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    return times


def put_after_kill(path: Path, size: StorageSize) -> list[float]:
    """The same to the return of a `put`, which must not find anything broken."""
    stream = _core.Log.open(str(path)).stream("s")
    times = []
    for _ in range(size.lock_kills):
        process, at = take_lock_and_die(path / "streams/s" / SHARD / "append.lock")
        stream.put(b"x")
        times.append(time.perf_counter() - at)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    return times


@contextmanager
def heavy_writes(folder: Path) -> Iterator[None]:
    """A process writes 1 MiB pieces into a file of 2 GiB, over and over, and flushes nothing."""
    code = """
        import os, sys
        piece, at = os.urandom(1 << 20), 0
        descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
        while True:
            os.pwrite(descriptor, piece, at << 20)
            at = (at + 1) % 2048
    """
    target = folder / "heavy"
    with subprocess.Popen(_python(code, str(target))) as process:
        try:
            time.sleep(0.5)
            yield
        finally:
            process.kill()
            process.wait()
            target.unlink()


def puts(path: Path, durability: Durability, count: int) -> list[float]:
    """Times of puts of one record of 1 KiB each."""
    log = _core.Log.open(str(path))
    stream = log.create_stream("s", durability=durability, compression="none")
    value = random.Random(1).randbytes(1024)
    times = []
    for _ in range(count):
        started = time.perf_counter()
        stream.put(value)
        times.append(time.perf_counter() - started)
    log.close()
    return times


APP: Final = """
import os, time
from pathlib import Path
from streamfn import App, Record

app = App("bench")
CALLS = os.open(Path(__file__).with_name("calls"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

@app.stream("s", input="record")
def work(record: Record) -> None:
    os.write(CALLS, f"{os.getpid()} {time.monotonic()}\\n".encode())
    time.sleep(0.002)
"""
RUNNERS: Final = 4
YOUNG: Final = 1.1
"""Seconds after which a runner counts as having come up."""


class Takeover:
    """A worker whose runners are killed while one of them has the only lane and the others wait."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.calls = folder / "calls"
        self.calls.touch()
        (folder / "bench.py").write_text(APP)
        self.stream = _core.Log.open(str(folder / "log")).create_stream("s", durability="process")
        self.stderr = (folder / "stderr").open("w")
        command = [sys.executable, "-m", "streamfn", "worker", str(folder / "bench.py")]
        command += ["--log-dir", str(folder / "log"), "--processes", str(RUNNERS)]
        self.worker = subprocess.Popen(command, stderr=self.stderr)
        self.since: dict[int, float] = {}

    def idle(self, count: int) -> list[float]:
        """From the kill of the lane's runner between two calls to the next call, by another."""
        return [self._time(records=1, pause=0.02) for _ in range(count)]

    def calling(self, count: int) -> list[float]:
        """From the kill of the lane's runner in a call to the same call again.

        The records of a call that was killed run alone in a runner of their own, which may have
        to be started.
        """
        return [self._time(records=50, pause=0.0) for _ in range(count)]

    def _time(self, records: int, pause: float) -> float:
        running, mark = self._running(), self.calls.stat().st_size
        self.stream.put_many([b"x"] * records)
        owner, _ = self._call(mark, lambda *_: True)
        # A runner that dies young and idle counts as one that does not come up.
        time.sleep(pause if owner in running else max(pause, YOUNG))
        mark, at = self.calls.stat().st_size, time.monotonic()
        os.kill(owner, signal.SIGKILL)
        self.stream.put(b"x")
        _, called = self._call(mark, lambda pid, when: pid != owner and when > at)
        return called - at

    def close(self) -> None:
        """End the worker."""
        self.worker.kill()
        self.worker.wait()
        self.stderr.close()

    def _running(self) -> set[int]:
        """The runners that have come up, once those are three or more."""
        until = time.monotonic() + PATIENCE
        while (now := time.monotonic()) < until:
            assert self.worker.poll() is None, Path(self.stderr.name).read_text()
            self.since = {pid: self.since.get(pid, now) for pid in self._children()}
            old = {pid for pid, since in self.since.items() if now - since > YOUNG}
            if len(old) >= RUNNERS - 1:
                return old
            time.sleep(0.01)
        raise TimeoutError("the runners are not there")

    def _children(self) -> set[int]:
        tasks = Path(f"/proc/{self.worker.pid}/task").glob("*/children")
        return {int(pid) for task in tasks for pid in task.read_text().split()}

    def _call(self, mark: int, is_it: Condition) -> tuple[int, float]:
        """The first call noted after `mark` of which that is true."""
        until = time.monotonic() + PATIENCE
        with self.calls.open() as lines:
            lines.seek(mark)
            rest = ""
            while time.monotonic() < until:
                rest += lines.read()
                *whole, rest = rest.split("\n")
                for line in whole:
                    pid, when = line.split(" ")
                    if is_it(int(pid), float(when)):
                        return int(pid), float(when)
                time.sleep(0.0002)
        raise TimeoutError("nobody called the function")


def _python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code), *arguments]
