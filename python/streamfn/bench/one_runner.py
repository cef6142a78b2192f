"""A runner with one thread in this process: a worker's runner without a supervisor."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final, Self

from streamfn import _core
from streamfn._core import Board, LaneSet
from streamfn.app import App
from streamfn.clock import SystemClock
from streamfn.engine.invoker import Invoker
from streamfn.engine.lazy_event_loop import LazyEventLoop
from streamfn.log import Log
from streamfn.model.mapping import EventSourceMapping
from streamfn.worker.registration import register_mapping
from streamfn.worker.runner.lane_job import (
    LaneAddress,
    LaneFunction,
    LaneJob,
    RunnerContext,
    lane_functions,
)
from streamfn.worker.runner.lane_request import add_lane
from streamfn.worker.runner.lane_threads import LaneThreads

WORKER: Final = "0" * 32
"""UUID of this runner's worker; no real worker has it."""


class OneRunner:
    """Calls the functions of an app with the records of their streams; a context manager.

    It holds the leases of the lanes within `with`.

    Args:
        log: The log with the streams.
        app: The app; no other process may run its functions meanwhile.
    """

    def __init__(self, log: Log, app: App) -> None:
        self._log, self._app, self._clock, self._loops = log, app, SystemClock(), LazyEventLoop()
        self._lanes = LaneSet(log.core, worker=WORKER, runner=0)
        context = RunnerContext(
            lanes=self._lanes,
            board=Board.create(),
            clock=self._clock,
            random=Random(),  # noqa: S311 -- spreads waits, keeps no secret
            report=self._note,
            released_alone=lambda *_: None,
        )
        functions = lane_functions(app.mappings, log.core, self._clock)
        self._trouble: tuple[str, dict[str, object]] | None = None
        self._threads = _Threads(context, functions, self._invoker)
        self._registered = [self._register(function.mapping) for function in functions.values()]

    def __enter__(self) -> Self:
        try:
            for index, function in enumerate(self._threads.functions.values()):
                self._add_lanes(index, function)
        except BaseException:
            self._lanes.close()
            raise
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        if error_type is None:  # after an error a thread may still have a lane: `close` would block
            self._lanes.close()
        self._loops.close()

    def run(self, is_done: Callable[[], bool]) -> None:
        """Run in this thread until `is_done` returns True; it is called after each batch.

        Raises:
            RuntimeError: A function or the log failed, so there is nothing to measure.
            KeyboardInterrupt: The user pressed Ctrl-C.
        """
        self._threads.left = lambda _: self._threads.stop() if is_done() else None
        self._threads.run()
        if self._trouble is not None:
            event, fields = self._trouble
            if fields.get("error_type") == KeyboardInterrupt.__name__:  # it came during a call
                raise KeyboardInterrupt
            raise RuntimeError(f"{event}: {fields}")

    def _note(self, event: str, /, **fields: object) -> None:
        """Stop the run: during a measurement every reported event is an error."""
        self._trouble = self._trouble or (event, fields)
        for job in self._threads.jobs.values():
            job.interrupt.is_set = True
        self._threads.stop()

    def _register(self, mapping: EventSourceMapping) -> tuple[_core.Mapping, list[str]]:
        """Register a mapping; return its record and its shards."""
        record = register_mapping(self._log.core, mapping)
        return record, record.prepare(mapping.stream)

    def _add_lanes(self, index: int, function: LaneFunction) -> None:
        mapping = function.mapping
        record, shards = self._registered[index]
        for shard_id in shards:
            for slot in range(record.factor(mapping.stream, shard_id)):
                at = LaneAddress(mapping.stream, shard_id, slot)
                job = LaneJob(len(self._threads.jobs), index, function, at)
                self._threads.jobs[job.lane] = job
                answer = add_lane(self._lanes, record, job, self._threads.board)
                if answer != "ok":
                    raise RuntimeError(f"lane {slot} of {shard_id} is not to be had: {answer}")
                job.is_added = True

    def _invoker(self, function: LaneFunction) -> Invoker:
        handler = self._app.handler(function.mapping.name)
        return Invoker(function.mapping, handler, self._log, self._clock, self._loops)


class _Threads(LaneThreads):
    """The lane threads of a runner, but errors are raised to the caller of `run`."""

    def strayed(self, error: BaseException) -> None:
        """Raise the error, such as the user's Ctrl-C."""
        raise error

    def end_in_doubt(self) -> None:
        """Raise the current error again."""
        raise  # noqa: PLE0704 -- as below

    def give_up(self) -> None:
        """Raise the current error again."""
        raise  # noqa: PLE0704 -- it is called where an error was caught
