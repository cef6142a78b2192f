"""Which kind of run takes a batch as far as it goes."""

from __future__ import annotations

from streamfn._core import Work
from streamfn.model.inputs import INPUTS

from .batch_run import BatchRun
from .lane_run import LaneJob, LaneRun, Tools
from .record_run import RecordRun
from .window_run import FinalRun, WindowRun


def run_of(work: Work, job: LaneJob, tools: Tools) -> LaneRun:
    """Return the run that goes on with work, or begins with it."""
    if job.suspended is not None:
        return job.suspended
    return _kind(work, job)(work, job, tools)


def _kind(work: Work, job: LaneJob) -> type[LaneRun]:
    if work.window is not None:
        return FinalRun if work.window.is_final else WindowRun
    return RecordRun if INPUTS[job.function.mapping.input].is_per_record else BatchRun
