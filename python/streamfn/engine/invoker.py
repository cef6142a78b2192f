"""Calls one function and converts every result into an outcome.

All exceptions of the user's code are caught here, including `SystemExit`. Only the end of the
process is left to the supervisor.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from sys import getprofile, gettrace
from typing import Final
from uuid import UUID, uuid5

from streamfn._core import Record, Records
from streamfn.clock import Clock
from streamfn.model.batch import Batch
from streamfn.model.context import Context
from streamfn.model.function import Handler
from streamfn.model.handles import LogHandle
from streamfn.model.inputs import INPUTS
from streamfn.model.mapping import EventSourceMapping

from . import response
from .disturbance import Disturbance
from .forked import end_if_forked
from .handling import Handling, end_call
from .lazy_event_loop import LazyEventLoop
from .outcome import (
    Disturbed,
    Expired,
    Failed,
    Failure,
    Outcome,
    Partial,
    Rejected,
    Reported,
    Success,
    ended,
)
from .output import Output, Outputs
from .settle import age_horizon
from .surroundings import SURROUNDINGS
from .windows import State, WindowTurn

_REQUESTS: Final = UUID("6f9c2f0e-52d7-4f0e-9a43-6d1f0c6e7a11")
"""UUID namespace of request ids."""


@dataclass(slots=True)
class Interrupt:
    """Whether a lane must stop before its next record; set by another thread."""

    is_set: bool = False


@dataclass(frozen=True, slots=True)
class SweepResult:
    """The result of calling a range of records one by one."""

    done: int
    """Number of records that succeeded."""
    outcome: Failed | Rejected | Expired | Disturbed | None = None
    """Outcome of the record after the `done` ones; None: it was not called."""
    outputs: Sequence[Output] = ()
    """Outputs of the `done` records."""


class Invoker:
    """Calls one function; several threads may call an `async` function at the same time."""

    def __init__(
        self,
        mapping: EventSourceMapping,
        handler: Handler,
        log: LogHandle,
        clock: Clock,
        loops: LazyEventLoop,
    ) -> None:
        self._mapping, self._handler, self._log, self._clock = mapping, handler, log, clock
        self._input = INPUTS[mapping.input]
        self._handling = Handling(handler, loops, __file__)
        self._takes_context = self._handling.takes_context
        self.is_async = self._handling.is_async
        """Whether the function runs on the event loop; then a call is cancelled at its timeout."""
        self._outputs = Outputs(mapping, clock)

    def call_batch(self, records: Records, attempt: int) -> Outcome | Disturbed:
        """Call the function with one batch.

        Args:
            records: At least one.
            attempt: 1 for the first call of these records.
        """
        process = os.getpid()
        # WHY on access: few functions use the context, and its id is a tenth of a call's cost.
        make_context = partial(self._context, records, attempt, self._clock.now())
        batch = Batch(records, make_context=make_context, clock=self._clock)
        tracer, profiler, is_first = gettrace(), getprofile(), not SURROUNDINGS.is_unseen
        try:
            try:
                returned, values = self._call(batch)
                # WHY in here: reading the returned value may run the user's code (`__repr__`).
                outcome = self._outcome(returned, batch)
                if isinstance(outcome, Success):
                    outcome = self._sent_on(values, returned, batch)
            finally:
                end_call(tracer, profiler)
        except BaseException as error:  # noqa: BLE001 -- an exit is this call's, not the runner's
            return self._ended(error, process, is_first=is_first)
        end_if_forked(process)
        return replace(outcome, outputs=values) if isinstance(outcome, Partial) else outcome

    def call_window(
        self, turn: WindowTurn, state: State, records: Records, attempt: int
    ) -> tuple[Outcome | Disturbed, State]:
        """Call the function in a window, and return the outcome and the state that it left.

        Args:
            turn: The window.
            state: The state that the previous call left.
            records: Empty in a final call.
            attempt: 1 for the first call of these records, or the first final call.
        """
        call, process = turn.call(state), os.getpid()
        batch = Batch(records, self._window_context(turn, records, attempt), clock=self._clock,
                      call=call)  # fmt: skip
        tracer, profiler, is_first = gettrace(), getprofile(), not SURROUNDINGS.is_unseen
        try:
            try:
                returned, values = self._call(batch)
                left = State.of(call.state)
                outcome = self._outcome(returned, batch) if records else Success()
                if isinstance(outcome, Success):
                    outcome = self._sent_on(values, returned, batch)
            finally:
                end_call(tracer, profiler)
        except BaseException as error:  # noqa: BLE001 -- as above
            return self._ended(error, process, is_first=is_first), state
        end_if_forked(process)
        return outcome, state if isinstance(outcome, Failed) else left

    def call_records(
        self, records: Records, running: Iterable[Record], attempt: int, interrupt: Interrupt
    ) -> SweepResult:
        """Call the function with one record after the other, until one fails.

        Args:
            records: The records, in order.
            running: The same records; taking one from the iterator tells the supervisor that it
                is running.
            attempt: 1 for the first call of these records.
            interrupt: Checked before each record.
        """
        outputs = list[Output]()
        call = self._record_caller(records, attempt, outputs)
        has_age = self._mapping.retry.max_record_age is not None
        outcome: Failed | Rejected | Expired | Disturbed | None = None
        last: Record | None = None
        process = os.getpid()
        tracer, profiler, is_first = gettrace(), getprofile(), not SURROUNDINGS.is_unseen
        try:
            try:
                for record in running:
                    if interrupt.is_set:
                        break
                    if has_age and self._is_too_old(record):
                        outcome = Expired()
                        break
                    returned = call(record)
                    if returned is not None:
                        response.check_ran(returned)
                    last = record  # WHY no count: it would add a tenth to the cost around a call
            finally:
                end_call(tracer, profiler)
        except BaseException as error:  # noqa: BLE001 -- as above
            outcome = self._ended(error, process, is_first=is_first and last is None)
        end_if_forked(process)
        done = 0 if last is None else records.index(last.sequence_number) + 1
        # An exception after the last record, such as from a signal handler, belongs to no record.
        return SweepResult(done, outcome if done < len(records) else None, outputs)

    def _call(self, batch: Batch) -> tuple[object, list[Output]]:
        """Call the function; return its return value and the outputs for `to`."""
        kind = self._input
        event = kind.event(batch)
        second = (kind.context(batch.context),) if self._takes_context else ()
        returned = kind.returned(self._ran(self._handler(event, *second)))
        is_state = batch.window is not None and kind.keep_state(batch, returned)
        if is_state or not self._outputs.are_wanted or self._is_report(returned):
            return returned, []
        if isinstance(returned, Iterator):
            returned = self._listed(returned)
        return returned, self._outputs.of_values(returned)

    def _outcome(self, returned: object, batch: Batch) -> Outcome:
        """Combine the return value and the records passed to `batch.fail` into an outcome."""
        report: Outcome = Success()
        if self._mapping.retry.report_failures:
            report = response.read(returned, batch.records)
        failures = batch.failures
        if not failures or isinstance(report, Failed):
            return report
        if isinstance(report, Reported) and batch.window is None:
            lowest, error = failures[0]
            return Reported(min(report.lowest, lowest), Failure.of(error))
        return Partial({number: ended(error) for number, error in failures})

    def _sent_on(self, values: list[Output], returned: object, batch: Batch) -> Success:
        """Return the success of a call, with its outputs.

        Raises:
            RecordTooLarge: The invocation record is over a limit of records.
            Exception: The `__repr__` of the returned value raised.
        """
        if not self._outputs.are_wanted:
            return Success()
        about = self._outputs.of_call(returned, batch.records, batch.context, batch.window)
        return Success(values + about)

    def _record_caller(
        self, records: Records, attempt: int, outputs: list[Output]
    ) -> Callable[[Record], object]:
        """Return the fastest callable that calls the function with one record."""
        has_outputs = self._outputs.are_wanted
        if not (self._takes_context or self.is_async or has_outputs):
            return self._handler

        def call(record: Record) -> None:
            place = records.index(record.sequence_number)
            alone = records[place : place + 1]
            context = self._context(alone, attempt, self._clock.now())
            second = (self._input.context(context),) if self._takes_context else ()
            returned = self._ran(self._handler(record, *second))
            if has_outputs:
                if isinstance(returned, Iterator):
                    returned = self._listed(returned)
                values = self._outputs.of_values(returned, record.partition_key)
                outputs.extend(values + self._outputs.of_call(returned, alone, context))

        return call

    def _is_report(self, returned: object) -> bool:
        return self._mapping.retry.report_failures and response.is_report(returned)

    def _context(self, records: Records, attempt: int, began: datetime) -> Context:
        request = request_id(self._mapping.name, records)
        return self._context_of(request, records.stream, records.shard_id, attempt, began)

    def _window_context(self, turn: WindowTurn, records: Records, attempt: int) -> Context:
        began = self._clock.now()
        if records:
            return self._context(records, attempt, began)
        request = turn.request_id(self._mapping.name, _REQUESTS)
        return self._context_of(request, turn.stream, turn.shard_id, attempt, began)

    def _context_of(
        self, request_id: str, stream: str, shard_id: str, attempt: int, began: datetime
    ) -> Context:
        return Context(
            request_id=request_id,
            attempt=attempt,
            deadline=began + self._mapping.timeout,
            function=self._mapping.function,
            stream=stream,
            shard_id=shard_id,
            log=self._log,
            memory_limit=self._mapping.memory,
            clock=self._clock,
        )

    def _is_too_old(self, record: Record) -> bool:
        horizon = age_horizon(self._mapping.retry, self._clock)
        return horizon is not None and record.timestamp_us < horizon

    def _ran(self, returned: object) -> object:
        """Wait for an `async` call, and check that the function's body has run.

        The body of a generator runs later, when its items are listed.

        Raises:
            InvalidResponse: The body would never run.
        """
        if self.is_async:
            returned = self._finish(returned)
        if not (self._outputs.are_wanted and isinstance(returned, Iterator)):
            response.check_ran(returned)
        return returned

    def _listed(self, items: Iterator[object]) -> list[object]:
        """Run a generator to its end."""
        return list(items)

    def _finish(self, returned: object) -> object:
        """Run an `async` call to its end."""
        return self._handling.finish(returned, self._mapping.timeout.total_seconds())

    def _ended(
        self, error: BaseException, process: int, *, is_first: bool
    ) -> Failed | Rejected | Disturbed:
        """Return the outcome of a call that raised.

        Args:
            error: The exception.
            process: The process that made the call.
            is_first: Whether no other call has ended since the last check of the surroundings.
        """
        end_if_forked(process, error)
        if type(error) is Disturbance:
            cause = error.cause
            return Disturbed(Failure.of(cause, self._handling.frames(cause)), error.is_fatal)
        outcome = ended(error, self._handling.frames(error))
        if not SURROUNDINGS.look() or isinstance(outcome, Rejected):
            return outcome
        return Disturbed(outcome.failure, is_fatal=False, may_be_own=is_first)


def request_id(mapping_name: str, records: Records) -> str:
    """Return the UUID of all calls of these records; it is the same after a crash."""
    numbers = f"{records.first}-{records.last}x{len(records)}"
    return str(uuid5(_REQUESTS, f"{mapping_name}/{records.stream}/{records.shard_id}/{numbers}"))
