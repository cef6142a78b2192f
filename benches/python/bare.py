"""The limit: each job with nothing in its way, in turns with the systems that do it.

An append is a program of `std` alone, a consumer is a loop over what is in memory, and the way to a
function in another process is a pipe.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Final, TypeVar

from servers import LATENCY_BYTES, on_its_way, say_ready, say_times
from systems import BATCH_RECORDS, Durability, Streamfn, Touch

from streamfn import Record

PROGRAM_SOURCE: Final = Path(__file__).parents[1] / "rust" / "append_limit.rs"
Values = TypeVar("Values")
"""A list of what a function is called with."""


class Limit:
    """As a `System`; it says itself how long it took, for it makes ready as it goes."""

    def __init__(self, folder: Path, durability: Durability) -> None:
        self.folder = folder
        self.durability = durability
        self.batches: Sequence[list[bytes]] = ()
        self.records: Streamfn | None = None

    def append(self, batches: Sequence[list[bytes]]) -> float:
        """Return the seconds in which the program appends as many records of its own."""
        self.batches = batches
        program, path = append_program(), self.folder / "appended"
        assert program is not None
        count, record_bytes = sum(map(len, batches)), len(batches[0][0])
        command = [str(program), str(path), str(record_bytes), str(count)]
        if self.durability == "group":
            command.append(str(BATCH_RECORDS))
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        path.unlink()
        return float(done.stdout)

    def rewind(self) -> None:
        """It has no position."""

    def consume(self, touch: Touch, *, per_record: bool) -> float:
        """Return the seconds of a loop over records, or lists, that are there already."""
        if per_record:
            return _seconds(self._fresh_records(), partial(_call_with_each, touch))
        return _seconds(self.batches, touch.values)

    def _fresh_records(self) -> Iterator[list[Record]]:
        if self.records is None:
            self.records = Streamfn(self.folder, "process")
            self.records.append(self.batches)
        return fresh_records(self.records)

    def close(self) -> None:
        """Let go of the stream that holds the records."""
        if self.records is not None:
            self.records.close()


def _seconds(lists: Iterable[Values], loop: Callable[[Values], None]) -> float:
    """The time of the loops alone, without making the lists."""
    seconds = 0.0
    for values in lists:
        begun = time.perf_counter()
        loop(values)
        seconds += time.perf_counter() - begun
    return seconds


def _call_with_each(touch: Touch, records: Iterable[Record]) -> None:
    for record in records:
        touch.record(record)


def fresh_records(system: Streamfn) -> Iterator[list[Record]]:
    """All records of the stream, in lists of `BATCH_RECORDS`, no `.data` read yet."""
    for batch in system.stream.read():
        for start in range(0, len(batch), BATCH_RECORDS):
            yield list(batch[start : start + BATCH_RECORDS])


@cache
def append_program() -> Path | None:
    """Compile the program that appends with nothing but `std`; `None` without a compiler."""
    compiler = shutil.which("rustc")
    if compiler is None:
        return None
    program = PROGRAM_SOURCE.parents[2] / "target" / "append-limit"
    if not program.exists() or program.stat().st_mtime < PROGRAM_SOURCE.stat().st_mtime:
        program.parent.mkdir(exist_ok=True)
        command = [compiler, "-O", "--edition", "2021", str(PROGRAM_SOURCE), "-o", str(program)]
        subprocess.run(command, check=True)
    return program


class Pipe:
    """As a `Pushing` system: a pipe between two processes; `group` flushes a file before."""

    def __init__(self, folder: Path, durability: Durability) -> None:
        self.path = folder / "pipe"
        os.mkfifo(self.path)
        self.pipe = os.open(self.path, os.O_RDWR)  # neither end waits for the other
        self.file = os.open(folder / "appended", os.O_WRONLY | os.O_CREAT)
        self.is_synced = durability == "group"

    def put_each(self, records: Iterable[bytes]) -> None:
        """Write one by one."""
        for data in records:
            os.write(self.file, data)
            if self.is_synced:
                os.fdatasync(self.file)
            os.write(self.pipe, data)

    def follower(self, count: int) -> list[str]:
        """Return the command of a process that reads the pipe."""
        return [sys.executable, __file__, str(self.path), str(count)]

    def close(self) -> None:
        """Close both files."""
        os.close(self.pipe)
        os.close(self.file)


def _follow(path: str, count: int) -> None:
    with Path(path).open("rb", buffering=0) as pipe:
        say_ready()
        say_times([on_its_way(pipe.read(LATENCY_BYTES), time.monotonic_ns()) for _ in range(count)])


if __name__ == "__main__":
    _follow(sys.argv[1], int(sys.argv[2]))
