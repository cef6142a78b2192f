"""The threads of a runner: each takes a lane with work and makes its calls.

A lane of an `async` function is passed to another thread, which only waits for its calls, and stays
there while it has work. So the lanes of `async` functions all run at once, however few threads
there are for other functions.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from streamfn._core import Board, LaneSet, Work
from streamfn.engine.invoker import Invoker
from streamfn.engine.outcome import Failure
from streamfn.engine.sturdy_thread import SturdyThread
from streamfn.errors import LeaseLost, SequenceTrimmed, StorageIO
from streamfn.model.inputs import INPUTS
from streamfn.model.mapping import EventSourceMapping
from streamfn.worker.child.exhaustion import Exhausted, is_disabled, is_starved
from streamfn.worker.counters import MappingCounts
from streamfn.worker.exit_codes import EXIT_BROKEN, EXIT_IN_DOUBT
from streamfn.worker.runner.calls.kinds import calls_of

from .async_threads import AsyncThreads
from .concurrency_limiter import ConcurrencyLimiters
from .lane_job import CallThread, InDoubt, LaneFunction, LaneJob, RunnerContext

NEXT_SECONDS: Final = 1.0
"""How long a thread waits for work before it checks whether to stop."""


class LaneThreads:
    """Several threads on one `LaneSet`; thread n notes its calls in cell n of the board."""

    def __init__(
        self,
        context: RunnerContext,
        functions: Mapping[str, LaneFunction],
        make_invoker: Callable[[LaneFunction], Invoker],
    ) -> None:
        self._context, self._make_invoker = context, make_invoker
        self.functions = functions
        """The app's functions, by the name of the mapping."""
        self.jobs: dict[int, LaneJob] = {}
        """The lanes of this runner, by number; a lane is entered here before it is added."""
        exclusive = {name: is_exclusive(each.mapping) for name, each in functions.items()}
        self.limiters = ConcurrencyLimiters(
            exclusive, self._function_of, self._write_parked, self._lose_work
        )
        self.left: Callable[[LaneJob], None] = lambda _: None
        """Called after each run of a lane, in the thread that ran it."""
        self.is_exhausted = False
        """Whether this process is out of descriptors, memory or threads, see `exhaustion`."""
        self._stopping = threading.Event()
        self._threads: list[SturdyThread] = []
        self._async_threads: AsyncThreads | None = None
        """Threads for the lanes of `async` functions."""
        self._are_mixed = False
        """Whether some exclusive functions are `async` and some are not."""

    @property
    def lanes(self) -> LaneSet:
        """The lane set of the threads."""
        return self._context.lanes

    @property
    def board(self) -> Board:
        """The board on which the threads note their calls and count."""
        return self._context.board

    def start(self, count: int) -> None:
        """Start all threads but the first; the caller runs that one with `run`."""
        exclusive = [each for each in self.functions.values() if is_exclusive(each.mapping)]
        self._are_mixed = len({self._make_invoker(each).is_async for each in exclusive}) > 1
        # WHY `pass_on`: a released lane may have work while all threads that could take it sleep.
        self._async_threads = AsyncThreads(range(count, Board.CELLS), self._context.lanes.pass_on)
        for cell in range(1, count):
            thread = SturdyThread(partial(self.run, cell), f"lanes-{cell}")
            thread.start()
            self._threads.append(thread)

    def run(self, cell: int = 0) -> None:
        """Run lanes until `stop`."""
        invokers: dict[str, Invoker] = {}
        try:
            while not self._stopping.is_set():
                work = self._next()
                if work is not None:
                    self._take(work, cell, invokers)
        except BaseException as error:  # noqa: BLE001 -- an error of ours, the log or the process
            self.failed(error)

    def stop(self) -> None:
        """Make the threads take no more lanes."""
        self._stopping.set()
        self._context.lanes.stop()
        self.put_back(self.limiters.unpark())

    def failed(self, error: BaseException) -> None:
        """End the process, at once or after the running calls."""
        if isinstance(error, InDoubt):
            self.end_in_doubt()
        elif isinstance(error, Exhausted) or is_starved(error):
            self.retire()
        else:
            self.give_up()

    def retire(self) -> None:
        """Finish the running calls and start no others, because this process is exhausted."""
        if not self.is_exhausted:
            self.is_exhausted = True
            self._context.report("runner_exhausted")
        for job in list(self.jobs.values()):
            job.interrupt.is_set = True
        self.stop()

    def join(self) -> None:
        """Wait until all threads but the caller's have ended."""
        for thread in self._threads:
            thread.join()
        if self._async_threads is not None:
            self._async_threads.join()

    def put_back(self, works: list[Work]) -> None:
        """Release lanes whose work no call has begun."""
        for work in works:
            job = self.jobs[work.lane]
            job.is_open = True
            try:
                self._context.lanes.yield_(work.lane, work.entries, work.exponent)
            except LeaseLost:
                self._lose(job)

    def _next(self, lane: int | None = None) -> Work | None:
        """Return the next work of any lane, or that of one lane if it has some now.

        Errors of a lane are reported, and the other lanes continue.
        """
        lanes = self._context.lanes
        try:
            work = self._wait_for_work() if lane is None else lanes.next_of(lane)
            self._report_damage()
        except LeaseLost:
            held = set(self._context.lanes.lanes())
            for job in list(self.jobs.values()):
                if job.is_added and job.lane not in held:
                    self._lose(job)
        except (SequenceTrimmed, StorageIO) as error:
            if is_disabled(error):
                raise Exhausted from error
            self._context.report(
                "lane_trouble", error_type=type(error).__name__, error_message=str(error)
            )
        else:
            return work
        return None

    def _wait_for_work(self) -> Work | None:
        """Wait for work, and ignore exceptions that are thrown into this thread meanwhile.

        WHY: the main thread runs lanes too. So a function's signal handler, which may raise, can
        run here long after the call has ended.
        """
        taken: list[Work | None] = []
        try:
            # WHY not assigned: an exception between return and assignment would lose the work.
            taken.extend(map(self._context.lanes.next, (NEXT_SECONDS,)))
        except BaseException as error:
            if not taken:  # the lane set raised it
                raise
            self.strayed(error)
        return taken[0]

    def _report_damage(self) -> None:
        """Report damage that lanes found, and count the records that were skipped."""
        for lane, slot, error, is_passed in self._context.lanes.take_damage():
            job = self.jobs.get(lane)
            if job is None:
                continue  # released meanwhile: the next runner of the lane finds it again
            lost = error.last - error.first + 1
            if is_passed and slot == 0:
                # Every lane of a shard skips the same damage, so only one of them counts it.
                MappingCounts(self._context.board, job.index).lost(lost)
            self._context.report(
                "damage_passed" if is_passed else "lane_stopped",
                mapping=job.function.mapping.name,
                lane=lane,
                **job.at._asdict(),
                path=error.path,
                position=error.position,
                first=error.first,
                last=error.last,
                records=lost,
                error_type=type(error).__name__,
                error_message=str(error),
            )

    def _take(self, work: Work, cell: int, invokers: dict[str, Invoker]) -> None:
        """Run the lane, and then lanes that were parked."""
        let_in = self._let_in(work)
        if let_in is None:
            return
        function = self.jobs[let_in.lane].function
        is_exclusive_here = self._are_mixed and is_exclusive(function.mapping)
        invoker = self._invoker(let_in, invokers)
        # WHY: the thread that ends an exclusive call continues with the next parked one, which may
        # not be `async`. Such calls must stay in the threads for them: the main one if it is alone.
        is_handed_on = invoker.is_async and not is_exclusive_here and self._hand_on(let_in, invoker)
        if not is_handed_on:
            self._pass_through(let_in, cell, invokers)

    def _hand_on(self, work: Work, invoker: Invoker) -> bool:
        """Run the lane in a thread for `async` calls; False: all of them are busy.

        That thread keeps the lane while it has work. WHY: passing each batch on would take two more
        thread switches, which would be most of the cost of a call.
        """
        async_threads = self._async_threads
        if async_threads is None:
            return False

        def run(cell: int) -> None:
            invokers = {self._function_of(work): invoker}
            try:
                self._pass_through(work, cell, invokers)
                while not async_threads.are_all_busy and (more := self._go_on(work.lane)):
                    self._pass_through(more, cell, invokers)
            except BaseException as error:  # noqa: BLE001 -- as in `run`
                self.failed(error)

        return async_threads.run(run)

    def _go_on(self, lane: int) -> Work | None:
        """Return the lane's next work if it has some now and may be called at once."""
        job = self.jobs.get(lane)
        if job is None or job.is_leaving:  # otherwise its release could wait forever
            return None
        work = self._next(lane)
        return None if work is None else self._let_in(work)

    def _let_in(self, work: Work) -> Work | None:
        """Return the work that may be called now; None: it is parked, or was released."""
        job = self.jobs[work.lane]
        let_in = self.limiters.acquire_or_park(work)
        if let_in is None and (self._stopping.is_set() or job.interrupt.is_set):
            self.put_back(self.limiters.unpark(work.lane))
        return let_in

    def _pass_through(self, work: Work, cell: int, invokers: dict[str, Invoker]) -> None:
        function = self._function_of(work)  # WHY now: after the run its lane may be gone
        self._run(work, CallThread(self._context, cell, self._invoker(work, invokers)))
        while (following := self.limiters.release_or_next(function)) is not None:
            function = self._function_of(following)
            thread = CallThread(self._context, cell, self._invoker(following, invokers))
            self._run(following, thread, was_parked=True)

    def _invoker(self, work: Work, invokers: dict[str, Invoker]) -> Invoker:
        """Return this thread's invoker of the lane's function."""
        function = self.jobs[work.lane].function
        name = function.mapping.name
        if name not in invokers:
            invokers[name] = self._make_invoker(function)
        return invokers[name]

    def _function_of(self, work: Work) -> str:
        return self.jobs[work.lane].function.mapping.name

    def _write_parked(self, work: Work) -> None:
        """Write to the slot that no call is running, so that a crash does not count for it."""
        self._context.lanes.set_calling(work.lane, is_calling=False)

    def _lose_work(self, work: Work) -> None:
        self._lose(self.jobs[work.lane])

    def _run(self, work: Work, thread: CallThread, *, was_parked: bool = False) -> None:
        job = self.jobs[work.lane]
        try:
            if was_parked:
                self._context.lanes.set_calling(work.lane, is_calling=True)
            calls_of(work, job, self._context).proceed(thread)
        except LeaseLost:
            self._lose(job)
        else:
            self.left(job)
        if self._context.is_used_up:
            self.retire()

    def _lose(self, job: LaneJob) -> None:
        """Drop a lane whose lease another runner has; that runner calls the batch again."""
        job.is_lost = True
        self._context.report("lease_lost", mapping=job.function.mapping.name)
        self.left(job)

    def strayed(self, error: BaseException) -> None:
        """Report an exception that was thrown into a thread that waits for work."""
        told = Failure.of(error)
        self._context.report(
            "exception_ignored", error_type=told.error_type, error_message=told.error_message
        )

    def end_in_doubt(self) -> None:
        """Exit; the calls on the board run alone next, and no attempt counts."""
        self._context.report("runner_in_doubt")
        os._exit(EXIT_IN_DOUBT)

    def give_up(self) -> None:
        """Exit: the data on disk is correct, the state in memory may not be."""
        told = Failure.of(sys.exc_info()[1] or RuntimeError())
        self._context.report("process_broken", error_type=told.error_type,
                           error_message=told.error_message, traceback=told.traceback)  # fmt: skip
        os._exit(EXIT_BROKEN)


def is_exclusive(mapping: EventSourceMapping) -> bool:
    """Whether a process calls this function only while it calls no other exclusive function."""
    return INPUTS[mapping.input].is_exclusive and not mapping.concurrent
