"""What the targets compare streamfn with that is no store: bare loops, libraries, the disk."""

import base64
import random
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import zstandard
from scenario import SEED
from systems import BATCH_RECORDS, Lmdb, Sqlite, Streamfn, Touch

from streamfn import ArrowBatch, Log, Record
from streamfn._core import Records

PUT_THREADS: Final = 16
ARROW_RECORDS: Final = 10_000
"""The largest batch: what a call of an Arrow library costs is shared by all of its records."""
CITIES: Final = ["Berlin", "Lisboa", "Nairobi", "Osaka", "Quito", "São Paulo", "Tromsø"]


def put_one_by_one(system: Streamfn, records: Sequence[bytes]) -> float:
    """Records a second that `PUT_THREADS` threads put, each acknowledged before its next."""
    pieces = [records[at::PUT_THREADS] for at in range(PUT_THREADS)]
    with ThreadPoolExecutor(PUT_THREADS) as threads:
        list(threads.map(lambda _: time.sleep(0.01), pieces))  # they are there before the clock
        begun = time.perf_counter()
        list(threads.map(system.put_each, pieces))
        return len(records) / (time.perf_counter() - begun)


def insert_one_by_one(system: Sqlite, records: Sequence[bytes]) -> float:
    """Records a second that one connection inserts, a transaction each."""
    begun = time.perf_counter()
    system.append([[data] for data in records])
    return len(records) / (time.perf_counter() - begun)


NO_HEADERS: Final[Mapping[str, bytes]] = {}


class PlainRecord:
    """What a consumer on LMDB would make: the fields of `Record`, and nothing else."""

    __slots__ = (
        "data", "headers", "partition_key", "sequence_number", "shard_id", "stream", "timestamp_us"
    )  # fmt: skip

    def __init__(self, data: bytes, sequence_number: int) -> None:
        self.data = data
        self.sequence_number = sequence_number
        self.partition_key = None
        self.shard_id = "shardId-000000000000"
        self.stream = "bench"
        self.timestamp_us = 0
        self.headers = NO_HEADERS


class LmdbRecords(Lmdb):
    """LMDB with a consumer that hands its function a record, as streamfn's does."""

    def consume_records(self, touch: Touch) -> None:
        """As `consume`, with a `PlainRecord` for each value."""
        seq = 0
        while entries := self._entries(seq):
            for key, data in entries:
                touch.record(PlainRecord(data, int.from_bytes(key, sys.byteorder)))  # type: ignore[arg-type]  # it has the same fields
            seq += len(entries)
            self.write_position(seq)

    def _entries(self, seq: int) -> list[tuple[bytes, bytes]]:
        with self.environment.begin(db=self.log) as transaction:
            cursor = transaction.cursor()
            if not cursor.set_range(seq.to_bytes(8, sys.byteorder)):
                return []
            return list(islice(cursor.iternext(), BATCH_RECORDS))


class Lengths:
    """A function that sums up the lengths of payloads: record by record, or by a whole column."""

    def __init__(self) -> None:
        self.total = 0

    def record(self, record: Record) -> None:
        """One record."""
        self.total += len(record.data)

    def arrow(self, batch: ArrowBatch) -> None:
        """One batch, as `input="arrow"` hands it over."""
        column = pa.record_batch(batch)["data"]
        self.total += pc.sum(pc.binary_length(column)).as_py()


def lengths(system: Streamfn, *, as_arrow: bool, bytes_of_all: int) -> float:
    """Seconds that a runner takes to call such a function with all records."""
    system.rewind()
    sizes = Lengths()
    seconds = system.call(
        sizes.arrow if as_arrow else sizes.record,
        lambda: sizes.total >= bytes_of_all,
        input="arrow" if as_arrow else "record",
        batch_size=ARROW_RECORDS if as_arrow else BATCH_RECORDS,
    )
    assert sizes.total == bytes_of_all
    return seconds


def plain_event(records: Records, stream: str) -> dict[str, Any]:
    """Lambda's Kinesis event, as a few lines of Python build it."""
    arn = f"arn:aws:kinesis:us-east-1:000000000000:stream/{stream}"
    shard_id = records.shard_id
    return {
        "Records": [
            {
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": record.partition_key,
                    "sequenceNumber": str(record.sequence_number),
                    "data": base64.b64encode(record.data).decode("ascii"),
                    "approximateArrivalTimestamp": record.timestamp_us / 1e6,
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": f"{shard_id}:{record.sequence_number}",
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": "arn:aws:iam::000000000000:role/streamfn",
                "awsRegion": "us-east-1",
                "eventSourceARN": arn,
            }
            for record in records
        ]
    }


def zstd_of_library(batches: Sequence[list[bytes]]) -> tuple[float, int]:
    """Seconds that the zstd library takes for the same lines at level 1, and what it leaves."""
    joined = [b"\n".join(batch) for batch in batches]
    compressor = zstandard.ZstdCompressor(level=1)
    begun = time.perf_counter()
    size = sum(len(compressor.compress(data)) for data in joined)
    return time.perf_counter() - begun, size


def zstd_of_stream(folder: Path, batches: Sequence[list[bytes]]) -> tuple[float, int]:
    """Seconds that appends to a compressed stream take, and the bytes of its segments."""
    with Log.open(folder) as log:
        stream = log.create_stream("events", durability="process", compression="zstd")
        begun = time.perf_counter()
        for batch in batches:
            stream.put_many(batch)
        seconds = time.perf_counter() - begun
        size = sum(shard.bytes for shard in stream.core.shards())
    shutil.rmtree(folder)
    return seconds, size


def json_events(count: int) -> list[list[bytes]]:
    """Orders in JSON, about 250 bytes each, in lists of `BATCH_RECORDS`: 250 KiB."""
    source = random.Random(SEED)
    events = [
        orjson.dumps(
            {
                "id": number,
                "user": f"user-{source.randrange(50_000):05}",
                "city": source.choice(CITIES),
                "amount": source.randrange(100, 90_000) / 100,
                "items": [
                    {"sku": f"{group}-{source.randrange(10_000):04}", "count": source.randrange(9)}
                    for group in "AB"
                ],
                "paid": source.random() < 0.9,
                "at": f"2026-11-{source.randrange(1, 31):02}T{source.randrange(24):02}:00:00Z",
                "agent": "Mozilla/5.0 (X11; Linux x86_64)",
            }
        )
        for number in range(count)
    ]
    return [events[at : at + BATCH_RECORDS] for at in range(0, count, BATCH_RECORDS)]
