"""What lanes are measured at: calls that wait side by side, and streams that share workers.

Workers are processes of their own, and their functions write down each call.
"""

import subprocess
import sys
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from scenario import SEED

from streamfn import Log

FACTORS: Final = (1, 8)
KINDS: Final = {"sync, 8 threads": 8, "async": 1}
"""How functions are written, and `--threads` of their worker."""
BATCH: Final = 20
TURNS: Final = 2
"""Records of each key."""
STREAMS: Final = ("left", "right")
SHARDS: Final = 4
STEP: Final = 0.1
"""Seconds from the begin of a window to that of the next."""
PATIENCE: Final = 120.0
"""Seconds after which something that should have happened counts as broken."""


@dataclass(frozen=True, slots=True)
class LaneSize:
    """How much is measured."""

    rounds: int
    keys: int
    shared_seconds: float
    """How long the streams share workers."""
    window: float
    """Seconds in which each stream should get its part, whenever they begin."""


SMALL: Final = LaneSize(rounds=1, keys=256, shared_seconds=3.0, window=1.0)
FULL: Final = LaneSize(rounds=3, keys=4_096, shared_seconds=15.0, window=5.0)

SLEEPERS: Final = """
import asyncio, os, time
from pathlib import Path
from streamfn import App

app = App("sleepers")
calls = os.open(Path(__file__).with_name("calls"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
options = {"parallelization_factor": FACTOR, "batch_size": 20}

def note(batch, began):
    values = b",".join(batch.values()).decode()
    os.write(calls, f"{began} {time.monotonic()} {values}\\n".encode())

if IS_ASYNC:
    @app.stream("orders", **options)
    async def work(batch):
        began = time.monotonic()
        await asyncio.sleep(0.01)
        note(batch, began)
else:
    @app.stream("orders", **options)
    def work(batch):
        began = time.monotonic()
        time.sleep(0.01)
        note(batch, began)
"""

SHARERS: Final = """
import os, time
from pathlib import Path
from streamfn import App

app = App("sharers")
calls = os.open(Path(__file__).with_name("calls"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def note(stream):
    os.write(calls, f"{time.monotonic()} {stream} {os.getppid()}\\n".encode())
    time.sleep(0.001)

@app.stream("left", batch_size=1)
def left(batch):
    note("left")

@app.stream("right", batch_size=1)
def right(batch):
    note("right")
"""


def sleepers_rate(folder: Path, keys: int, kind: str, factor: int) -> float:
    """Records a second of a function that sleeps 10 ms a call, from its first call to its last.

    One shard, one runner. Every record comes once, and those of a key in order, or this raises.
    """
    names = Random(SEED).sample(range(10**9), keys)
    values = [f"{names[n % keys]:x}:{n}" for n in range(TURNS * keys)]
    with Log.open(folder / "log", durability="process") as log:
        orders = log.create_stream("orders")
        orders.put_many([v.encode() for v in values], [v.partition(":")[0] for v in values])
    options = ["--burst", "--processes", "1", "--threads", str(KINDS[kind])]
    settings = f"FACTOR, IS_ASYNC = {factor}, {kind == 'async'}\n"
    with _worker(folder, settings + SLEEPERS, options) as worker:
        assert worker.wait(PATIENCE) == 0, (folder / "stderr").read_text()
    lines = [line.split(" ") for line in _calls(folder)]
    seen = list(chain.from_iterable(line[2].split(",") for line in lines))
    assert sorted(seen) == sorted(values), "every record comes once"
    _check_order(seen)
    began, ended = min(float(line[0]) for line in lines), max(float(line[1]) for line in lines)
    return len(values) / (ended - began)


class Begin(NamedTuple):
    """When a call of a stream's function began, and in which worker."""

    time: float
    stream: str
    worker: int


def shared(folder: Path, seconds: float, workers: int, runners: int) -> list[Begin]:
    """All calls of workers that have two equal streams to work on, which do not end.

    From the very first call; the seconds begin when all workers have made one.
    """
    count = round(1_000 * workers * runners * (seconds + 10))  # no thread makes more calls a second
    with Log.open(folder / "log", durability="process") as log:
        for name in STREAMS:
            stream = log.create_stream(name, shards=SHARDS)
            stream.put_many([b"x"] * count, [f"k{n % 4_096}" for n in range(count)])
    with ExitStack() as stack:
        for _ in range(workers):
            stack.enter_context(_worker(folder, SHARERS, ["--processes", str(runners)]))
        until = time.monotonic() + PATIENCE
        while len({begin.worker for begin in _begins(folder)}) < workers:
            assert time.monotonic() < until, (folder / "stderr").read_text()
            time.sleep(STEP)
        time.sleep(seconds)
        begins = _begins(folder)
    assert Counter(begin.stream for begin in begins).most_common(1)[0][1] < count, "it ended"
    return begins


def parts(begins: Sequence[Begin], window: float) -> list[float]:
    """The first stream's part of the calls of each window; one begins every `STEP` seconds."""
    times = [begin.time for begin in begins]
    firsts = [0]
    for begin in begins:
        firsts.append(firsts[-1] + (begin.stream == STREAMS[0]))
    found = []
    start = times[0]
    while start + window <= times[-1]:
        low, high = bisect_left(times, start), bisect_left(times, start + window)
        found.append((firsts[high] - firsts[low]) / max(high - low, 1))
        start += STEP
    return found


def _check_order(seen: Sequence[str]) -> None:
    last: dict[str, int] = {}
    for key, turn in (value.split(":") for value in seen):
        assert last.get(key, -1) < int(turn), f"{key} is out of order"
        last[key] = int(turn)


def _begins(folder: Path) -> list[Begin]:
    lines = [line.split(" ") for line in _calls(folder)]
    return sorted(Begin(float(when), stream, int(worker)) for when, stream, worker in lines)


def _calls(folder: Path) -> list[str]:
    """The whole lines of what the functions wrote down so far."""
    path = folder / "calls"
    return path.read_text().split("\n")[:-1] if path.exists() else []


@contextmanager
def _worker(folder: Path, app: str, options: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    path = folder / "bench.py"
    path.write_text(app)
    command = [sys.executable, "-m", "streamfn", "worker", str(path)]
    command += ["--log-dir", str(folder / "log"), *options]
    with (folder / "stderr").open("a") as stderr:
        worker = subprocess.Popen(command, stderr=stderr)
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait()
