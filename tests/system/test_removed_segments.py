"""The disk has the room of what retention took back at once, whoever has read or written it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SEGMENT_BYTES = 1 << 20
RECORD = bytes(200_000)
APP = """
import time
from pathlib import Path
from streamfn import App

app = App("shop")
go = Path("go")

@app.stream("orders", batch_size=1, parallelization_factor=2)
def held(batch):
    while not go.exists():
        time.sleep(0.01)

@app.stream("orders", batch_size=100)
def quick(batch):
    with open("quick", "a") as file:
        file.write("\\n" * len(batch))
"""
PRODUCER = """
import sys
from streamfn import Log

with Log.open(sys.argv[1]) as log:
    log.stream("orders").put(b"from another process")
    print("put", flush=True)
    sys.stdin.read()  # idle until the test ends
"""


def segments_of(process, log_dir):
    """Segment files that a process has open; those that were removed end with ` (deleted)`."""
    found = []
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue  # closed since it was listed
        if target.startswith(f"{log_dir}/") and ".seg" in target:
            found.append(target)
    return found


@pytest.fixture
def start(log_dir):
    """Start a process that ends with the test; its output is a pipe that nobody need read."""
    started = []

    def start(*command):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_no_process_keeps_them_open(log, log_dir, tmp_path, workers, start, until, children_of):
    """Neither idle lanes, nor a reader that nobody asks, nor a producer that has nothing to put.

    What was lost is said: the records that a lane can have no more.
    """
    (tmp_path / "shop.py").write_text(APP)
    log.core.create_stream(
        "orders",
        retention_bytes=2 * SEGMENT_BYTES,
        segment_bytes=SEGMENT_BYTES,
        compression="none",
    )
    stream = log.stream("orders")
    stream.put_many([RECORD] * 4)
    kept = iter(stream.read(follow=True))
    assert len(next(kept)) == 4
    producer = start(sys.executable, "-c", PRODUCER, log_dir)
    assert producer.stdout.readline() == b"put\n"
    tail = start(sys.executable, "-m", "streamfn", "tail", "orders", "--log-dir", log_dir)
    worker = workers.start("shop", "--processes", 2, "--threads", 2)
    quick = tmp_path / "quick"
    until(lambda: quick.exists() and quick.stat().st_size == 5)
    processes = [os.getpid(), producer.pid, tail.pid, worker.pid, *children_of(worker.pid)]
    [oldest] = log_dir.rglob("*.seg")

    def has_open(process):
        return str(oldest) in segments_of(process, log_dir)

    until(lambda: all(map(has_open, [os.getpid(), producer.pid, tail.pid])))
    assert any(map(has_open, children_of(worker.pid)))

    for _ in range(5):
        stream.put_many([RECORD] * 5)
    until(lambda: not oldest.exists())

    def removed():
        found = [target for process in processes for target in segments_of(process, log_dir)]
        return [target for target in found if target.endswith(" (deleted)")]

    until(lambda: not removed(), seconds=10)
    (tmp_path / "go").touch()
    until(lambda: "SequenceTrimmed" in workers.errors_of(worker))
