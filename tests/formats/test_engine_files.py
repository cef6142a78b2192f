"""What the engine writes is what docs/format.md says: a reader made from the page reads it."""

import time
from pathlib import Path

import pytest
from decoder import (
    crc32c,
    read_batches,
    read_format,
    read_manifest,
    read_segment_header,
    read_shard,
    read_state,
)
from decoder_lanes import read_lanes, read_mapping, read_ranges, read_windows

import streamfn
from streamfn import _core

RECORDS = [
    (b"", None, {}),
    (b"plain", None, {}),
    (b"with an empty key is refused, with a long one not", "k" * 256, {}),
    ("größer".encode(), "schlüssel", {"trace": b"\x00\xff", "": b""}),
    (b"x" * 5_000, "ada", {"a": b"1"}),
    (b'{"n": 1}' * 400, "bob", {}),
]


def folder(log_dir: Path, stream: str, shard_id: str) -> Path:
    return log_dir / "streams" / stream / shard_id


def put_all(log, name, **options):
    stream = log.create_stream(name, **options)
    data, keys, headers = (list(column) for column in zip(*RECORDS, strict=True))
    return stream.put_many(data, keys, headers)


class TestSegments:
    """Segments, batch headers and bodies."""

    @pytest.mark.parametrize("compression", ["none", "zstd"])
    @pytest.mark.parametrize("durability", ["process", "group"])
    def test_every_record_is_found_where_its_result_says(
        self, log, log_dir, compression, durability
    ):
        results = put_all(log, "s", shards=3, compression=compression, durability=durability)
        log.close()

        found = {
            (shard.name, record.sequence_number): (record.data, record.key, record.headers)
            for shard in (log_dir / "streams" / "s").glob("shardId-*")
            for batch in read_shard(shard)
            for record in batch.records
        }
        assert {
            (result.shard_id, result.sequence_number): record
            for result, record in zip(results, RECORDS, strict=True)
        } == found

    def test_what_shrinks_is_compressed_and_what_does_not_is_not(self, log, log_dir):
        log.create_stream("s").put_many([b"abc" * 1_000])
        log.stream("s").put_many([b"abc"])
        log.close()

        batches = read_shard(folder(log_dir, "s", "shardId-000000000000"))
        assert [2, 0] == [batch.flags & 0xF for batch in batches]

    def test_times_and_numbers_only_rise(self, log, log_dir):
        stream = log.create_stream("s")
        for _ in range(20):
            stream.put(b"x")
        log.close()

        batches = read_shard(folder(log_dir, "s", "shardId-000000000000"))
        times = [batch.base_time for batch in batches]
        assert sorted(times) == times
        assert list(range(20)) == [r.sequence_number for batch in batches for r in batch.records]
        assert [batch.base for batch in batches] == [batch.durable_end for batch in batches]

    def test_each_batch_says_where_it_stands(self, log, log_dir):
        log.core.create_stream("s", segment_bytes=1 << 20, compression="none")
        stream = log.stream("s")
        for _ in range(5):
            stream.put(bytes(400_000))
        stream.split("shardId-000000000000")
        log.close()

        files = sorted(folder(log_dir, "s", "shardId-000000000000").glob("*.seg"))
        assert len(files) == 4
        for ordinal, path in enumerate(files):
            data = path.read_bytes()
            batches = list(read_batches(data, read_segment_header(data).previous_crc))
            assert batches
            assert [ordinal << 32 | batch.at // 8 for batch in batches] == [
                b.place for b in batches
            ]

    def test_the_segment_header_says_whose_file_it_is(self, log, log_dir):
        log.create_stream("s", shards=2).put(b"x")
        log.close()

        [path] = folder(log_dir, "s", "shardId-000000000001").glob("*.seg")
        header = read_segment_header(path.read_bytes())
        assert read_format((log_dir / "FORMAT").read_bytes()) == header.log_uuid
        assert (1, 0, 0, 0, []) == (
            header.shard,
            header.epoch,
            header.base,
            header.previous_crc,
            header.parents,
        )
        assert (2**127 - 1, 2**128 - 1) == header.hash_range
        assert f"streamfn {streamfn.__version__}" == header.writer


class TestOtherFiles:
    """FORMAT, manifests, state, mappings and lanes."""

    def test_a_manifest_says_how_the_stream_was_made(self, log, log_dir):
        log.create_stream("s", shards=2, durability="process", compression="none")

        manifest = read_manifest((log_dir / "streams" / "s" / "manifest.json").read_bytes())
        assert ("process", "none", 2) == (
            manifest["durability"],
            manifest["compression"],
            len(manifest["shards"]),
        )
        assert all(shard["is_open"] for shard in manifest["shards"])

    def test_numbers_are_reserved_before_they_are_issued(self, log, log_dir):
        stream = log.create_stream("s")
        stream.put(b"x")
        path = folder(log_dir, "s", "shardId-000000000000") / "state"

        assert read_state(path.read_bytes()).reserved >= 2**20
        log.close()
        assert (1, 1) == (
            (state := read_state(path.read_bytes())).reserved,
            state.recovery_sequence,
        )

    def test_a_mapping_and_its_lanes_say_how_far_they_are(self, log, log_dir):
        log.create_stream("s").put_many([b"x"] * 10)
        mapping = _core.Mapping.register(log.core, "app.fn", factor=1)
        [shard_id] = mapping.prepare("s")
        path = log_dir / "mappings" / "app.fn" / "s" / f"{shard_id}.lanes"
        lanes = _core.LaneSet(log.core, worker="ab" * 16, runner=3)
        lanes.add(0, mapping, "s", shard_id, 0, batch_size=4, batch_window=0.0, batch_bytes=2**20)

        work = lanes.next(1.0)
        head, [lane] = read_lanes(path.read_bytes())
        assert 1 == head.factor
        assert 0 == lane.checkpoint.next
        assert (bytes.fromhex("ab" * 16), 3, 0, 4) == (
            lane.in_flight.worker,
            lane.in_flight.runner,
            lane.in_flight.formed_at,
            lane.in_flight.end,
        )
        assert [(0, 3, 0)] == [(e.first, e.last, e.attempts) for e in lane.in_flight.entries]
        assert 0 == lane.in_flight.entries[0].not_before

        began = time.monotonic()
        lanes.wait(work.lane, [_core.Entry(0, 1), _core.Entry(2, 3)], 1, 0.05)
        _head, [lane] = read_lanes(path.read_bytes())
        first, second = (entry.not_before / 1000 for entry in lane.in_flight.entries)
        assert began + 0.05 <= first <= time.monotonic() + 0.051
        assert 0 == second
        work = lanes.next(10.0)

        lanes.settle(work.lane)
        lanes.close()
        _head, [lane] = read_lanes(path.read_bytes())
        assert 4 == lane.checkpoint.next
        assert lane.checkpoint.lease_epoch >= 1
        assert lane.in_flight is None or lane.in_flight.entries == []

        record = read_mapping((log_dir / "mappings" / "app.fn" / "mapping").read_bytes())
        assert (1, False, (0, 0), ["s"]) == (
            record.wanted_factor,
            record.is_paused,
            record.start,
            record.streams,
        )

    def test_window_files_hold_the_position_and_the_state(self, log, log_dir):
        log.create_stream("s").put_many([b"x"] * 10)
        mapping = _core.Mapping.register(log.core, "app.fn", factor=1, windowed=True)
        [shard_id] = mapping.prepare("s")
        lanes = _core.LaneSet(log.core, worker="ab" * 16, runner=3)
        limits = {"batch_size": 4, "batch_window": 0.0, "batch_bytes": 2**20}
        lanes.add(0, mapping, "s", shard_id, 0, **limits, tumbling_window=3600.0)
        folder = log_dir / "mappings" / "app.fn" / "s"

        work = lanes.next(1.0)
        lanes.keep_state(0, 1, b'{"n":4}', ended_early=False)
        lanes.settle(0)

        head, _ = read_lanes((folder / f"{shard_id}.lanes").read_bytes())
        pair = read_windows([(folder / f"{shard_id}.window.{x}").read_bytes() for x in "ab"], head)
        assert (1, 1) == (head.factor, head.flags)
        assert (4, 1, b'{"n":4}') == (pair.next, pair.kind, pair.state)
        assert (work.window.start_us, work.window.end_us) == pair.window
        assert (0, False) == (pair.closed_to, pair.is_ended_early)
        record = read_mapping((log_dir / "mappings" / "app.fn" / "mapping").read_bytes())
        assert 1 == record.wanted_factor

    def test_a_replay_says_what_it_reads(self, log, log_dir):
        log.create_stream("s", shards=3).put_many([b"x"] * 30)
        mapping = _core.Mapping.register(log.core, "app.fn", factor=2)
        mapping.prepare("s")
        plan = mapping.plan_replay("s", 4, "latest")

        replay = mapping.replay("s", plan)

        folder = log_dir / "mappings" / replay.name
        data = (folder / "mapping").read_bytes()
        assert list(plan.values()) == list(read_ranges(data).values())
        assert (2, ["s"]) == (read_mapping(data).wanted_factor, read_mapping(data).streams)
        for shard_id, (first, _) in plan.items():
            _head, lanes = read_lanes((folder / "s" / f"{shard_id}.lanes").read_bytes())
            assert [first, first] == [lane.checkpoint.next for lane in lanes]


def test_the_checksum_is_crc_32c():
    """The check value of the CRC catalogue."""
    assert 0xE3069283 == crc32c(b"123456789")
