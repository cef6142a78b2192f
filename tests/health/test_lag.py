"""Tests for `streamfn.health.lag`."""

from dataclasses import dataclass

import pytest

from streamfn import _core
from streamfn._core import slot_of
from streamfn.health.lag import oldest_unprocessed_us, records_behind


@dataclass
class Lane:
    """A lane's status, as far as this sum looks at it."""

    behind: int
    stream: str = "orders"
    shard_id: str = "shardId-000000000000"


class TestRecordsBehind:
    """Tests for `records_behind`."""

    @pytest.mark.parametrize(
        ("lanes", "expected"),
        [([], 0), ([7], 7), ([1003, 0, 0, 0], 251), ([0, 1], 1), ([0, 0], 0), ([8, 8, 8], 8)],
    )
    def test_each_lane_of_a_shard_counts_for_its_share(self, lanes, expected):
        assert records_behind(map(Lane, lanes)) == expected

    def test_shards_and_streams_are_added_up(self):
        lanes = [Lane(4), Lane(2, shard_id="shardId-000000000001"), Lane(1, stream="clicks")]

        assert records_behind(lanes) == 7


class TestOldestUnprocessed:
    """Tests for `oldest_unprocessed_us`."""

    def test_it_is_the_time_of_the_first_record_at_the_checkpoint(self, log):
        stream = log.create_stream("orders")
        for _ in range(3):
            stream.put(b"x")
        mapping = _core.Mapping.register(log.core, "shop.f", factor=1)
        mapping.prepare("orders")
        [batch] = stream.read()
        times = [record.timestamp_us for record in batch]

        assert oldest_unprocessed_us(log.core, mapping.lanes()) == times[0]
        mapping.seek("orders", 2)
        assert oldest_unprocessed_us(log.core, mapping.lanes()) == times[2]
        mapping.seek("orders", "latest")
        assert oldest_unprocessed_us(log.core, mapping.lanes()) is None

    def test_records_of_other_lanes_do_not_count(self, log):
        """Its only record is the last one; the others belong to the other lane, which has read
        them."""
        stream = log.create_stream("orders")
        keys = {slot_of(key, 0, 2): key for key in "abcdefgh"}
        for slot in (0, 0, 0, 1):
            stream.put(b"x", keys[slot])
        mapping = _core.Mapping.register(log.core, "shop.f", factor=2)
        mapping.prepare("orders")
        [batch] = stream.read()

        lane = mapping.lanes()[1]

        assert lane.slot == 1
        assert oldest_unprocessed_us(log.core, [lane]) == batch[3].timestamp_us

    def test_of_a_stream_that_was_removed_it_is_unknown(self, log):
        stream = log.create_stream("orders")
        mapping = _core.Mapping.register(log.core, "shop.f", factor=1)
        mapping.prepare("orders")
        stream.put(b"x")
        lanes = mapping.lanes()
        log.core.remove_stream("orders", force=True)

        assert oldest_unprocessed_us(log.core, lanes) is None
