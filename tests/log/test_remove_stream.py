"""Tests for `Log.remove_stream`."""

import subprocess
import sys
import textwrap

import pytest

from streamfn import ConfigError, Log, _core
from streamfn.errors import StreamNotFound


def values(stream):
    """All payloads."""
    return [record.data for batch in stream.read() for record in batch]


def test_a_removed_stream_leaves_nothing_behind(log, log_dir):
    orders = log.create_stream("orders", shards=2)
    log.create_stream("other").put(b"kept")
    orders.put_many([b"1", b"2"], ["a", "b"])

    log.remove_stream("orders")

    assert log.streams() == ["other"]
    assert [path.name for path in (log_dir / "streams").iterdir()] == ["other"]
    assert values(log.stream("other")) == [b"kept"]
    for attempt in (
        lambda: log.stream("orders"),
        lambda: log.remove_stream("orders"),
        lambda: orders.put(b"3"),
        orders.info,
    ):
        with pytest.raises(StreamNotFound, match="orders"):
            attempt()


def test_the_next_stream_of_that_name_is_new(log_dir):
    with Log.open(log_dir) as log:
        old = log.create_stream("orders")
        old.put(b"old")
        log.remove_stream("orders")
        new = log.create_stream("orders", shards=2)
        new.put_many([b"1", b"2"], ["a", "b"])

        assert sorted(values(log.stream("orders"))) == [b"1", b"2"]
        with pytest.raises(StreamNotFound):
            old.put(b"3")
    with Log.open(log_dir) as log:
        assert sorted(values(log.stream("orders"))) == [b"1", b"2"]


def test_those_who_have_it_open_in_other_processes_are_told(log, log_dir):
    """A producer, a reader that waits, and a page that no other stream gets meanwhile."""
    code = """
        import sys
        from streamfn import Log
        from streamfn.errors import StreamNotFound

        with Log.open(sys.argv[1]) as log:
            stream = log.stream("orders")
            stream.put(b"1")
            batches = stream.read(follow=True)
            next(batches)
            print("ready", flush=True)
            try:
                next(batches)
            except StreamNotFound as error:
                print(error, flush=True)
            sys.stdin.readline()
            try:
                stream.put(b"2")
            except StreamNotFound as error:
                print(error, flush=True)
    """
    log.create_stream("orders")
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(log_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"

    log.remove_stream("orders")
    fresh = log.create_stream("fresh")
    fresh.put(b"of another stream")

    printed, _ = process.communicate("go on\n", timeout=240)
    assert process.returncode == 0
    assert len(printed.splitlines()) == 2
    assert values(fresh) == [b"of another stream"]


class TestFunctions:
    """Tests for streams that functions have read."""

    @pytest.fixture
    def mapping(self, log):
        """A mapping that has begun to read `orders`."""
        log.create_stream("orders").put(b"old")
        mapping = _core.Mapping.register(log.core, "shop.total", factor=2, start="latest")
        mapping.prepare("orders")
        return mapping

    def test_it_is_kept(self, log, mapping):
        with pytest.raises(ConfigError, match=f"`orders` belongs to functions: `{mapping.name}`"):
            log.remove_stream("orders")

        assert values(log.stream("orders")) == [b"old"]
        assert [lane.checkpoint for lane in mapping.lanes()] == [1, 1]

    def test_they_forget_it_if_that_is_asked(self, log, mapping):
        log.remove_stream("orders", force=True)
        assert mapping.lanes() == []

        log.create_stream("orders").put(b"new")
        mapping.prepare("orders")
        assert [lane.checkpoint for lane in mapping.lanes()] == [1, 1]

    def test_a_stream_that_is_being_read_is_kept_whatever_is_asked(self, log, mapping):
        lanes = _core.LaneSet(log.core, worker="00" * 16, runner=0)
        lane = {"lane": 0, "mapping": mapping, "stream": "orders", "slot": 0}
        limits = {"batch_size": 10, "batch_window": 0.0, "batch_bytes": 2**20}
        assert lanes.add(shard_id="shardId-000000000000", **lane, **limits) == "ok"

        with pytest.raises(ConfigError, match="stop it first"):
            log.remove_stream("orders", force=True)
        assert values(log.stream("orders")) == [b"old"]
        lanes.close()

    def test_dead_letters_are_their_functions(self, log, mapping):
        log.core.create_stream(f"{mapping.name}.dlq", internal=True)

        with pytest.raises(ConfigError, match="belongs to functions"):
            log.remove_stream(f"{mapping.name}.dlq")
