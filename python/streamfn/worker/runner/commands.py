"""Carries out the supervisor's commands in a runner: take and release lanes, set limits, drain."""

from __future__ import annotations

import socket
import time
from typing import assert_never

from streamfn import _core
from streamfn.engine.sturdy_thread import SturdyThread
from streamfn.errors import ConfigError, StreamfnError
from streamfn.model.inputs import INPUTS
from streamfn.model.mapping import function_of
from streamfn.worker.child.exhaustion import is_disabled
from streamfn.worker.child.supervisor_link import SupervisorLink
from streamfn.worker.messages import (
    Answer,
    Assign,
    Assigned,
    Command,
    Drain,
    Limit,
    Limited,
    Lines,
    Release,
    Released,
    Start,
    decode_command,
    receive_lines,
)
from streamfn.worker.shared_counts import SharedCounts

from .lane_job import LaneAddress, LaneJob
from .lane_request import add_lane
from .lane_threads import LaneThreads


class CommandHandler:
    """Carries out commands of the supervisor, in its own thread."""

    def __init__(self, log: _core.Log, threads: LaneThreads, link: SupervisorLink) -> None:
        self._log, self._threads, self._link = log, threads, link
        self._lanes, self._functions = threads.lanes, threads.functions
        self._mappings: dict[str, _core.Mapping] = {}
        self._counts = SharedCounts(log, threads.board, link.report)
        threads.left = self._on_left

    def listen(self, connection: socket.socket, lines: Lines) -> None:
        """Start the thread; it carries out commands until the supervisor has closed."""

        def run() -> None:
            try:
                while (received := receive_lines(connection, lines)) is not None:
                    for line in received:
                        self._obey(decode_command(line))
            except BaseException as error:  # noqa: BLE001 -- without commands the runner is useless
                self._threads.failed(error)
            self._link.hang_up()

        SturdyThread(run, "control").start()

    def _obey(self, command: Command) -> None:
        match command:
            case Assign():
                self._assign(command)
            case Release():
                self._release(command)
            case Limit():
                self._limit(command)
            case Drain():
                self._drain(command.finish_seconds)
            case Start():
                pass
            case _:
                assert_never(command)

    def _limit(self, command: Limit) -> None:
        def kept() -> None:
            self._link.send(Limited(command.mapping, command.number))

        limiters = self._threads.limiters
        if (
            command.mapping not in limiters
        ):  # the app that this runner imported has no such function
            kept()
        else:
            self._threads.put_back(limiters.set_limit(command.mapping, command.lanes, kept))

    def _assign(self, command: Assign) -> None:
        function = self._functions.get(function_of(command.mapping))
        if function is None:
            reason = "the app this runner imported has no such function"
            self._link.send(Assigned(command.lane, "refused", reason))
            return
        job = LaneJob(
            command.lane,
            command.index,
            function,
            LaneAddress(command.stream, command.shard_id, command.slot),
            replay=None if command.mapping == function.mapping.name else command.mapping,
            is_open=command.is_open,
        )
        self._threads.jobs[command.lane] = job
        self._counts.use(job.index, function.mapping.name)
        answer: Answer
        reason = ""
        try:
            answer = add_lane(
                self._lanes,
                self._mapping(command.mapping),
                job,
                self._threads.board,
                is_alone=command.is_alone,
                is_exclusive=command.is_exclusive,
            )
        except StreamfnError as error:
            answer, reason = "refused", str(error)
            self._mappings.pop(command.mapping, None)  # it may have been removed: open it again
            if is_disabled(error):
                self._threads.retire()
        if answer == "ok":
            job.is_added = True
        else:
            del self._threads.jobs[command.lane]
        self._link.send(Assigned(command.lane, answer, reason))

    def _mapping(self, name: str) -> _core.Mapping:
        if name not in self._mappings:
            mapping = _core.Mapping.open(self._log, name)
            if mapping is None:
                raise ConfigError("mapping", f"`{name}` was removed")
            self._mappings[name] = mapping
        return self._mappings[name]

    def _release(self, command: Release) -> None:
        job = self._threads.jobs.get(command.lane)
        if job is None:  # its lease was lost meanwhile, and the supervisor has been told
            return
        if command.when_settled:
            job.leaves_when_settled = True
            if not job.is_open:
                self._remove(job)
            return
        job.interrupt.is_set = True
        self._threads.put_back(self._threads.limiters.unpark(command.lane))
        self._remove(job)

    def _on_left(self, job: LaneJob) -> None:
        if job.is_lost or (job.leaves_when_settled and not job.is_open):
            self._remove(job)

    def _remove(self, job: LaneJob) -> None:
        """Release the lane once no thread has it; this blocks, so it runs in another thread.

        It may be called twice, after a lost lease and by the supervisor; the second call does
        nothing.
        """
        if job.is_leaving:
            return
        job.is_leaving = True

        def run() -> None:
            try:
                self._lanes.remove(job.lane)
            except StreamfnError as error:
                self._link.report(
                    "release_failed",
                    mapping=job.function.mapping.name,
                    error_type=type(error).__name__,
                    error_message=str(error),
                )
            self._threads.jobs.pop(job.lane, None)
            self._link.send(Released(job.lane))

        SturdyThread(run, f"release-{job.lane}").start()

    def _drain(self, finish_seconds: float) -> None:
        """Stop polling; finish batches for `finish_seconds`, and after that only running calls.

        With `input="record"` the running record is the last one at once.
        """

        def interrupt(*, is_per_record: bool) -> None:
            for job in list(self._threads.jobs.values()):
                if INPUTS[job.function.mapping.input].is_per_record or not is_per_record:
                    job.interrupt.is_set = True

        interrupt(is_per_record=True)

        def interrupt_later() -> None:
            time.sleep(finish_seconds)
            interrupt(is_per_record=False)

        SturdyThread(interrupt_later, "drain").start()
        self._threads.stop()
