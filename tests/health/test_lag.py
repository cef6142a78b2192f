"""Tests for `streamfn.health.lag`."""

from dataclasses import dataclass

import pytest

from streamfn.health.lag import records_behind


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
