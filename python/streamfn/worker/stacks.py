"""SIGUSR1: what everybody is doing, to stderr."""

from __future__ import annotations

import faulthandler
import sys

from .crew import Crew
from .lane_keeper import LaneKeeper


def write_stacks(crew: Crew, keeper: LaneKeeper) -> None:
    """Write the calls in flight and the stacks of the supervisor; runners write their own."""
    for runner in crew:
        sys.stderr.write(f"runner {runner.number}, process {runner.pid}, {runner.state}\n")
        for cell in runner.cells():
            key = keeper.key_of(cell.lane)
            record = "" if cell.running is None else f", record {cell.running}"
            place = f"{key.stream}/{key.shard_id} slot {key.slot}"
            sys.stderr.write(f"  thread {cell.cell}: {key.mapping} on {place}{record}\n")
    sys.stderr.flush()
    faulthandler.dump_traceback(sys.stderr, all_threads=True)
    for runner in crew:
        if runner.state != "starting":  # its handler may not be there yet, and SIGUSR1 kills
            runner.dump_stacks()
