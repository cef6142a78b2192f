"""Writes a golden log: `python tests/formats/make_golden.py v1`.

Run once for each version of the format, or for what a golden log does not have yet under a new
name, and never again: what it wrote is read by `test_golden.py` for ever. The control file is left
out; it is made anew from the rest.
"""

import json
import os
import signal
import subprocess
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


def write_marked(folder):
    """A log with what the first one lacks: marks, several segments, a split, a changed factor.

    Segment files of more than one MiB are mostly one letter, which the repository packs well.
    """
    this = [sys.executable, __file__]
    assert subprocess.run([*this, "--half-way", folder], check=False).returncode == -signal.SIGKILL
    # As after the machine stopped: an EPOCH begins every shard's next batch.
    (folder / "control").unlink()
    log = _core.Log.open(str(folder))
    for name in ("rolled", "split"):
        stream = log.stream(name)
        stream.put_many([f"after {n}".encode() for n in range(10)], [f"k{n}" for n in range(10)])
    left, right = log.stream("split").split("shardId-000000000000")
    stream = log.stream("split")
    stream.put_many([f"child {n}".encode() for n in range(20)], [f"k{n}" for n in range(20)])
    stream.merge(left, right)
    log.stream("split").put(b"grandchild", "k")
    mapping = _core.Mapping.register(log, "golden.changed", factor=1)
    mapping.prepare("rolled")
    _core.Mapping.register(log, "golden.changed", factor=3)
    assert mapping.change_factor("rolled", "shardId-000000000000")
    mapping.set_paused(True)
    found = described(log)
    log.close()
    (folder / "control").unlink()
    return found


def write_half(folder):
    """Write what stands before the stop, leave a batch in flight, and die."""
    log = _core.Log.open(folder)
    rolled = log.create_stream(
        "rolled", compression="none", durability="process", segment_bytes=2**20,
        retention_seconds=7 * 86_400.0, retention_bytes=2**40, retention_consumed=True,
    )  # fmt: skip
    for n in range(24):
        rolled.put(b"%d " % n + b"x" * 65_536, "one")
    log.create_stream("split", shards=1, durability="group").put_many(
        [f"parent {n}".encode() for n in range(20)], [f"k{n}" for n in range(20)]
    )
    letters = log.create_stream("golden.marked.dlq", internal=True)
    letters.put(b"letter", "k", {"error": b"x" * 70_000})
    mapping = _core.Mapping.register(log, "golden.marked", factor=2)
    mapping.prepare("rolled")
    lanes = _core.LaneSet(log, worker="0" * 32, runner=0)
    for slot in range(2):
        lanes.add(
            slot, mapping, "rolled", "shardId-000000000000", slot,
            batch_size=5, batch_window=0.0, batch_bytes=2**20,
        )  # fmt: skip
    lanes.settle(lanes.next(1.0).lane)
    assert lanes.next(1.0) is not None
    log.sync()
    os.kill(os.getpid(), signal.SIGKILL)


def write_windowed(folder):
    """A log with window files: a JSON state, written over a longer one of bytes."""
    log = _core.Log.open(str(folder))
    log.create_stream("counted", durability="process").put_many([b"x"] * 20)
    mapping = _core.Mapping.register(log, "golden.windowed", factor=1, windowed=True)
    mapping.prepare("counted")
    lanes = _core.LaneSet(log, worker="0" * 32, runner=0)
    lanes.add(
        0, mapping, "counted", "shardId-000000000000", 0,
        batch_size=4, batch_window=0.0, batch_bytes=2**20, tumbling_window=10 * 365 * 86_400.0,
    )  # fmt: skip
    for kind, state in ((2, b"\xff" * 300), (1, b'{"n":8}'), (2, b"\xff" * 200), (1, b'{"n":16}')):
        lanes.next(1.0)
        lanes.keep_state(0, kind, state, ended_early=False)
        lanes.settle(0)
    lanes.close()
    found = described(log)
    found["windows"] = windows_of(log)
    log.close()
    (folder / "control").unlink()
    return found


def write_packed(folder):
    """A log with batches of codec 2: offsets of values, keys and headers are packed."""
    log = _core.Log.open(str(folder))
    stream = log.create_stream("packed", durability="process")
    stream.put_many(
        [f'{{"number": {n}}}'.encode() * (n % 9) for n in range(60)],
        [None if n % 7 == 0 else f"kéy {n % 10}" for n in range(60)],
        [{"n": b"%d" % n, "empty": b""} if n % 5 == 0 else None for n in range(60)],
    )
    log.create_stream("bare").put_many([b"long" * n for n in range(90)])
    found = described(log)
    log.close()
    (folder / "control").unlink()
    return found


def write_noted(folder):
    """A log with mappings that note where failures go: to a stream, nowhere, and nothing noted."""
    log = _core.Log.open(str(folder))
    log.create_stream("orders", durability="process").put_many([b"x"] * 3)
    for name, on_failure in {"kept": "dlq", "dropped": None, "sent": "badones"}.items():
        mapping = _core.Mapping.register(log, f"golden.{name}", factor=1)
        mapping.prepare("orders")
        mapping.note_on_failure(on_failure)
    found = described(log)
    log.close()
    (folder / "control").unlink()
    return found


def windows_of(log):
    """What the next call of the windowed lane is given."""
    mapping = _core.Mapping.open(log, "golden.windowed")
    lanes = _core.LaneSet(log, worker="0" * 32, runner=0)
    lanes.add(
        0, mapping, "counted", "shardId-000000000000", 0,
        batch_size=4, batch_window=0.0, batch_bytes=2**20, tumbling_window=10 * 365 * 86_400.0,
    )  # fmt: skip
    work = lanes.next(1.0)
    window = work.window
    lanes.yield_(0, work.entries, 0)
    lanes.close()
    numbers = work.records.sequence_numbers()
    state = [window.state_kind, window.state.decode()]
    return [numbers, window.start_us, window.end_us, *state]


def described(log):
    """Everything that has to be read from the log, as JSON."""
    streams = {}
    for name in log.streams(internal=True):
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
    mappings = [_core.Mapping.open(log, name) for name in _core.Mapping.names(log)]
    lanes = [
        [lane.stream, lane.shard_id, lane.slot, lane.checkpoint]
        for mapping in mappings
        for lane in mapping.lanes()
    ]
    shards = {
        name: [
            [
                shard.shard_id,
                str(shard.hash_key_first),
                str(shard.hash_key_last),
                shard.parents,
                shard.is_open,
            ]
            for shard in log.stream(name).shards()
        ]
        for name in log.streams(internal=True)
    }
    paused = [mapping.name for mapping in mappings if mapping.is_paused]
    on_failure = {mapping.name: mapping.on_failure for mapping in mappings}
    return {
        "streams": streams, "lanes": lanes, "shards": shards, "paused": paused,
        "on_failure": on_failure,
    }  # fmt: skip


GOLDEN = {
    "v1": write,
    "v1-marked": write_marked,
    "v1-windowed": write_windowed,
    "v1-packed": write_packed,
    "v1-noted": write_noted,
}
"""By name; a name is never used again."""


if __name__ == "__main__":
    if sys.argv[1] == "--half-way":
        write_half(sys.argv[2])
    target = Path(__file__).parent / sys.argv[1]
    target.mkdir()  # an error if it is there: a golden log is never written again
    expected = GOLDEN[target.name](target / "log")
    (target / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False))
