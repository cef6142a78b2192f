"""Writes the golden log of this format version: `python tests/formats/make_golden.py`.

Run once for each version of the format, and never again: what it wrote is read by
`test_golden.py` for ever. The control file is left out; it is made anew from the rest.
"""

import json
import shutil
import sys
from pathlib import Path

from streamfn import _core

RECORDS = 300


def write(folder):
    """A log with both codecs and durabilities, keys, headers, several shards and a mapping."""
    log = _core.Log.open(str(folder))
    for name, options in {
        "plain": {"compression": "none", "durability": "process"},
        "packed": {"compression": "zstd", "durability": "group", "shards": 3},
    }.items():
        stream = log.create_stream(name, **options)
        for start in range(0, RECORDS, 100):
            numbers = range(start, start + 100)
            stream.put_many(
                [f"value {n} of {name}".encode() * (1 + n % 3) for n in numbers],
                [None if n % 7 == 0 else f"kéy {n % 10}" for n in numbers],
                [{"n": b"%d" % n, "empty": b""} if n % 5 == 0 else None for n in numbers],
            )
    mapping = _core.Mapping.register(log, "golden.reads", factor=2, start=150)
    mapping.prepare("plain")
    found = described(log)
    log.close()
    (folder / "control").unlink()
    return found


def described(log):
    """Everything that has to be read from the log, as JSON."""
    streams = {}
    for name in log.streams():
        stream = log.stream(name)
        streams[name] = {
            shard.shard_id: [
                {
                    "sequence_number": record.sequence_number,
                    "data": record.text(),
                    "partition_key": record.partition_key,
                    "headers": {key: value.decode() for key, value in record.headers.items()},
                    "timestamp_us": record.timestamp_us,
                }
                for record in stream.reader(shard.shard_id).poll(1_000_000)
            ]
            for shard in stream.shards()
        }
    mapping = _core.Mapping.open(log, "golden.reads")
    lanes = [[lane.stream, lane.shard_id, lane.slot, lane.checkpoint] for lane in mapping.lanes()]
    return {"streams": streams, "lanes": lanes}


if __name__ == "__main__":
    target = Path(__file__).parent / (sys.argv[1] if len(sys.argv) > 1 else "v1")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    expected = write(target / "log")
    (target / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False))
