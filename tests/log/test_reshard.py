"""Tests for splitting, merging and trimming through `streamfn.Log`."""

import itertools
import subprocess
import sys
import textwrap
import threading
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest

from streamfn import ConfigError, Log
from streamfn.errors import SequenceTrimmed, StreamClosed

SHARD = [f"shardId-{number:012}" for number in range(10)]


def by_key(batches):
    """The payloads of each key as numbers, in the order they came."""
    found = defaultdict(list)
    for batch in batches:
        for record in batch:
            found[record.partition_key].append(int(record.data))
    return found


def put_round(stream, n):
    """Put `n` under each of ten keys."""
    stream.put_many([b"%d" % n] * 10, [f"key-{k}" for k in range(10)])


@pytest.fixture
def stream(log):
    """A stream of one shard."""
    return log.create_stream("orders")


class TestSplitAndMerge:
    """Tests for what becomes of the shards."""

    def test_a_split_halves_the_hash_keys(self, stream):
        assert stream.split(SHARD[0]) == (SHARD[1], SHARD[2])

        parent, low, high = stream.info().shards
        assert (parent.is_open, low.is_open, high.is_open) == (False, True, True)
        assert low.parents == high.parents == (SHARD[0],)
        assert low.hash_keys == (0, 2**127 - 1)
        assert high.hash_keys == (2**127, 2**128 - 1)

    def test_a_split_at_a_hash_key(self, stream):
        stream.split(SHARD[0], at=1000)

        assert stream.info().shards[1].hash_keys == (0, 999)

    def test_a_merge_joins_them_again(self, stream):
        stream.split(SHARD[0])

        assert stream.merge(SHARD[2], SHARD[1]) == SHARD[3]
        merged = stream.info().shards[3]
        assert merged.parents == (SHARD[1], SHARD[2])
        assert merged.hash_keys == (0, 2**128 - 1)

    def test_a_closed_shard_is_refused(self, stream):
        stream.split(SHARD[0])

        with pytest.raises(StreamClosed, match=f"`orders/{SHARD[0]}` was closed"):
            stream.split(SHARD[0])

    def test_what_cannot_be_is_refused(self, log, stream):
        wide = log.create_stream("wide", shards=3)

        for attempt in (
            lambda: stream.split(SHARD[5]),
            lambda: stream.split("first"),
            lambda: stream.split(SHARD[0], at=0),
            lambda: wide.merge(SHARD[0], SHARD[2]),
            lambda: wide.merge(SHARD[0], SHARD[0]),
        ):
            with pytest.raises(ConfigError):
                attempt()
        assert len(stream.info().shards) == 1


class TestReading:
    """Tests for the order in which shards are read."""

    def test_parents_are_read_before_their_children(self, stream):
        put_round(stream, 0)
        low, high = stream.split(SHARD[0])
        put_round(stream, 1)
        stream.merge(low, high)
        put_round(stream, 2)

        found = by_key(stream.read())
        assert all(values == [0, 1, 2] for values in found.values())
        assert len(found) == 10

    def test_one_who_follows_goes_on_in_the_children(self, stream):
        put_round(stream, 0)
        batches = stream.read(follow=True)
        found = by_key(itertools.islice(batches, 1))

        low, high = stream.split(SHARD[0])
        put_round(stream, 1)
        stream.merge(low, high)
        put_round(stream, 2)
        while sum(map(len, found.values())) < 30:
            for key, values in by_key([next(batches)]).items():
                found[key] += values

        assert all(values == [0, 1, 2] for values in found.values())

    def test_one_who_follows_one_shard_ends_with_it(self, stream):
        put_round(stream, 0)
        stream.split(SHARD[0])
        put_round(stream, 1)

        found = by_key(stream.read(shard=SHARD[0], follow=True))
        assert all(values == [0] for values in found.values())

    def test_nothing_is_missed_while_shards_change(self, stream):
        """A reader in its own thread follows through splits and merges of a busy stream."""
        batches, found, is_over = stream.read(follow=True), defaultdict(list), threading.Event()

        def follow():
            for batch in batches:
                for record in batch:
                    found[record.partition_key].append(int(record.data))
                if sum(map(len, found.values())) == 600:
                    is_over.set()
                    return

        reader = threading.Thread(target=follow, daemon=True)
        reader.start()
        for n in range(60):
            put_round(stream, n)
            if n % 10 == 5:
                open_shards = [shard for shard in stream.info().shards if shard.is_open]
                if len(open_shards) > 2:
                    open_shards.sort(key=lambda shard: shard.hash_keys)
                    stream.merge(open_shards[0].shard_id, open_shards[1].shard_id)
                else:
                    stream.split(open_shards[-1].shard_id)

        assert is_over.wait(240)
        assert all(values == list(range(60)) for values in found.values())


PRODUCER = """
    import sys
    from streamfn import Log

    with Log.open(sys.argv[1], create=False) as log:
        stream = log.stream("orders")
        keys = [f"{sys.argv[2]}-{k}" for k in range(5)]
        print("ready", flush=True)
        for n in range(int(sys.argv[3])):
            stream.put_many([b"%d" % n] * 5, keys)
"""


def test_producers_in_other_processes_go_on_with_the_children(log, log_dir):
    """Their handles know nothing of the change until they meet it, and keep every key in order."""
    stream = log.create_stream("orders", shards=2)
    producers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PRODUCER), str(log_dir), name, "150"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b", "c")
    ]
    for producer in producers:
        assert producer.stdout.readline() == "ready\n"
    for turn in range(4):
        open_shards = [shard for shard in stream.info().shards if shard.is_open]
        open_shards.sort(key=lambda shard: shard.hash_keys)
        if turn % 2:
            stream.merge(open_shards[0].shard_id, open_shards[1].shard_id)
        else:
            stream.split(open_shards[0].shard_id)
    for producer in producers:
        producer.communicate(timeout=240)

    assert [producer.returncode for producer in producers] == [0, 0, 0]
    found = by_key(stream.read())
    for name, k in itertools.product("abc", range(5)):
        assert found[f"{name}-{k}"] == list(range(150))


class TestTrim:
    """Tests for letting go of records."""

    def test_records_before_a_number_are_gone(self, stream):
        put_round(stream, 0)

        stream.trim(4)

        assert stream.info().shards[0].trim_horizon == 4
        [batch] = stream.read()
        assert [record.sequence_number for record in batch] == list(range(4, 10))
        with pytest.raises(SequenceTrimmed):
            list(stream.read(3))

    def test_records_before_a_time_are_gone_in_all_shards(self, log):
        stream = log.create_stream("wide", shards=2)
        put_round(stream, 0)
        put_round(stream, 1)
        stream.trim(datetime.now(UTC) - timedelta(hours=1))
        assert all(values == [0, 1] for values in by_key(stream.read()).values())

        stream.trim(datetime.now(UTC) + timedelta(hours=1))
        assert by_key(stream.read()) == {}

    def test_a_number_needs_a_shard(self, log):
        stream = log.create_stream("wide", shards=2)
        put_round(stream, 0)

        with pytest.raises(ConfigError, match="name the shard"):
            stream.trim(1)
        stream.trim(1, shard=SHARD[1])
        assert [shard.trim_horizon for shard in stream.info().shards] == [0, 1]

    def test_a_closed_shard_can_be_trimmed_and_opened_again(self, log_dir):
        with Log.open(log_dir) as log:
            stream = log.create_stream("orders")
            put_round(stream, 0)
            stream.split(SHARD[0])
            stream.trim(10**6, shard=SHARD[0])
            put_round(stream, 1)

        with Log.open(log_dir) as log:
            stream = log.stream("orders")
            put_round(stream, 2)
            assert all(values == [1, 2] for values in by_key(stream.read()).values())
            parent = stream.info().shards[0]
            assert (parent.is_open, parent.segments, parent.records) == (False, 1, 0)
