"""SIGUSR1: writes the calls in flight and the stacks of all processes to stderr."""

from __future__ import annotations

import faulthandler
import sys

from .lane_scheduler import LaneScheduler
from .runner_pool import RunnerPool


def write_stacks(runners: RunnerPool, scheduler: LaneScheduler) -> None:
    """Write the calls in flight and the supervisor's stacks; runners write their own stacks."""
    for runner in runners:
        sys.stderr.write(f"runner {runner.number}, process {runner.pid}, {runner.state}\n")
        for cell in runner.cells():
            key = scheduler.key_of(cell.lane)
            record = "" if cell.running is None else f", record {cell.running}"
            place = f"{key.stream}/{key.shard_id} slot {key.slot}"
            sys.stderr.write(f"  thread {cell.cell}: {key.mapping} on {place}{record}\n")
    sys.stderr.flush()
    faulthandler.dump_traceback(sys.stderr, all_threads=True)
    for runner in runners:
        runner.dump_stacks()
