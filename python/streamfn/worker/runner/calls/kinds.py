"""Which kind of run takes a batch as far as it goes."""

from __future__ import annotations

from streamfn._core import Work
from streamfn.model.inputs import INPUTS
from streamfn.worker.runner.lane_job import LaneJob, RunnerContext, Suspended

from .base import LaneCalls
from .batch import BatchCalls
from .record import RecordCalls
from .window import FinalWindowCalls, WindowCalls


def calls_of(work: Work, job: LaneJob, context: RunnerContext) -> Suspended:
    """Return the calls that go on with work, or begin with it."""
    if job.suspended is not None:
        return job.suspended
    return _kind(work, job)(work, job, context)


def _kind(work: Work, job: LaneJob) -> type[LaneCalls]:
    if work.window is not None:
        return FinalWindowCalls if work.window.is_final else WindowCalls
    return RecordCalls if INPUTS[job.function.mapping.input].is_per_record else BatchCalls
