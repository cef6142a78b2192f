"""Tests for `streamfn.log`: the friendly face of the core."""

import itertools
import threading
from datetime import UTC, datetime, timedelta
from math import inf, nan

import pytest

from streamfn import ConfigError, Log, PutResult
from streamfn.errors import RecordTooLarge, StreamClosed, StreamExists, StreamNotFound


def data_of(batches):
    """All payloads, in the order they came."""
    return [record.data for batch in batches for record in batch]


class TestLog:
    """Tests for `Log`."""

    def test_a_directory_becomes_a_log_and_stays_one(self, log_dir):
        with Log.open(log_dir) as log:
            log.create_stream("orders")

        with Log.open(log_dir, create=False) as log:
            assert log.streams() == ["orders"]
            assert log.path == str(log_dir)

    def test_a_reader_makes_no_log(self, log_dir):
        with pytest.raises(ConfigError) as caught:
            Log.open(log_dir, create=False)

        assert caught.value.field == "log_dir"
        assert not log_dir.exists()

    def test_a_directory_of_something_else_is_refused(self, tmp_path):
        (tmp_path / "letter.txt").write_text("dear reader")

        with pytest.raises(ConfigError, match="is not a log directory"):
            Log.open(tmp_path)

    def test_streams_are_sorted_and_internal_ones_left_out(self, log):
        log.create_stream("b")
        log.create_stream("a")
        log.core.create_stream("app.f.dlq", internal=True)

        assert log.streams() == ["a", "b"]

    def test_the_level_of_the_handle_is_that_of_its_streams(self, log_dir):
        with Log.open(log_dir, durability="process") as log:
            assert log.create_stream("quick").info().durability == "process"
            assert log.create_stream("safe", durability="group").info().durability == "group"

    def test_a_stream_can_be_made_once(self, log):
        log.create_stream("orders", shards=2)

        with pytest.raises(StreamExists):
            log.create_stream("orders")
        assert len(log.create_stream("orders", exist_ok=True).info().shards) == 2

    def test_a_stream_that_is_not_there(self, log):
        with pytest.raises(StreamNotFound, match="there is no stream `orders`"):
            log.stream("orders")

    @pytest.mark.parametrize(
        ("given", "seconds", "size", "consumed"),
        [
            (None, None, None, False),
            ("7d", 604_800, None, False),
            ("10GiB", None, 10 * 2**30, False),
            ("consumed", None, None, True),
            (("7d", "10GiB", "consumed"), 604_800, 10 * 2**30, True),
        ],
    )
    def test_retention_is_written_in_words(self, given, seconds, size, consumed, log):
        kept = log.create_stream("orders", retention=given).info().retention

        assert (kept["seconds"], kept["bytes"], kept["consumed"]) == (seconds, size, consumed)

    @pytest.mark.parametrize("given", ["always", "7", ("7d", "1h"), "0d", "", nan, (inf,)])
    def test_retention_that_makes_no_sense_is_refused(self, given, log):
        with pytest.raises(ConfigError) as caught:
            log.create_stream("orders", retention=given)

        assert caught.value.field == "retention"
        assert log.streams() == []

    @pytest.mark.parametrize("timeout", [nan, inf, -inf])
    @pytest.mark.parametrize(
        "call",
        [
            lambda log, stream, timeout: stream.put(b"x", timeout=timeout),
            lambda log, stream, timeout: stream.put_many([b"x"], timeout=timeout),
            lambda log, stream, timeout: stream.split(f"shardId-{0:012}", timeout=timeout),
            lambda log, stream, timeout: stream.merge(
                f"shardId-{0:012}", f"shardId-{1:012}", timeout=timeout
            ),
            lambda log, stream, timeout: log.remove_stream("orders", timeout=timeout),
        ],
        ids=["put", "put_many", "split", "merge", "remove_stream"],
    )
    def test_a_timeout_that_never_ends_is_refused_before_anything_is_done(self, call, timeout, log):
        stream = log.create_stream("orders", shards=2)

        with pytest.raises(ConfigError, match=f"`{timeout}` is not a number of seconds") as caught:
            call(log, stream, timeout)

        assert caught.value.field == "timeout"
        shards = log.stream("orders").info().shards
        assert [(shard.is_open, shard.end) for shard in shards] == [(True, 0), (True, 0)]

    def test_closing_one_handle_leaves_the_others_open(self, log_dir):
        """A function may open and close the log of its own worker."""
        log = Log.open(log_dir)
        stream = log.create_stream("orders")
        with Log.open(log_dir) as other:
            other.stream("orders").put(b"1")

        stream.put(b"2")
        assert log.streams() == ["orders"]
        with pytest.raises(StreamClosed):
            other.streams()

        log.close()
        with pytest.raises(StreamClosed):
            stream.put(b"3")

    def test_closing_twice_is_fine(self, log_dir):
        log = Log.open(log_dir)
        log.close()
        log.close()


class TestPut:
    """Tests for `Stream.put` and `put_many`."""

    def test_a_result_says_where_the_record_is(self, log):
        stream = log.create_stream("orders")

        assert stream.put(b"a", "key") == PutResult("shardId-000000000000", 0)
        assert stream.put(b"b").sequence_number == 1

    def test_results_come_in_the_order_given(self, log):
        stream = log.create_stream("orders", shards=4)

        results = stream.put_many([b"%d" % n for n in range(100)], [f"k{n}" for n in range(100)])

        assert len(results) == 100
        places = {(r.shard_id, r.sequence_number): r for r in results}
        assert len(places) == 100
        for batch in stream.read():
            for record in batch:
                n = int(record.data)
                assert results[n] == (record.shard_id, record.sequence_number)
        assert results[-1] == results[99]
        assert list(results[2:4]) == [results[2], results[3]]
        with pytest.raises(IndexError):
            results[100]

    def test_an_invalid_entry_refuses_the_whole_call(self, log):
        stream = log.create_stream("orders")

        with pytest.raises(RecordTooLarge) as caught:
            stream.put_many([b"fine", b"x" * (10 * 2**20 + 1)])
        assert caught.value.index == 1
        with pytest.raises(ValueError, match="key"):
            stream.put_many([b"fine", b"fine"], ["key", ""])
        assert data_of(stream.read()) == []

    def test_headers_travel_along(self, log):
        stream = log.create_stream("orders")
        stream.put(b"a", headers={"trace": b"\x00\xff"})
        stream.put_many([b"b", b"c"], headers=[None, {"x": b"1"}])

        [batch] = stream.read()
        assert [dict(record.headers) for record in batch] == [{"trace": b"\0\xff"}, {}, {"x": b"1"}]


class TestRead:
    """Tests for `Stream.read`."""

    def test_it_ends_at_what_was_visible_when_it_was_called(self, log):
        stream = log.create_stream("orders", shards=2)
        stream.put_many([b"%d" % n for n in range(10)])
        batches = stream.read()
        stream.put_many([b"later"] * 10)

        assert sorted(data_of(batches)) == [b"%d" % n for n in range(10)]

    def test_batches_are_of_one_shard_and_in_its_order(self, log):
        stream = log.create_stream("orders", shards=3)
        stream.put_many([b"%d" % n for n in range(30_000)], [f"k{n % 50}" for n in range(30_000)])

        seen = {}
        for batch in stream.read():
            assert len({record.shard_id for record in batch}) == 1
            for record in batch:
                assert seen.get(record.partition_key, -1) < int(record.data)
                seen[record.partition_key] = int(record.data)
        assert sum(len(batch) for batch in stream.read()) == 30_000

    def test_it_starts_where_asked(self, log):
        stream = log.create_stream("orders")
        stream.put_many([b"0", b"1", b"2"])
        later = datetime.now(UTC) + timedelta(hours=1)

        assert data_of(stream.read("latest")) == []
        assert data_of(stream.read(1)) == [b"1", b"2"]
        assert data_of(stream.read(later)) == []
        assert data_of(stream.read(later - timedelta(hours=2))) == [b"0", b"1", b"2"]

    def test_one_shard_only(self, log):
        stream = log.create_stream("orders", shards=2)
        stream.put_many([b"x"] * 100, [f"k{n}" for n in range(100)])

        for shard in stream.info().shards:
            records = [r for batch in stream.read(shard=shard.shard_id) for r in batch]
            assert {record.shard_id for record in records} == {shard.shard_id}
            assert len(records) == shard.records
        with pytest.raises(ConfigError, match="has no shard `shardId-9`, use one of"):
            stream.read(shard="shardId-9")

    def test_following_sees_what_comes_later(self, log):
        stream = log.create_stream("orders", shards=2)
        stream.put(b"0")

        def put_more():
            for n in range(1, 20):
                stream.put(b"%d" % n)

        thread = threading.Thread(target=put_more)
        thread.start()
        records = (record for batch in stream.read(follow=True) for record in batch)
        found = [int(record.data) for record in itertools.islice(records, 20)]
        thread.join()

        assert sorted(found) == list(range(20))


def test_info_tells_what_a_stream_holds(log):
    stream = log.create_stream("orders", shards=2)
    before = stream.info()
    stream.put_many([b"x" * 100] * 10)
    after = stream.info()

    assert (before.records, after.records) == (0, 10)
    assert after.bytes > before.bytes
    assert all(shard.last_record is None for shard in before.shards)
    assert datetime.now(UTC) - after.created < timedelta(minutes=1)
    [first, second] = after.shards
    assert first.hash_keys[0] == 0
    assert second.hash_keys == (first.hash_keys[1] + 1, 2**128 - 1)
    assert (after.durability, after.compression) == ("group", "zstd")
