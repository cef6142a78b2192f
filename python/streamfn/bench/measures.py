"""The measurements, one after another, in a folder of the disk that is asked about.

Each takes about as long as it is told and says what it counted. The disk is measured without
streamfn first, so that every figure has a limit beside it that was taken in the same minute.
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
"""Records of one `put_many`, and of one call, at most."""
BATCH_BYTES: Final = 4 * 2**20
"""Bytes of them, at most."""
LATENCY_RATE: Final = 1_000
"""Records a second while the way to the function is timed."""
BYTES_MAX: Final = 4 * 2**30
"""No measurement writes more than this."""
FREE_PART: Final = 4
"""... nor more than this part of what is free."""
_FLUSH_BYTES: Final = 4096
_PIECE: Final = 2**20
_SEED: Final = 20130101


@dataclass(frozen=True, slots=True)
class Times:
    """How long something took, in seconds, many times."""

    median: float
    p99: float
    count: int

    @classmethod
    def of(cls, times: list[float]) -> Times:
        """Sum up at least two times."""
        cuts = quantiles(times, n=100, method="inclusive")
        return cls(cuts[49], cuts[98], len(times))


@dataclass(frozen=True, slots=True)
class Rate:
    """Records a second, and how many bytes of them."""

    records: float
    bytes: float


@dataclass(frozen=True, slots=True)
class Setting:
    """What is measured: the records, and the stream that takes them."""

    record_bytes: int
    durability: Durability
    compression: Literal["zstd", "none"]
    seconds: float
    """How long each measurement takes."""

    @property
    def batch_records(self) -> int:
        """Records of one `put_many`, and of one call."""
        return max(1, min(BATCH_RECORDS, BATCH_BYTES // self.record_bytes))


@dataclass(frozen=True, slots=True)
class Found:
    """What all measurements found."""

    flush: Times
    """Of 4 KiB at the end of a file, by the disk."""
    disk_bytes: float
    """A second, by the disk, in pieces of 1 MiB; flushed each if the stream is durable `group`."""
    put: Times
    append: Rate
    call_a_record: Rate
    call_a_batch: Rate
    latency: Times
    """From `put` to the call."""


def events(record_bytes: int, count: int) -> list[bytes]:
    """Return small JSON events of exactly this length, half noise, half text; always the same."""
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
    """The disk by itself: what no log on it can beat."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self._path, self._seconds = folder / "disk", seconds

    def flush(self) -> Times:
        """Append 4 KiB and flush it, again and again."""
        block = _noise().randbytes(_FLUSH_BYTES)
        return Times.of(list(self._pieces(block, is_flushed=True)))

    def write(self, *, is_flushed: bool) -> float:
        """Write pieces of 1 MiB, each flushed or none; in bytes a second."""
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
    """A stream of one shard in a log of its own; used as a program of one thread would."""

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
        """Append whole batches, each durable before the next; they are what is consumed."""
        self._stream = self._made()
        most = max(1, room_at(self._folder) // sum(map(len, self._batch)))
        begun, count = perf_counter(), 0
        while count < most and perf_counter() - begun < self._setting.seconds:
            self._stream.put_many(self._batch)
            count += 1
        self._appended = count * len(self._batch)
        return self._rate(self._appended, perf_counter() - begun)

    def put(self) -> Times:
        """Put one record after the other, each durable before the next."""
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
        """Call a function that looks at each record `append` left, as a worker's runner does it."""
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
        """Time the way from `put` to the call in another process, `LATENCY_RATE` times a second."""
        stream = self._made()
        count = max(2, round(LATENCY_RATE * self._setting.seconds))
        command = [sys.executable, "-m", "streamfn.bench.follower", str(self._folder / "log"),
                   stream.name, str(count)]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE) as follower:  # noqa: S603 -- this very Python
            assert follower.stdout is not None
            try:
                follower.stdout.readline()  # it has its lane
                due = time.monotonic()
                for _ in range(count):
                    time.sleep(max(0.0, due - time.monotonic()))
                    due += 1 / LATENCY_RATE
                    stamp = b"%d " % time.monotonic_ns()
                    stream.put(stamp.ljust(self._setting.record_bytes, b"."))
                answer = follower.stdout.read()
            finally:
                follower.kill()  # it waits for records that a failed `put` did not bring
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
    """A function that counts its records and looks at the first byte of each."""

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
