"""The extension is never brought to a panic: odd arguments are an error of ours, or of Python's.

A panic is `pyo3_runtime.PanicException`, which is no `Exception`: it would pass every handler.
"""

import os
import subprocess
import sys
import textwrap
import threading
from random import Random

import pytest
from odd_arguments import MAKES, METHODS, MOST, Arguments, attempt

from streamfn import Batch, ConfigError, Record, _core
from streamfn._core import Board, LaneSet, Log, Mapping, Membership, Records
from streamfn.errors import StreamClosed

SHARD = "shardId-000000000000"
WORKER = "0" * 32


def call_with(make, function, names):
    """Call a function with arguments of these names."""
    args, kwargs = [], {}
    for name in names:
        if not name.endswith("="):
            args.append(make.make(name))
        elif name not in OPTIONAL or make.random.random() < 0.6:
            kwargs[name[:-1]] = make.make(name[:-1])
    return attempt(function, *args, **kwargs)


OPTIONAL = {
    *("sequence_number=", "shard_id=", "stream=", "timestamp_us=", "headers=", "filter=", "board="),
    *("index=", "start=", "windowed=", "timeout=", "internal=", "force=", "exist_ok=", "shards="),
    *("durability=", "retention_seconds=", "retention_bytes=", "retention_consumed="),
    *("compression=", "segment_bytes=", "skip_corruption=", "for_records=", "alone="),
}


def keep(pool, found):
    """Add what a call returned to what the next ones get, and read all that it tells."""
    for each in found if isinstance(found, list | tuple) else [found]:
        if type(each).__module__ != "streamfn._core":
            continue
        for name in dir(each):
            if not name.startswith("__"):
                attempt(getattr, each, name)
        attempt(repr, each)
        attempt(hash, each)
        attempt(list, each) if isinstance(each, Records) else None
        if len(pool) < 300:
            pool.append(each)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_the_core_is_called_with_it_does_not_panic(seed):
    """400 calls of anything there is, with what the calls before returned among the arguments."""
    random = Random(seed)
    log = Log.in_memory(random.choice([0, 10**15, 2**63, MOST]))
    pool = [log, LaneSet(log, worker=WORKER, runner=1), Board.create()]
    make = Arguments(random, pool)
    for name, shards in (("s", 2), ("t", 1)):
        keep(pool, log.create_stream(name, shards=shards))
    for name in ("app.fn", "app.g"):
        mapping = Mapping.register(log, name, factor=random.choice([1, 3]), windowed=False)
        attempt(mapping.prepare, "s")
        pool.append(mapping)
    pool += [make.record() for _ in range(5)]
    for _ in range(400):
        if random.random() < 0.25:
            function, names = random.choice(MAKES)
            keep(pool, call_with(make, function, names.split()))
            continue
        thing = random.choice([each for each in pool if type(each) in METHODS])
        name, *names = random.choice(METHODS[type(thing)].strip().splitlines()).split()
        keep(pool, call_with(make, getattr(thing, name), names))


class TestRecordsByHand:
    """Records that are made without a number are numbered in their batch; others have to rise."""

    def test_they_are_numbered_from_zero(self):
        batch = Batch.of([Record(b"a"), Record(b"b"), Record(b"a")])
        assert [record.sequence_number for record in batch] == [0, 1, 2]
        assert [record.data for record in batch] == [b"a", b"b", b"a"]

    def test_they_go_on_from_a_number_that_is_given(self):
        given = [None, 7, None, None]
        records = [Record(b"", sequence_number=number) for number in given]
        assert [record.sequence_number for record in Batch.of(records)] == [0, 7, 8, 9]

    def test_all_else_stays(self):
        one = Record(b"a", "k", stream="s", timestamp_us=5, headers={"h": b"v"})
        [_, found] = Batch.of([one, one])
        assert (found.data, found.partition_key, found.stream) == (b"a", "k", "s")
        assert (found.timestamp_us, found.headers, found.shard_id) == (5, {"h": b"v"}, SHARD)
        assert one.sequence_number == 0

    @pytest.mark.parametrize(
        "numbers",
        [[0, 0], [1, 0], [7, None, 8], [None, 0], [MOST, MOST], [3, 2, 1], [MOST, None]],
        ids=str,
    )
    def test_numbers_that_do_not_rise_are_refused(self, numbers):
        with pytest.raises(ConfigError, match="number") as caught:
            Batch.of([Record(b"", sequence_number=number) for number in numbers])
        assert caught.value.field == "records"

    def test_parts_that_do_not_rise_are_refused(self):
        part = Batch.of([Record(b"", sequence_number=4)]).records
        with pytest.raises(ConfigError, match="#4 comes after #4"):
            Records.concat([part, part])

    def test_a_record_that_merely_has_the_number_of_one_is_not_of_the_batch(self):
        records = [Record(b"a"), Record(b"b")]
        batch = Batch.of(records)
        with pytest.raises(ValueError, match="not record"):
            batch.fail(records[1])
        batch.fail(batch[1])


class TestTheLargestNumbers:
    """Numbers at the ends of their range are numbers like others."""

    def test_a_record_may_have_them(self):
        record = Record(b"x", sequence_number=MOST, timestamp_us=MOST)
        records = Records([record])
        assert len(records.to_arrow()) == 1
        assert (records.first, records.last, records.index(MOST)) == (MOST, MOST, 0)
        assert len(records.between(0, MOST)) == 1

    def test_a_lane_tells_all_its_numbers(self):
        log = Log.in_memory(1)
        log.create_stream("s").put_many([b"a", b"b"])
        mapping = Mapping.register(log, "app.fn", factor=1)
        mapping.prepare("s")
        judge = mapping.judge("s", "0", 0)
        assert judge.records(0, MOST) == [0, 1]

    @pytest.mark.parametrize(("factor", "windowed"), [(0, False), (257, False), (2, True)])
    def test_lanes_that_there_cannot_be_are_refused(self, factor, windowed):
        log = Log.in_memory(1)
        log.create_stream("s")
        mapping = Mapping.register(log, "app.fn", factor=1)
        with pytest.raises(ConfigError) as caught:
            mapping.set_wanted(factor=factor, windowed=windowed)
        assert caught.value.field == "parallelization_factor"

    def test_no_descriptor_is_no_descriptor(self):
        with pytest.raises(OSError, match="descriptor"):
            _core.exit_when_closed(-1, 3)


class TestHandles:
    """Handles that are closed, or used while they are in use."""

    def test_all_of_a_closed_log_say_so(self, log_dir):
        log = Log.open(str(log_dir))
        stream = log.create_stream("s")
        reader = stream.reader(SHARD)
        mapping = Mapping.register(log, "app.fn", factor=1)
        lanes = LaneSet(log, worker=WORKER, runner=1)
        log.close()
        for call in (
            lambda: stream.put(b""),
            lambda: stream.put_many([b""]),
            lambda: stream.split(SHARD),
            lambda: stream.trim(SHARD, 0),
            lambda: reader.poll(1),
            lambda: mapping.prepare("s"),
            lambda: log.create_stream("t"),
            log.wake,
            lambda: Membership.join(log, b""),
        ):
            with pytest.raises(StreamClosed):
                call()
        attempt(lanes.next, 0.0)
        attempt(mapping.judge, "s", "0", 0)
        attempt(log.close)

    def test_headers_that_put_and_close_as_they_are_read(self):
        log = Log.in_memory(1)
        stream = log.create_stream("s")

        class Headers:
            def items(self):
                stream.put(b"inner")
                log.close()
                return [("a", b"b")]

        attempt(stream.put, b"outer", None, Headers())
        attempt(stream.put_many, [b"outer"], None, [Headers()])

    def test_values_that_go_away_as_they_are_read(self):
        stream = Log.in_memory(1).create_stream("s")
        data = [b"x"] * 100

        class Headers:
            def items(self):
                data.clear()
                return []

        attempt(stream.put_many, data, None, [Headers()] * 100)

    def test_an_iterator_of_records_that_several_threads_use(self):
        records = Records([Record(b"x") for _ in range(2000)])
        iterator, failures = iter(records), []

        def read():
            try:
                for record in iterator:
                    assert record.data == b"x"
            except BaseException as error:  # noqa: BLE001 - a panic is no `Exception`
                failures.append(type(error).__name__)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert "PanicException" not in failures


def test_files_of_a_log_have_no_number_that_is_printed_to(log_dir):
    """Who has 0, 1 and 2 closed and prints writes nowhere, and never into the log."""
    code = """
        import os, sys
        from streamfn import _core
        for number in (0, 1, 2):
            os.close(number)
        log = _core.Log.open(sys.argv[1])
        stream = log.create_stream("s")
        board = _core.Board.create()
        stream.put_many([b"a", b"b"])
        taken = 0
        for number in (0, 1, 2):
            try:
                os.write(number, b"printed")
                taken += 1
            except OSError:
                pass
        records = stream.reader("shardId-000000000000").poll(10)
        os._exit(taken if records.values() == [b"a", b"b"] else 9)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), os.fspath(log_dir)]
    assert subprocess.run(command, check=False).returncode == 0
