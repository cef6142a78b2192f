"""The systems that are compared, each used the way its own documentation recommends for this job.

A system appends batches of records that are durable to the level asked for when `append` returns,
and consumes them at least once: it calls a function, then writes down how far it came, and goes on.
What a system may prepare once (its tables) is prepared outside the timing.
"""

import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol

import lmdb

from streamfn import App, Batch, Log, Record
from streamfn.bench.one_runner import OneRunner

Durability = Literal["process", "group"]
"""`process`: survives the kill of the process. `group`: survives power loss too."""

BATCH_RECORDS = 1_000
"""Records of one append, and of one call followed by one checkpoint."""


POSITION_SECONDS = 0.1
"""Between flushes of a consumer's position, beside records that survive a power cut."""


class Touch:
    """The user's function: counts its records and looks at the first byte of each.

    A streamfn function gets what streamfn hands out, a `Record` or a `Batch`; with the peers
    there is no such type, so it gets the bytes, or the text.
    """

    __slots__ = ("count", "total")

    def __init__(self) -> None:
        self.count = self.total = 0

    def record(self, record: Record) -> None:
        """One record of streamfn."""
        self.count += 1
        self.total += record.data[0]

    def batch(self, batch: Batch) -> None:
        """One batch of streamfn."""
        self.values(batch.values())

    def value(self, data: bytes) -> None:
        """One record of a peer."""
        self.count += 1
        self.total += data[0]

    def values(self, values: Sequence[bytes]) -> None:
        """One batch of a peer."""
        for data in values:
            self.count += 1
            self.total += data[0]

    def text(self, line: str) -> None:
        """One record of a peer that hands out text."""
        self.count += 1
        self.total += ord(line[0])

    def texts(self, lines: Sequence[str]) -> None:
        """One batch of such a peer."""
        for line in lines:
            self.count += 1
            self.total += ord(line[0])


class System(Protocol):
    """One store, opened in a folder of its own."""

    def __init__(self, folder: Path, durability: Durability) -> None: ...

    def append(self, batches: Sequence[list[bytes]]) -> float | None:
        """Append all batches; each is durable before the next begins.

        A system that is no store only lays them ready for `consume`, which is not measured. One
        that does more than what is to be measured says how many seconds that took; `consume` too.
        """

    def rewind(self) -> None:
        """Make `consume` begin at the first record again."""

    def consume(self, touch: Touch, *, per_record: bool) -> float | None:
        """Hand every record to the function, one checkpoint for each `BATCH_RECORDS`."""

    def close(self) -> None:
        """Let go of the files."""


class Streamfn:
    """A stream of one shard, without compression, and a worker's runner, in this process."""

    compression: Literal["zstd", "none"] = "none"

    def __init__(self, folder: Path, durability: Durability) -> None:
        self.log = Log.open(folder / "log")
        self.stream = self.log.create_stream(
            "bench", durability=durability, compression=self.compression
        )
        self.appended = self.passes = 0

    def append(self, batches: Sequence[list[bytes]]) -> None:
        """Append all batches with `put_many`."""
        for batch in batches:
            self.stream.put_many(batch)
            self.appended += len(batch)

    def rewind(self) -> None:
        """Give the function another name: new to the log, it starts at the first record."""
        self.passes += 1

    def consume(self, touch: Touch, *, per_record: bool) -> float:
        """Run a worker's runner: in-flight slot, call, checkpoint, for each batch."""
        return self.call(
            touch.record if per_record else touch.batch,
            lambda: touch.count >= self.appended,
            input="record" if per_record else "batch",
        )

    def call(
        self,
        function: Callable[..., None],
        is_done: Callable[[], bool],
        *,
        input: str,
        batch_size: int = BATCH_RECORDS,
    ) -> float:
        """Have a runner of one thread call the function until it has seen all.

        Returns the seconds from taking the lane to giving it back.
        """
        app = App(f"bench{self.passes}")
        app.stream("bench", name="function", input=input, batch_size=batch_size)(function)
        runner = OneRunner(self.log, app)
        begun = time.perf_counter()
        with runner:
            runner.run(is_done)
        return time.perf_counter() - begun

    def put_each(self, records: Iterable[bytes]) -> None:
        """Append one by one with `put`."""
        for data in records:
            self.stream.put(data)

    def follower(self, count: int) -> list[str]:
        """Return the command of a process that follows the stream as a runner does."""
        module = "streamfn.bench.follower"
        return [sys.executable, "-m", module, str(self.log.path), self.stream.name, str(count)]

    def close(self) -> None:
        """Close the log."""
        self.log.close()


class StreamfnZstd(Streamfn):
    """As `Streamfn`, with the compression a stream has by default."""

    compression = "zstd"


class Sqlite:
    """A table in WAL mode: `NORMAL` survives a kill, `FULL` a power cut.

    Larger pages, and fewer checkpoints of the WAL, are a third quicker than what is the default.
    The position is written with `NORMAL`: one that a power cut takes back brings records again.
    """

    def __init__(self, folder: Path, durability: Durability) -> None:
        self.connection = sqlite3.connect(folder / "bench.sqlite", isolation_level=None)
        self.level = {"process": "NORMAL", "group": "FULL"}[durability]
        for statement in (
            "PRAGMA page_size = 16384",
            "PRAGMA journal_mode = WAL",
            "PRAGMA wal_autocheckpoint = 4096",
            "CREATE TABLE log (seq INTEGER PRIMARY KEY, data BLOB NOT NULL)",
            "CREATE TABLE position (seq INTEGER NOT NULL)",
            "INSERT INTO position VALUES (0)",
        ):
            self.connection.execute(statement).fetchall()

    def append(self, batches: Sequence[list[bytes]]) -> None:
        """One transaction for each batch."""
        self.connection.execute(f"PRAGMA synchronous = {self.level}")
        for batch in batches:
            self.connection.execute("BEGIN IMMEDIATE")
            rows = ((data,) for data in batch)
            self.connection.executemany("INSERT INTO log (data) VALUES (?)", rows)
            self.connection.execute("COMMIT")

    def rewind(self) -> None:
        """Set the position to the start."""
        self.connection.execute("UPDATE position SET seq = 0")

    def consume(self, touch: Touch, *, per_record: bool) -> None:
        """One query and one update of the position for each batch."""
        self.connection.execute("PRAGMA synchronous = NORMAL")
        (seq,) = self.connection.execute("SELECT seq FROM position").fetchone()
        query = "SELECT seq, data FROM log WHERE seq > ? ORDER BY seq LIMIT ?"
        while rows := self.connection.execute(query, (seq, BATCH_RECORDS)).fetchall():
            if per_record:
                for _, data in rows:
                    touch.value(data)
            else:
                touch.values([data for _, data in rows])
            seq = rows[-1][0]
            self.connection.execute("UPDATE position SET seq = ?", (seq,))

    def close(self) -> None:
        """Close the database."""
        self.connection.close()


class Lmdb:
    """A B-tree appended to at its end: `sync=False` survives a kill, `sync=True` a power cut.

    Keys are integers, which is a quarter quicker than bytes that sort as numbers do. The position
    is in an environment of its own; in a `group` row it is flushed as often as streamfn's.
    """

    def __init__(self, folder: Path, durability: Durability) -> None:
        self.is_synced = durability == "group"
        self.environment = lmdb.open(
            str(folder / "bench.lmdb"), map_size=8 * 2**30, max_dbs=1, sync=self.is_synced
        )
        self.log = self.environment.open_db(b"log", integerkey=True)
        self.position = lmdb.open(str(folder / "position.lmdb"), sync=False)
        self.appended = 0
        self.rewind()

    def append(self, batches: Sequence[list[bytes]]) -> None:
        """One transaction for each batch."""
        for batch in batches:
            with self.environment.begin(write=True, db=self.log) as transaction:
                numbers = range(self.appended, self.appended + len(batch))
                keys = [seq.to_bytes(8, sys.byteorder) for seq in numbers]
                transaction.cursor().putmulti(zip(keys, batch, strict=True), append=True)
                self.appended += len(batch)

    def rewind(self) -> None:
        """Set the position to the start."""
        self.write_position(0)

    def consume(self, touch: Touch, *, per_record: bool) -> None:
        """One snapshot and one write of the position for each batch."""
        seq, flushed = 0, time.monotonic()
        while values := self._batch(seq):
            if per_record:
                for data in values:
                    touch.value(data)
            else:
                touch.values(values)
            seq += len(values)
            self.write_position(seq)
            if self.is_synced and time.monotonic() - flushed >= POSITION_SECONDS:
                self.position.sync(True)  # noqa: FBT003 -- positional only
                flushed = time.monotonic()

    def write_position(self, seq: int) -> None:
        """Note which entry is to be read next."""
        with self.position.begin(write=True) as transaction:
            transaction.put(b"next", seq.to_bytes(8, sys.byteorder))

    def _batch(self, seq: int) -> list[bytes]:
        with self.environment.begin(db=self.log) as transaction:
            cursor = transaction.cursor()
            if not cursor.set_range(seq.to_bytes(8, sys.byteorder)):
                return []
            return list(islice(cursor.iternext(keys=False), BATCH_RECORDS))

    def close(self) -> None:
        """Close both environments."""
        self.environment.close()
        self.position.close()
