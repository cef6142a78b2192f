"""Makes the calls of a function runner: board, counters, output, and reports of failures."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from streamfn._core import Board
from streamfn.engine.answer import refused
from streamfn.engine.forked import end_if_forked
from streamfn.engine.function_call import FunctionInvoker
from streamfn.errors import FunctionTimedOut
from streamfn.worker.child.current_call import CURRENT_CALL, PARTIAL_LINES, CurrentCall
from streamfn.worker.child.failure_reports import FailureReports
from streamfn.worker.counters import MappingCounts
from streamfn.worker.report import Report

from .seat_call import SeatCall


@dataclass(frozen=True, slots=True)
class CalledFunction:
    """A function that this runner calls."""

    index: int
    """Its place among all functions by request of the app, and on the board."""
    invoker: FunctionInvoker
    counts: MappingCounts


class FunctionCalls:
    """Makes calls; every step may be repeated after an exception thrown into its thread."""

    def __init__(
        self,
        functions: Mapping[str, CalledFunction],
        board: Board,
        report: Report,
        end_lines: Callable[[], None],
    ) -> None:
        """Prepare to make calls.

        Args:
            functions: By name.
            board: The board of this runner.
            report: Sends events to the supervisor.
            end_lines: Sends what a call printed without a line break at the end.
        """
        self._functions, self._board, self._report = functions, board, report
        self._end_lines = end_lines
        self._failures = FailureReports(time.monotonic)

    def make(self, call: SeatCall) -> None:
        """Call the function, unless that was done; afterwards the call has its answer."""
        process = os.getpid()
        if not call.is_begun:
            call.is_begun = True
            try:
                self._call(call)
            except BaseException as error:  # noqa: BLE001 -- thrown into this thread
                end_if_forked(process, error)
                self._answer_stray(call, error)
        if call.answer is None:  # the exception came between the lines above
            self._answer_stray(call, InterruptedError("an exception was thrown into this thread"))
        self._end(call)

    def report(self, call: SeatCall) -> None:
        """Report a failed call, once its caller has the answer."""
        answer = call.answer
        if call.is_reported:
            return
        call.is_reported = True
        if answer is None or answer.failure is None:
            return
        fields = self._failures.fields(call.function, answer.failure)
        name, request_id = call.function, call.request.request_id
        self._report("call_failed", mapping=name, request_id=request_id, **fields)

    def _call(self, call: SeatCall) -> None:
        function = self._functions.get(call.function)
        if function is None:
            missing = f"Handler '{call.function}' missing in this process"
            call.answer = refused("Runtime.HandlerNotFound", missing, call.request.request_id)
            return
        invoker = function.invoker
        deadline = time.monotonic() + invoker.deadline_of(call.request)
        self._board.begin(call.seat, function.index, deadline)
        CURRENT_CALL.set((_fields_of, call.tail, call.function, call.request.request_id))
        function.counts.calls()
        call.answer = invoker.call(call.frame.body, call.request)

    def _answer_stray(self, call: SeatCall, error: BaseException) -> None:
        function = self._functions.get(call.function)
        if call.answer is None and function is not None:
            call.answer = function.invoker.answer_to(error, call.request)

    def _end(self, call: SeatCall) -> None:
        """Note on the board that the call has ended, and count it."""
        if not call.is_over:
            self._board.end(call.seat)
            if PARTIAL_LINES:
                self._end_lines()
            CURRENT_CALL.set(None)
            call.is_over = True
        function = self._functions.get(call.function)
        if not call.is_counted and function is not None:
            call.is_counted = True
            _count(function.counts, call)


def _count(counts: MappingCounts, call: SeatCall) -> None:
    answer = call.answer
    assert answer is not None
    if answer.failure is None:
        counts.succeeded(call.seat, 1, 0)
        return
    counts.took(call.seat, 1, 0)
    is_timeout = answer.is_timeout
    counts.failed_call(FunctionTimedOut.__name__ if is_timeout else answer.failure.error_type)


def _fields_of(call: CurrentCall) -> dict[str, Any]:
    """Return function and request id of a call, as fields of a log event."""
    _, _, function, request_id = call
    return {"mapping": function, "request_id": request_id}
