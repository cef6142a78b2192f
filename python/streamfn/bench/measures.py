"""The measurements, made one after another in a folder on the disk to be measured.

Each takes about `Setting.seconds`. The disk is first measured without streamfn, so that every
figure has the limit of the hardware beside it, measured in the same minute.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import Final, Literal, Self

import orjson

from streamfn._core import Record
from streamfn.app import App
from streamfn.log import Log, Stream
from streamfn.model.batch import Batch

from .one_runner import OneRunner

Durability = Literal["group", "process"]

BATCH_RECORDS: Final = 1_000
"""Most records of one `put_many`, and of one call."""
BATCH_BYTES: Final = 4 * 2**20
"""Most bytes of these records."""
LATENCY_RATE: Final = 1_000
"""Records per second while latency is measured."""
BYTES_MAX: Final = 4 * 2**30
"""Most bytes that a measurement writes."""
FREE_PART: Final = 4
"""A measurement writes at most the free space divided by this."""
_FLUSH_BYTES: Final = 4096
_PIECE: Final = 2**20
_SEED: Final = 20130101


@dataclass(frozen=True, slots=True)
class Times:
    """Statistics of many durations, in seconds."""

    median: float
    p99: float
    count: int

    @classmethod
    def of(cls, times: list[float]) -> Times:
        """Compute the statistics of at least two durations."""
        cuts = quantiles(times, n=100, method="inclusive")
        return cls(cuts[49], cuts[98], len(times))


@dataclass(frozen=True, slots=True)
class Rate:
    """Records and bytes per second."""

    records: float
    bytes: float


@dataclass(frozen=True, slots=True)
class Setting:
    """The records and the stream of a measurement, and its duration."""

    record_bytes: int
    durability: Durability
    compression: Literal["zstd", "none"]
    seconds: float
    """Duration of each measurement."""

    @property
    def batch_records(self) -> int:
        """Records of one `put_many`, and of one call."""
        return max(1, min(BATCH_RECORDS, BATCH_BYTES // self.record_bytes))


@dataclass(frozen=True, slots=True)
class Found:
    """The results of all measurements."""

    flush: Times
    """Appending 4 KiB to a file and flushing it, without streamfn."""
    disk_bytes: float
    """Bytes per second of the disk, in pieces of 1 MiB; each is flushed for durability `group`."""
    put: Times
    append: Rate
    call_a_record: Rate
    call_a_batch: Rate
    latency: Times
    """From `put` to the call."""


def events(record_bytes: int, count: int) -> list[bytes]:
    """Return JSON events of exactly this length, half noise, half text; the same in every run."""
    source = _noise()
    return [_event(source, number, record_bytes) for number in range(count)]


def _event(source: random.Random, number: int, record_bytes: int) -> bytes:
    head = b'{"id":%d,"user":"u%d","note":"' % (number, source.randrange(10_000))
    room = max(0, record_bytes - len(head) - 2)
    noise = source.randbytes(room // 4 + 1).hex().encode()[: room // 2]
    text = b"streamfn " * (room // 9 + 1)
    return (head + noise + text[: room - len(noise)] + b'"}')[:record_bytes]


def _noise() -> random.Random:
    return random.Random(_SEED)  # noqa: S311 -- the same in each run, and no secret


def room_at(folder: Path) -> int:
    """Return how many bytes a measurement may write there."""
    return min(BYTES_MAX, shutil.disk_usage(folder).free // FREE_PART)


class Disk:
    """Measures the disk without streamfn: the upper limit for any log on it."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self._path, self._seconds = folder / "disk", seconds

    def flush(self) -> Times:
        """Time appending 4 KiB and flushing it, repeatedly."""
        block = _noise().randbytes(_FLUSH_BYTES)
        return Times.of(list(self._pieces(block, is_flushed=True)))

    def write(self, *, is_flushed: bool) -> float:
        """Write pieces of 1 MiB, flushing each or none; return bytes per second."""
        piece = _noise().randbytes(_PIECE)
        times = list(self._pieces(piece, is_flushed=is_flushed))
        return len(times) * _PIECE / sum(times)

    def _pieces(self, piece: bytes, *, is_flushed: bool) -> Iterator[float]:
        most = max(2, room_at(self._path.parent) // len(piece))
        handle = os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        try:
            end = perf_counter() + self._seconds
            for count in range(most):
                before = perf_counter()
                if before >= end and count > 1:
                    return
                os.write(handle, piece)
                if is_flushed:
                    os.fdatasync(handle)
                yield perf_counter() - before
        finally:
            os.close(handle)
            self._path.unlink()


class Trial:
    """Measures streamfn: streams of one shard in a separate log, used by one thread."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        self._folder, self._setting = folder, setting
        self._log = Log.open(folder / "log")
        self._batch = events(setting.record_bytes, setting.batch_records)
        self._streams = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._log.close()

    def append(self) -> Rate:
        """Append batches, each durable before the next; `consume` reads them."""
        self._stream = self._made()
        most = max(1, room_at(self._folder) // sum(map(len, self._batch)))
        begun, count = perf_counter(), 0
        while count < most and perf_counter() - begun < self._setting.seconds:
            self._stream.put_many(self._batch)
            count += 1
        self._appended = count * len(self._batch)
        return self._rate(self._appended, perf_counter() - begun)

    def put(self) -> Times:
        """Time putting single records, each durable before the next."""
        stream = self._made()
        times: list[float] = []
        begun = perf_counter()
        most = max(2, room_at(self._folder) // self._setting.record_bytes)
        for record in islice(cycle(self._batch), most):
            before = perf_counter()
            if before - begun >= self._setting.seconds and len(times) > 1:
                break
            stream.put(record)
            times.append(perf_counter() - before)
        return Times.of(times)

    def consume(self, *, per_record: bool) -> Rate:
        """Call a function that reads each record of `append`, as a worker's runner would."""
        touch, app = _Touch(), App(f"bench-{'record' if per_record else 'batch'}")
        register = app.stream(
            self._stream.name,
            name="touch",
            input="record" if per_record else "batch",
            batch_size=len(self._batch),
            batch_bytes=2 * BATCH_BYTES,
        )
        register(touch.record if per_record else touch.batch)
        with OneRunner(self._log, app) as runner:
            begun = perf_counter()
            end = begun + self._setting.seconds
            runner.run(lambda: touch.count >= self._appended or perf_counter() >= end)
            seconds = perf_counter() - begun
        return self._rate(touch.count, seconds)

    def latency(self) -> Times:
        """Time from `put` to the call in another process, at `LATENCY_RATE` records per second."""
        stream = self._made()
        count = max(2, round(LATENCY_RATE * self._setting.seconds))
        command = [sys.executable, "-m", "streamfn.bench.follower", str(self._folder / "log"),
                   stream.name, str(count)]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE) as follower:  # noqa: S603 -- this very Python
            assert follower.stdout is not None
            try:
                follower.stdout.readline()  # `ready`
                due = time.monotonic()
                for _ in range(count):
                    time.sleep(max(0.0, due - time.monotonic()))
                    due += 1 / LATENCY_RATE
                    stamp = b"%d " % time.monotonic_ns()
                    stream.put(stamp.ljust(self._setting.record_bytes, b"."))
                answer = follower.stdout.read()
            finally:
                follower.kill()  # after a failed `put` it would wait for the missing records
        return Times.of(orjson.loads(answer))

    def _made(self) -> Stream:
        self._streams += 1
        return self._log.create_stream(
            f"bench-{self._streams}",
            durability=self._setting.durability,
            compression=self._setting.compression,
        )

    def _rate(self, records: int, seconds: float) -> Rate:
        rate = records / max(seconds, 1e-9)
        return Rate(rate, rate * self._setting.record_bytes)


class _Touch:
    """A function that counts its records and reads the first byte of each."""

    __slots__ = ("count", "total")

    def __init__(self) -> None:
        self.count = self.total = 0

    def record(self, record: Record) -> None:
        self.count += 1
        self.total += record.data[0]

    def batch(self, batch: Batch) -> None:
        for data in batch.values():
            self.count += 1
            self.total += data[0]
