"""Taking a lane: the one place that says what a lane set has to know of a mapping."""

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
    """Take the lease of a job's lane, if it is to be had, and have the lane set read it.

    Args:
        lanes: Gets the lane, under the number that the job has.
        record: The durable record that the lane belongs to: of the mapping, or of a replay.
        job: Says which lane it is.
        board: Where filtered records are counted.
        is_alone: Its batch runs with nothing beside it in this process.
        is_exclusive: Its batch runs with nothing beside it in this worker.

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
