"""Worker processes on small and large backlogs, and one and two of their runners.

Functions write down what they see of themselves: time, memory, how far they are.
"""

import os
import resource
import statistics
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from systems import BATCH_RECORDS

from streamfn import Log

PATIENCE: Final = 300.0
SHARDS: Final = 8

_NOTES = """
    import os, time
    from pathlib import Path
    from streamfn import App

    app = App(f"bench{os.getppid()}")  # another one in each worker: it begins at the first record
    notes = os.open(Path(__file__).with_name("notes"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def resident(field):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1])

    def note(*values):
        os.write(notes, (" ".join(map(str, values)) + "\\n").encode())
"""
_READER = """
    imported = resident("VmRSS:")
    calls = 0

    @app.stream("events", batch_size=BATCH)
    def work(batch):
        global calls
        began = time.monotonic()
        for value in batch.values():
            value[0]
        calls += 1
        if calls in (1, 10) or calls % 20 == 0:
            note(began, time.monotonic(), calls, imported, resident("VmHWM:"))
"""
_BUSY = """
    @app.stream("events", batch_size=100)
    def work(batch):
        began = time.monotonic()
        for value in batch.values():
            sum(range(LOOPS))
        note(began, time.monotonic(), len(batch))
"""


@dataclass(frozen=True, slots=True)
class Followed:
    """What a runner said of itself while it worked off a backlog."""

    start_up: float
    """Seconds from the start of the worker to the first call."""
    rate: float
    """Records a second, from the tenth call to the last that was written down."""
    memory: int
    """Bytes: the most it ever had, less what it had when the app was imported."""


def fill(folder: Path, records: int, *, shards: int = 1) -> None:
    """Make the log `folder/log` with so many records of 100 B."""
    values = [os.urandom(50).hex().encode() for _ in range(BATCH_RECORDS)]
    with Log.open(folder / "log") as log:
        stream = log.create_stream(
            "events", shards=shards, durability="process", compression="none"
        )
        for start in range(0, records, BATCH_RECORDS):
            count = min(BATCH_RECORDS, records - start)
            keys = [f"k{number}" for number in range(start, start + count)] if shards > 1 else None
            stream.put_many(values[:count], keys)
        os.sync()


def work_off(folder: Path, batch_size: int) -> Followed:
    """Run a worker with one runner over the backlog of `folder`, from the start."""
    begun = time.monotonic()
    lines = _run(folder, f"\n    BATCH = {batch_size}\n" + _READER, runners=1)
    tenth = next(line for line in lines if line[2] == 10)
    last = lines[-1]
    records = (last[2] - tenth[2]) * batch_size
    return Followed(
        start_up=lines[0][0] - begun,
        rate=records / (last[1] - tenth[1]),
        memory=round(last[4] - lines[0][3]) * 1024,
    )


def busy_rate(folder: Path, loops: int, runners: int) -> float:
    """Records a second of a function that only computes, from its first call to its last."""
    lines = _run(folder, f"\n    LOOPS = {loops}\n" + _BUSY, runners)
    begun, ended = min(line[0] for line in lines), max(line[1] for line in lines)
    return sum(line[2] for line in lines) / (ended - begun)


def bare_rate(records: int, loops: int, processes: int) -> float:
    """The same computation in bare Python processes, which share the records evenly."""
    code = (
        f"import sys; sys.stdin.readline(); loops = {loops}\n"
        f"for _ in range({records // processes}): sum(range(loops))\nprint('done')"
    )
    command = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    running = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(processes)
    ]
    time.sleep(0.3)  # they wait for their line
    begun = time.monotonic()
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in running:
        process.communicate(timeout=PATIENCE)
    return records / (time.monotonic() - begun)


def import_seconds(code: str, times: int) -> float:
    """Median CPU seconds of a Python process that runs `code`, less those of one that runs none."""
    return _cpu([sys.executable, "-c", code], times) - _cpu([sys.executable, "-c", ""], times)


def process_seconds(command: Sequence[str], times: int) -> float:
    """Median CPU seconds of a process."""
    return _cpu(command, times)


def _cpu(command: Sequence[str], times: int) -> float:
    found = []
    for _ in range(times):
        before = _children()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        found.append(_children() - before)
    return statistics.median(found)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(folder: Path, function: str, runners: int) -> list[list[float]]:
    app, notes = folder / "bench_app.py", folder / "notes"
    app.write_text(textwrap.dedent(_NOTES + function))
    notes.unlink(missing_ok=True)
    command = [sys.executable, "-m", "streamfn", "worker", str(app), "--burst", "--quiet"]
    command += ["--processes", str(runners), "--log-dir", str(folder / "log")]
    subprocess.run(command, check=True, timeout=PATIENCE)
    return [list(map(float, line.split())) for line in notes.read_text().splitlines()]
