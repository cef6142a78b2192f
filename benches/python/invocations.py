"""What calls by request are measured at, and what they are compared with.

Worker, functions and peers are processes of their own. A caller is this process, or one of several.
"""

import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from streamfn import App, Log
from streamfn.invocation.client import invoke_through_worker

SPAWN: Final = multiprocessing.get_context("spawn")
"""WHY: a forked child of a process with a log open begins with what it does not need."""
PATIENCE: Final = 60.0
"""Seconds after which something that should have happened counts as broken."""
CALLERS: Final = 16
BURST: Final = 32
TIMEOUT: Final = 0.3
"""Of the function that does not return."""
IDLE: Final = 0.05
"""`--idle` of a worker whose runners should end between two calls."""

APP: Final = f"""
import os, time
from pathlib import Path
from streamfn import App

app = App("bench")
gate, met = (Path(__file__).with_name(name) for name in ("gate", "met"))

@app.function
def noop(event):
    return event

@app.function(timeout="{TIMEOUT:g}s")
def hang(event):
    while True:
        time.sleep(1)

@app.function
def meet(event):
    began = time.monotonic()
    with met.open("a") as lines:
        lines.write("x\\n")
    while not gate.exists():
        time.sleep(0.1)
    return began
"""
SMALL_APP: Final = """
from streamfn import App

app = App("bench")

@app.function
def noop(event):
    return event
"""
EVENT: Final[dict[str, object]] = {"order": 17}

Call = Callable[[], object]
"""Makes one call and waits for its answer."""


@dataclass(frozen=True, slots=True)
class RequestSize:
    """How much is measured."""

    rounds: int
    calls: int
    """Of one caller in a round."""
    callers: int
    shared_calls: int
    """Of each of several callers in a round."""
    cold_starts: int
    late_calls: int
    burst: int


SMALL: Final = RequestSize(
    rounds=1, calls=20, callers=2, shared_calls=10, cold_starts=1, late_calls=1, burst=2
)
QUICK: Final = RequestSize(
    rounds=5, calls=1_000, callers=CALLERS, shared_calls=200, cold_starts=5, late_calls=20,
    burst=BURST,
)  # fmt: skip
FULL: Final = RequestSize(
    rounds=9, calls=3_000, callers=CALLERS, shared_calls=500, cold_starts=15, late_calls=100,
    burst=BURST,
)  # fmt: skip


class Worker:
    """A worker with an app of functions by request."""

    def __init__(self, folder: Path, *options: str, app: str = APP) -> None:
        folder.mkdir()
        self.app = folder / "bench.py"
        self.app.write_text(app)
        self.gate, self.met = folder / "gate", folder / "met"
        self.log = Log.open(folder / "log")
        command = [sys.executable, "-m", "streamfn", "worker", str(self.app)]
        command += ["--log-dir", self.log.path, *options]
        with (folder / "stderr").open("w") as stderr:
            self.process = subprocess.Popen(command, stderr=stderr, cwd=folder)
        self.stderr = folder / "stderr"

    def wait(self) -> None:
        """Wait until it takes calls."""
        until = time.monotonic() + PATIENCE
        while True:
            assert self.process.poll() is None, self.stderr.read_text()
            try:
                self.call("noop")
            except Exception:
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)
            else:
                return

    def call(self, function: str) -> bytes:
        """Call a function and return its answer, a failure too."""
        return invoke_through_worker(self.log, f"bench.{function}", b"{}").payload

    def runners(self) -> set[int]:
        """The processes that call functions by request."""
        return {pid for pid in self._children() if b"function_runner" in _command_of(pid)}

    def wait_for_none(self) -> None:
        """Wait until no such process is left."""
        until = time.monotonic() + PATIENCE
        while self.runners():
            assert time.monotonic() < until, "the runners do not end"
            time.sleep(0.005)

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        self.log.close()

    def _children(self) -> set[int]:
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return {int(pid) for task in tasks for pid in task.read_text().split()}


@contextmanager
def worker(folder: Path, *options: str, app: str = APP) -> Iterator[Worker]:
    """A worker that takes calls."""
    made = Worker(folder, *options, app=app)
    try:
        made.wait()
        yield made
    finally:
        made.close()


def times_of(call: Call, count: int) -> list[float]:
    """Seconds of each of some calls, after a few that warm up."""
    for _ in range(min(count, 5)):
        call()
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return times


# ---------------------------------------------------------------- one caller


@contextmanager
def one_caller(made: Worker) -> Iterator[dict[str, Call]]:
    """What takes turns: the call by name, of streamfn and of its peers."""
    app = App("bench")
    ours, theirs = SPAWN.Pipe()
    relayed, left = SPAWN.Pipe()
    right, far = SPAWN.Pipe()
    echoes = [
        SPAWN.Process(target=_echo, args=(theirs,), daemon=True),
        SPAWN.Process(target=_echo, args=(far,), daemon=True),
        SPAWN.Process(target=_relay, args=(left, right), daemon=True),
    ]
    for each in echoes:
        each.start()

    def by_pipe(pipe: "Connection[object, object]") -> Call:
        def call() -> object:
            pipe.send(EVENT)
            return pipe.recv()

        return call

    with ProcessPoolExecutor(1, SPAWN) as pool:
        yield {
            "app.invoke": lambda: app.invoke("noop", EVENT, where="worker", log=made.log),
            "raw": lambda: invoke_through_worker(made.log, "bench.noop", b'{"order":17}'),
            "pipe": by_pipe(ours),
            "relayed": by_pipe(relayed),
            "pool": lambda: pool.submit(_noop, EVENT).result(),
        }
    for each in echoes:
        each.terminate()
        each.join()


def _echo(pipe: "Connection[object, object]") -> None:
    with suppress(EOFError):
        while True:
            pipe.send(pipe.recv())


def _relay(left: "Connection[object, object]", right: "Connection[object, object]") -> None:
    """Pass on what comes from the left, and the answer back."""
    with suppress(EOFError):
        while True:
            right.send_bytes(left.recv_bytes())
            left.send_bytes(right.recv_bytes())


def _noop(event: object) -> object:
    return event


# ---------------------------------------------------------------- many callers


class Callers:
    """Processes that call at the same time."""

    def __init__(self, log_dir: str, count: int) -> None:
        self._pipes = []
        self._processes = []
        for _ in range(count):
            ours, theirs = SPAWN.Pipe()
            process = SPAWN.Process(target=_calling, args=(log_dir, theirs), daemon=True)
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)
        for each in self._pipes:
            assert each.recv() == "ready"

    def call(self, count: int) -> tuple[float, list[float]]:
        """So many calls of each: calls a second of all together, and seconds of each call."""
        begun = time.perf_counter()
        for each in self._pipes:
            each.send(count)
        found = [each.recv() for each in self._pipes]
        elapsed = time.perf_counter() - begun
        times = [seconds for each in found for seconds in each]
        return len(times) / elapsed, times

    def close(self) -> None:
        """End them."""
        for process in self._processes:
            process.terminate()
            process.join()


def _calling(log_dir: str, pipe: "Connection[object, object]") -> None:
    with Log.open(log_dir) as log:
        pipe.send("ready")
        while True:
            count = pipe.recv()
            assert isinstance(count, int)
            times = []
            for _ in range(count):
                begun = time.perf_counter()
                invoke_through_worker(log, "bench.noop", b'{"order":17}')
                times.append(time.perf_counter() - begun)
            pipe.send(times)


def pool_calls(pool: ProcessPoolExecutor, threads: int, count: int) -> float:
    """Calls a second of some threads, each of which makes so many of a pool of processes."""
    with ThreadPoolExecutor(threads) as callers:

        def call(_: int) -> None:
            for _ in range(count):
                pool.submit(_noop, EVENT).result()

        begun = time.perf_counter()
        list(callers.map(call, range(threads)))
        return threads * count / (time.perf_counter() - begun)


def warm(pool: ProcessPoolExecutor, processes: int) -> None:
    """Make a pool start all of its processes."""
    list(pool.map(time.sleep, [0.1] * processes))


# ---------------------------------------------------------------- starts and ends of runners


def cold_start(made: Worker) -> float:
    """Seconds of a call that finds no runner."""
    made.wait_for_none()
    begun = time.perf_counter()
    made.call("noop")
    return time.perf_counter() - begun


def import_seconds(made: Worker) -> float:
    """Seconds of a process that imports the app and ends."""
    begun = time.perf_counter()
    command = [sys.executable, "-c", f"import {made.app.stem}"]
    subprocess.run(command, cwd=made.app.parent, check=True, timeout=PATIENCE)
    return time.perf_counter() - begun


def late_by(made: Worker) -> float:
    """Seconds from the deadline of a call that does not return, to its answer."""
    made.call("noop")  # there is a runner
    # WHY: the supervisor looks at deadlines at fixed intervals, which must not go with the calls.
    time.sleep(random.uniform(0, 0.25))
    begun = time.perf_counter()
    answer = made.call("hang")
    elapsed = time.perf_counter() - begun
    assert b"Sandbox.Timedout" in answer, answer
    return elapsed - TIMEOUT


@dataclass(frozen=True, slots=True)
class Burst:
    """Calls that came at once while there was no runner."""

    seconds: float
    """Until the last of them ran."""
    started: int
    """Processes."""


def burst(made: Worker, count: int) -> Burst:
    """Make so many calls at once; none returns before all run."""
    for each in (made.gate, made.met):
        each.unlink(missing_ok=True)
    app = App("bench")

    def call(_: int) -> float:
        return float(app.invoke("meet", {}, where="worker", log=made.log))

    with ThreadPoolExecutor(count) as callers:
        begun = time.monotonic()
        answers = callers.map(call, range(count))
        until, seen = begun + PATIENCE, set[int]()
        try:
            while not made.met.exists() or made.met.read_text().count("\n") < count:
                assert time.monotonic() < until, made.stderr.read_text()
                seen |= made.runners()
                time.sleep(0.02)
        finally:
            made.gate.touch()
        last = max(answers)
    return Burst(last - begun, len(seen | made.runners()))


def imports_at_once(made: Worker, count: int) -> float:
    """Seconds in which so many processes import the app, as many at once as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        begun = time.perf_counter()
        list(threads.map(lambda _: import_seconds(made), range(count)))
        return time.perf_counter() - begun


def _command_of(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""  # it has ended
