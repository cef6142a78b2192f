"""Chooses the class that makes the calls for a batch."""

from __future__ import annotations

from streamfn._core import Work
from streamfn.model.inputs import INPUTS
from streamfn.worker.runner.lane_job import LaneJob, RunnerContext, Suspended

from .base import LaneCalls
from .batch import BatchCalls
from .record import RecordCalls
from .window import FinalWindowCalls, WindowCalls


def calls_of(work: Work, job: LaneJob, context: RunnerContext) -> Suspended:
    """Return the suspended calls of the lane, or new ones for the work."""
    if job.suspended is not None:
        return job.suspended
    return _kind(work, job)(work, job, context)


def _kind(work: Work, job: LaneJob) -> type[LaneCalls]:
    if work.window is not None:
        return FinalWindowCalls if work.window.is_final else WindowCalls
    return RecordCalls if INPUTS[job.function.mapping.input].is_per_record else BatchCalls
