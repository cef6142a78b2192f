"""The worked example of docs/format.md, read from the page: by the decoder and by the engine."""

import re
from pathlib import Path

import pytest
from decoder import SEGMENT_HEADER_BYTES, Record, read_batches

import streamfn

PAGE = Path(__file__).resolve().parents[2] / "docs" / "format.md"
TIME = 1_357_016_400_000_000
RECORDS = [
    Record(0, TIME, b'{"n":1}', "ada", {}),
    Record(1, TIME, b"hello", None, {"h": b"v"}),
    Record(2, TIME + 1_000, b"bye", None, {}),
]


@pytest.fixture
def example() -> bytes:
    """Bytes of the page's dump; each line says where it belongs."""
    lines = re.findall(r"^([0-9a-f]{4})  ((?:[0-9a-f]{2} ?)+)  ", PAGE.read_text(), re.MULTILINE)
    data = b""
    for at, line in lines:
        assert int(at, 16) == SEGMENT_HEADER_BYTES + len(data)
        data += bytes.fromhex(line)
    return data


def test_the_decoder_reads_the_three_records(example):
    batches = list(read_batches(bytes(SEGMENT_HEADER_BYTES) + example, previous_crc=0))

    assert RECORDS == [record for batch in batches for record in batch.records]
    assert [0, 2] == [batch.durable_end for batch in batches]


def test_the_engine_reads_the_three_records(example, log_dir):
    """Put behind the header of an empty shard, they are found by recovery as if put there."""
    with streamfn.Log.open(log_dir) as log:
        log.create_stream("s", compression="none")
    [segment] = log_dir.glob("streams/s/*/*.seg")
    with segment.open("ab") as file:
        file.write(example)
    (log_dir / "control").unlink()  # a hint, rebuilt on opening from what the files hold

    with streamfn.Log.open(log_dir) as log:
        read = [record for batch in log.stream("s").read() for record in batch]
        assert RECORDS == [
            Record(r.sequence_number, r.timestamp_us, r.data, r.partition_key, dict(r.headers))
            for r in read
        ]
        assert log.stream("s").put(b"x").sequence_number == 3


def test_the_table_below_the_dump_quotes_it(example):
    """Every row with bytes in full shows those that stand there."""
    rows = re.findall(
        r"^\| ([0-9a-f]{4}) \| `((?:[0-9a-f]{2} ?)+)`", PAGE.read_text(), re.MULTILINE
    )

    assert len(rows) >= 8
    for at, quoted in rows:
        begin = int(at, 16) - SEGMENT_HEADER_BYTES
        assert example[begin:].startswith(bytes.fromhex(quoted)), at
