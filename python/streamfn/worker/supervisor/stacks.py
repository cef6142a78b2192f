"""SIGUSR1: writes the calls in flight and the stacks of all processes, one block a process."""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Callable
from itertools import chain
from typing import Final

from .child_process import ChildProcess
from .function_pool import FunctionPool
from .function_process import FunctionProcess
from .lane_scheduler import LaneScheduler
from .runner_pool import RunnerPool
from .runner_process import RunnerProcess
from .verdict import Cell

SECONDS_MAX: Final = 2.0
"""How long runners may take to write their stacks; a stopped one never does."""
QUIET_SECONDS: Final = 0.1
"""A runner that has written nothing more for so long is done."""


class StackDump:
    """Asks all processes for their stacks, and writes each as one block when it has arrived."""

    def __init__(
        self,
        runners: RunnerPool,
        functions: FunctionPool,
        scheduler: LaneScheduler,
        write: Callable[[str], None],
    ) -> None:
        self._runners, self._functions = runners, functions
        self._scheduler, self._write = scheduler, write
        self._since = self._changed = 0.0
        self._awaited: list[tuple[ChildProcess, str]] = []
        self._sizes: list[int] = []

    def begin(self, now: float) -> None:
        """Write the supervisor's stacks, and ask the runners for theirs."""
        self._write(f"supervisor, process {os.getpid()}\n{_own_stacks()}")
        self._awaited = [
            *((runner, self._calls(runner, now)) for runner in self._runners),
            *((runner, _requests(runner, now)) for runner in self._functions),
        ]
        for runner, _ in self._awaited:
            runner.dump_stacks()
        self._since = self._changed = now
        self._sizes = []

    def write_when_done(self, now: float) -> None:
        """Write the blocks of the runners, once they are whole."""
        if not self._awaited:
            return
        living = {runner.number for runner in chain[ChildProcess](self._runners, self._functions)}
        texts = [runner.stacks() if runner.number in living else "" for runner, _ in self._awaited]
        sizes = list(map(len, texts))
        if sizes != self._sizes:
            self._sizes, self._changed = sizes, now
        is_whole = all(sizes) and now - self._changed >= QUIET_SECONDS
        if not is_whole and now - self._since < SECONDS_MAX:
            return
        for (_, calls), text in zip(self._awaited, texts, strict=True):
            self._write(calls + (text or "  (no stacks: it is starting, stopped or gone)\n"))
        self._awaited = []

    def _calls(self, runner: RunnerProcess, now: float) -> str:
        """Return who a runner is, and a table of its calls."""
        lines = [f"runner {runner.number}, process {runner.pid}, {runner.state}"]
        for cell in runner.cells():
            key = self._scheduler.key_of(cell.lane)
            record = "" if cell.running is None else f", record {cell.running}"
            left = _left(cell, now)
            place = f"{key.stream}/{key.shard_id} slot {key.slot}"
            lines.append(f"  thread {cell.cell}: {key.mapping} on {place}{record}{left}")
        return "".join(f"{line}\n" for line in lines)


def _requests(runner: FunctionProcess, now: float) -> str:
    """Return who a function runner is, and a table of its calls."""
    names = {place: name for name, place in runner.places.items()}
    lines = [
        f"function runner {runner.number}, process {runner.pid}, {runner.state}",
        *(f"  seat {each.cell}: {names[each.lane]}{_left(each, now)}" for each in runner.cells()),
    ]
    return "".join(f"{line}\n" for line in lines)


def _left(cell: Cell, now: float) -> str:
    return "" if cell.deadline is None else f", {cell.deadline - now:.1f} s to its timeout"


def _own_stacks() -> str:
    descriptor = os.memfd_create("streamfn-stacks", os.MFD_CLOEXEC)
    try:
        faulthandler.dump_traceback(descriptor, all_threads=True)
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode("utf-8", "replace")
    finally:
        os.close(descriptor)
