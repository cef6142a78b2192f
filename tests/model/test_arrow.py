"""Tests for `Batch.to_arrow`: Arrow libraries read our records through the PyCapsule interface."""

import ctypes
import gc
from datetime import UTC, datetime

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from streamfn.model.batch import Batch
from streamfn.model.record import Record

ARRIVED_US = 1_767_225_600_123_456
ARRIVED = datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)
RUNS = 1_000
NOISE_BYTES = 64 * 1024
"""What the allocator may keep for later; the least that a run can leave is more, 1,000 times."""
COLUMNS = ["data", "partition_key", "sequence_number", "timestamp", "headers"]


@pytest.fixture
def batch():
    """Three records: with a key and headers, with neither, and with an empty payload."""
    records = [
        Record(b"a\x00\xff", "ключ", sequence_number=7, headers={"h": b"\x01", "i": b""}),
        Record(b"bb", None, sequence_number=9),
        Record(b"", "k", sequence_number=10, timestamp_us=ARRIVED_US),
    ]
    return Batch.of(records)


class Mallinfo2(ctypes.Structure):
    """What glibc's `mallinfo2` says of the memory that `malloc` handed out."""

    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks")),
        ("hblkhd", ctypes.c_size_t),  # bytes of large pieces, each mapped by itself
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks")),
        ("uordblks", ctypes.c_size_t),  # bytes of all others
        *((name, ctypes.c_size_t) for name in ("fordblks", "keepcost")),
    )


@pytest.fixture
def growth_of():
    """The bytes that `malloc` has handed out, and not got back, after many calls of a function.

    The extension's memory is `malloc`'s, which Python's own tools do not see.
    """
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = Mallinfo2

    def handed_out():
        gc.collect()
        info = mallinfo2()
        return info.uordblks + info.hblkhd

    def growth_of(call):
        for _ in range(RUNS):  # what is made once is made now
            call()
        before = handed_out()
        for _ in range(RUNS):
            call()
        return handed_out() - before

    return growth_of


def test_pyarrow_reads_every_column(batch):
    table = pa.record_batch(batch.to_arrow())

    table.validate(full=True)
    assert table.schema.names == COLUMNS
    assert table["data"].to_pylist() == [b"a\x00\xff", b"bb", b""]
    assert table["partition_key"].to_pylist() == ["ключ", None, "k"]
    assert table["sequence_number"].to_pylist() == [7, 9, 10]
    assert table["timestamp"].to_pylist()[2] == ARRIVED
    assert table["headers"].to_pylist() == [[("h", b"\x01"), ("i", b"")], [], []]


def test_the_batch_itself_is_enough(batch):
    assert pa.record_batch(batch).equals(pa.record_batch(batch.to_arrow()))


def test_what_pyarrow_got_outlives_the_batch(batch):
    """The buffers are owned by whoever imported them last."""
    table = pa.record_batch(batch.to_arrow())
    copies = [batch.to_arrow() for _ in range(100)]
    del batch, copies

    assert table["data"].to_pylist() == [b"a\x00\xff", b"bb", b""]


def test_capsules_that_nobody_reads_are_freed(batch, growth_of):
    """Each of the three, and what it refers to."""
    for export in ["__arrow_c_schema__", "__arrow_c_array__", "__arrow_c_stream__"]:
        assert growth_of(getattr(batch.to_arrow(), export)) < NOISE_BYTES, export
    assert growth_of(batch.to_arrow) < NOISE_BYTES


@pytest.mark.parametrize("read", [pa.schema, pa.array, pa.record_batch, pa.table])
def test_what_pyarrow_got_is_freed_with_it(batch, growth_of, read):
    """The importer gives back what it was handed; an array is imported as one of structs."""
    assert growth_of(lambda: read(batch.to_arrow())) < NOISE_BYTES


def test_polars_reads_it(batch):
    frame = pl.DataFrame(batch.to_arrow())

    assert frame.columns == COLUMNS
    assert frame["data"].to_list() == [b"a\x00\xff", b"bb", b""]
    assert frame["timestamp"][2] == ARRIVED


def test_duckdb_reads_it(batch):
    arrow = batch.to_arrow()  # noqa: F841 -- DuckDB finds it by its name

    rows = duckdb.sql("select sum(octet_length(data)), count(partition_key) from arrow").fetchall()

    assert rows == [(5, 2)]


def test_no_records_are_a_table_without_rows():
    table = pa.record_batch(Batch.of([]).to_arrow())

    assert table.schema.names == COLUMNS
    assert len(table) == 0
