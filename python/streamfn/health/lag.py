"""How far a mapping is behind the ends of its streams."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from streamfn._core import LaneStatus


def records_behind(lanes: Iterable[LaneStatus]) -> int:
    """Return how many records wait for a mapping, including those in flight, from all its lanes.

    A lane has a position in its shard, but it is not known which records behind that position are
    its own. So each lane counts its share of them. The result is an estimate unless the shard has
    one lane. It is rounded up, so it is 0 only if no lane has records to read.
    """
    shards = defaultdict(list)
    for lane in lanes:
        shards[lane.stream, lane.shard_id].append(lane.behind)
    return sum(-(-sum(behind) // len(behind)) for behind in shards.values())
