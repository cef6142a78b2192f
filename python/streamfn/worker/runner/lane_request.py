"""Adds a lane to a lane set; all callers use this one function."""

from __future__ import annotations

from streamfn._core import Board, LaneSet, Mapping
from streamfn.worker.messages import Answer

from .lane_job import LaneJob


def add_lane(
    lanes: LaneSet,
    record: Mapping,
    job: LaneJob,
    board: Board,
    *,
    is_alone: bool = False,
    is_exclusive: bool = False,
) -> Answer:
    """Take the lease of a job's lane if it is free, and add the lane to the lane set.

    Args:
        lanes: The lane set; it gets the lane under `job.lane`.
        record: The record that the lane belongs to: of the mapping, or of a replay.
        job: The lane.
        board: Board on which filtered records are counted.
        is_alone: Its batch runs while nothing else runs in this process.
        is_exclusive: Its batch runs while nothing else runs in this worker.

    Raises:
        StreamfnError: The lane cannot be read.
    """
    mapping, at = job.function.mapping, job.at
    answer: Answer = lanes.add(
        job.lane,
        record,
        at.stream,
        at.shard_id,
        at.slot,
        batch_size=mapping.batch.size,
        batch_window=mapping.batch.window.total_seconds(),
        batch_bytes=mapping.batch.bytes,
        filter=job.function.filter_on(at.stream),
        board=board,
        index=job.index,
        tumbling_window=mapping.window_seconds,
        alone=is_alone,
        exclusive=is_exclusive,
        skip_corruption=mapping.on_corruption == "skip",
    )
    return answer
