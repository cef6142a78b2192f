"""Each target of the project: streamfn beside a peer or a limit, in turns.

Without `--full` each runs once and small: then it is one of the project's tests.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

import orjson
import pytest
from backlog import bare_rate, busy_rate, fill, import_seconds, process_seconds, work_off
from bare import fresh_records
from limits import (
    LmdbRecords,
    insert_one_by_one,
    json_events,
    lengths,
    plain_event,
    put_one_by_one,
    zstd_of_library,
    zstd_of_stream,
)
from scenario import SIZE_NAMES, batches
from servers import LATENCY_BYTES, follow
from systems import BATCH_RECORDS, Sqlite, Streamfn, Touch
from targets import Goal, Target, Turns, microseconds, million, per_second

from streamfn import Batch
from streamfn.bench.measures import Disk
from streamfn.model.lambda_input import kinesis_event

MIB = 2**20


@dataclass(frozen=True, slots=True)
class TargetSize:
    """How much is measured."""

    rounds: int
    records: int
    consumed: int
    """As many that opening a lane and closing it, 1.4 ms, is 3 ns of each."""
    puts: int
    followed: int
    backlog: int
    """Records of 100 B; a small backlog has a hundredth."""
    backlog_batch: int
    busy_records: int
    busy_loops: int
    starts: int


SMALL = TargetSize(1, 4_000, consumed=4_000, puts=64, followed=50, backlog=20_000,
                   backlog_batch=10, busy_records=160, busy_loops=100, starts=1)  # fmt: skip
FULL = TargetSize(5, 200_000, consumed=500_000, puts=8_000, followed=1_000, backlog=10_000_000,
                  backlog_batch=1_000, busy_records=1_600, busy_loops=100_000,
                  starts=9)  # fmt: skip
LARGEST_BACKLOG = 100_000_000
"""Of `make bench-full`: 11 GiB on disk, or what half of the free disk holds."""
BYTES_ON_DISK = 125
"""Of a record of a backlog, at most."""

Note = Callable[[Target], None]


@pytest.fixture
def size(pytestconfig: pytest.Config) -> TargetSize:
    """How much is measured."""
    if not pytestconfig.getoption("--full", default=False):
        return SMALL
    if not pytestconfig.getoption("--every-peer"):
        return FULL
    room = shutil.disk_usage(tempfile.gettempdir()).free // 2 // BYTES_ON_DISK
    return replace(FULL, backlog=min(LARGEST_BACKLOG, max(FULL.backlog, room)))


@pytest.fixture
def note(targets: list[Target]) -> Note:
    """Put a row into the table."""
    return targets.append


def test_put_one_by_one(tmp_path: Path, size: TargetSize, note: Note) -> None:
    """Threads share flushes; one connection cannot."""
    records = list(chain.from_iterable(batches(100, max(size.puts, BATCH_RECORDS))))
    (tmp_path / "theirs").mkdir()
    ours, theirs = Streamfn(tmp_path, "group"), Sqlite(tmp_path / "theirs", "group")
    turns = Turns(size.rounds).take(
        lambda: put_one_by_one(ours, records[: size.puts]),
        lambda: insert_one_by_one(theirs, records[: size.puts // 8]),
    )
    ours.close()
    theirs.close()
    why = "a put is put to sleep 2.7 times, for the flush and for the GIL: 29 µs of CPU, two cores"
    note(turns.target("put one by one, 100 B, group, 16 threads", "SQLite FULL, one by one",
                      Goal(6.0), million, why))  # fmt: skip


@pytest.fixture
def filled(tmp_path: Path, size: TargetSize) -> Streamfn:
    """A stream with all records of 100 B that are consumed."""
    system = Streamfn(tmp_path, "process")
    system.append(batches(100, size.consumed))
    return system


def test_a_call_a_record(filled: Streamfn, tmp_path: Path, size: TargetSize, note: Note) -> None:
    """LMDB makes such records as it reads."""
    (tmp_path / "theirs").mkdir()
    lmdb = LmdbRecords(tmp_path / "theirs", "process")
    lmdb.append(batches(100, size.consumed))

    def ours() -> float:
        touch = Touch()
        filled.rewind()
        seconds = filled.consume(touch, per_record=True)
        assert touch.count == size.consumed
        return size.consumed / seconds

    def theirs() -> float:
        touch = Touch()
        rate = per_second(size.consumed, lambda: lmdb.consume_records(touch))
        assert touch.count == size.consumed
        return rate

    turns = Turns(size.rounds).take(ours, theirs)
    job = "consume, a call a record, 100 B, process"
    note(turns.target(job, "LMDB, a record object each", Goal(1.3), million))


def test_arrow(filled: Streamfn, size: TargetSize, note: Note) -> None:
    """The sum of all lengths, by pyarrow and record by record."""

    def rate(*, as_arrow: bool) -> float:
        bytes_of_all = 100 * size.consumed
        return size.consumed / lengths(filled, as_arrow=as_arrow, bytes_of_all=bytes_of_all)

    turns = Turns(size.rounds).take(lambda: rate(as_arrow=True), lambda: rate(as_arrow=False))
    job = 'consume, `input="arrow"`, sum of lengths, 10,000 a call'
    why = "reading and checking take 18 ns, Arrow's columns 7, a tenth of such a call is 12"
    note(turns.target(job, "a call a record", Goal(10.0), million, why))


@pytest.mark.parametrize(("record_bytes", "most"), [(1024, 1.10), (100, 1.25)])
def test_json(record_bytes: int, most: float, tmp_path: Path, size: TargetSize, note: Note) -> None:
    """`orjson.loads` has the bytes ready."""
    system = Streamfn(tmp_path, "process")
    lists = batches(record_bytes, size.records // 4)
    system.append(lists)

    def ours() -> float:
        seconds = 0.0
        for records in fresh_records(system):
            begun = time.perf_counter()
            for record in records:
                record.json()
            seconds += time.perf_counter() - begun
        return seconds / (size.records // 4)

    def theirs() -> float:
        seconds = 0.0
        for values in lists:
            begun = time.perf_counter()
            for value in values:
                orjson.loads(value)
            seconds += time.perf_counter() - begun
        return seconds / (size.records // 4)

    turns = Turns(size.rounds).take(ours, theirs)
    job = f"`record.json()`, {SIZE_NAMES[record_bytes]}"
    goal = Goal(most, is_most=True)
    why = "some 65 ns are the way to Rust and on to orjson, the rest is a `bytes` of the payload"
    note(
        turns.target(job, "`orjson.loads` on the bytes", goal, lambda s: f"{s * 1e9:,.0f} ns", why)
    )


@pytest.mark.parametrize("record_bytes", [100, 1024])
def test_lambda_event(record_bytes: int, tmp_path: Path, size: TargetSize, note: Note) -> None:
    """The same dicts, built in Rust and by a list comprehension."""
    system = Streamfn(tmp_path, "process")
    system.append(batches(record_bytes, size.records // 4))
    read = [batch.records for batch in system.stream.read()]
    count = sum(map(len, read))
    shown = kinesis_event(Batch(read[0]))["Records"][0]
    assert shown.keys() == plain_event(read[0], "bench")["Records"][0].keys()

    def ours() -> float:
        return per_second(count, lambda: deque(map(kinesis_event, map(Batch, read)), 0))

    def theirs() -> float:
        return per_second(count, lambda: deque((plain_event(r, "bench") for r in read), 0))

    turns = Turns(size.rounds).take(ours, theirs)
    job = f'`input="lambda"`, the event, {SIZE_NAMES[record_bytes]}'
    note(turns.target(job, "plain Python", Goal(3.0), million))


def test_zstd(tmp_path: Path, size: TargetSize, note: Note) -> None:
    """JSON events of 250 bytes, a batch of 1,000 at a time: what the library takes, and leaves."""
    events = json_events(size.records)
    bytes_of_all = sum(map(len, chain.from_iterable(events)))
    _, ours = zstd_of_stream(tmp_path / "log", events)
    _, theirs = zstd_of_library(events)
    assert min(ours, theirs) > 0
    turns = Turns(size.rounds).take(
        lambda: size.records / zstd_of_stream(tmp_path / "log", events)[0],
        lambda: size.records / zstd_of_library(events)[0],
    )
    note(turns.target("append, zstd 1, JSON of 250 B, process", "the zstd library",
                      Goal(0.7, unit="%"), million,
                      "the library is given the lines joined; compression is 270 ns of the 380 of "
                      "an append"))  # fmt: skip
    note(
        Target(
            "bytes on disk, zstd 1, JSON of 250 B", "the zstd library",
            f"{bytes_of_all / ours:.2f} : 1", f"{bytes_of_all / theirs:.2f} : 1",
            [ours / theirs], Goal(1.03, is_most=True),
            "the lengths of records take 2 % of what is left",
        )
    )  # fmt: skip


def test_latency_beside_the_disk(tmp_path: Path, size: TargetSize, note: Note) -> None:
    """A record that is flushed before it is told has waited for one flush."""

    def ours() -> float:
        folder = tmp_path / "turn"
        folder.mkdir()
        system = Streamfn(folder, "group")
        median = follow(system, size.followed, LATENCY_BYTES).times.median
        system.close()
        shutil.rmtree(folder)
        return median

    turns = Turns(size.rounds).take(ours, lambda: Disk(tmp_path, 0.5).flush().median)
    note(turns.target("append to function start, group, p50", "one fdatasync of 4 KiB, p50",
                      Goal(2.0, is_most=True), microseconds))  # fmt: skip


def test_two_runners(tmp_path: Path, size: TargetSize, note: Note) -> None:
    """A function that only computes: what a second runner brings, and a second bare process."""
    records, loops = size.busy_records, size.busy_loops
    fill(tmp_path, records, shards=8)

    def gain_of_runners() -> float:
        one, two = (busy_rate(tmp_path, loops, count) for count in (1, 2))
        return two / one

    def gain_of_processes() -> float:
        one, two = (bare_rate(records, loops, count) for count in (1, 2))
        return two / one

    turns = Turns(min(size.rounds, 3)).take(gain_of_runners, gain_of_processes)
    goal = Goal(0.95, unit="%")
    note(turns.target("two runners against one, 8 shards", "two bare processes against one", goal,
                      lambda gained: f"{gained:.2f}×"))  # fmt: skip


def test_backlog(tmp_path: Path, size: TargetSize, note: Note) -> None:
    """A worker on a GiB that waits, and on a hundredth of it."""
    few = size.backlog // 100
    folders = {size.backlog: tmp_path / "large", few: tmp_path / "small"}
    for records, folder in folders.items():
        folder.mkdir()
        fill(folder, records)
    many_runs, few_runs = [], []
    for _ in range(size.rounds):
        few_runs.append(work_off(folders[few], size.backlog_batch))
        many_runs.append(work_off(folders[size.backlog], size.backlog_batch))
    shutil.rmtree(folders[size.backlog])

    waiting = f"{size.backlog:,} records waiting"
    beside = "a hundredth of it"
    both = list(zip(many_runs, few_runs, strict=True))
    rates = [few.rate / many.rate for many, few in both]
    ours, theirs = (statistics.median(run.rate for run in runs) for runs in (many_runs, few_runs))
    note(Target(f"cost of a record, {waiting}", beside, million(ours), million(theirs), rates,
                Goal(1.05, is_most=True, unit="%")))  # fmt: skip
    later = [(many.start_up - few.start_up) * 1e3 for many, few in both]
    ours, theirs = (
        statistics.median(run.start_up for run in runs) for runs in (many_runs, few_runs)
    )
    note(Target(f"start-up, {waiting}: later by", beside, microseconds(ours),
                microseconds(theirs), later, Goal(100.0, is_most=True, unit="ms")))  # fmt: skip
    memory = [many.memory / MIB for many in many_runs]
    less = statistics.median(run.memory for run in few_runs) / MIB
    note(Target(f"memory of a runner above its app, {waiting}", beside,
                f"{statistics.median(memory):.0f} MiB", f"{less:.0f} MiB", memory,
                Goal(64.0, is_most=True, unit="MiB")))  # fmt: skip


def test_import(size: TargetSize, note: Note) -> None:
    """What an import costs beside all that it imports and is not streamfn's; and `--version`."""
    for statement, goal in (("import streamfn", 1.2), ("from streamfn import App", None)):
        others = f"import {', '.join(_others_loaded_by(statement))}"
        turns = Turns(min(size.rounds, 3)).take(
            partial(import_seconds, statement, size.starts),
            partial(import_seconds, others, size.starts),
        )
        note(turns.target(f"`{statement}`", "all it imports that is not its own",
                          Goal(goal, is_most=True), microseconds))  # fmt: skip
    command = [str(Path(sys.executable).with_name("streamfn")), "--version"]
    turns = Turns(min(size.rounds, 3)).take(
        lambda: process_seconds(command, size.starts),
        lambda: process_seconds([sys.executable, "-c", "import click"], size.starts),
    )
    note(turns.target("`streamfn --version`", "`import click`", Goal(1.5, is_most=True),
                      microseconds))  # fmt: skip


def _others_loaded_by(statement: str) -> list[str]:
    code = (
        f"import sys; before = set(sys.modules)\n{statement}\n"
        "print(*sorted(name for name in set(sys.modules) - before"
        " if name.partition('.')[0] != 'streamfn'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()
