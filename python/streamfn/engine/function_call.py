"""One call by request: the payload in, the answer out.

All exceptions of the user's code are caught here, including `SystemExit`. Only the end of the
process is left to the supervisor. A call is never repeated, so a failure always is the answer, even
if another call's code may be the reason.
"""

from __future__ import annotations

import os
from collections.abc import Coroutine
from datetime import timedelta
from sys import getprofile, gettrace
from typing import NamedTuple

from streamfn.clock import Clock
from streamfn.error_text import stack_of
from streamfn.errors import FunctionTimedOut
from streamfn.model.function import Handler
from streamfn.model.function_config import FunctionConfig
from streamfn.model.function_context import ContextLog, FunctionContext
from streamfn.model.typed import decoder_of

from .answer import Answer, answer_of, error_object, exited, timed_out
from .disturbance import Disturbance
from .forked import end_if_forked
from .handling import CANCEL_GRACE, Handling, end_call
from .lazy_event_loop import LazyEventLoop
from .outcome import Failure
from .starvation import is_starved
from .surroundings import SURROUNDINGS


class Request(NamedTuple):
    """What a call has besides its payload."""

    request_id: str
    client_context: object = None
    """Any JSON value."""
    seconds: float | None = None
    """Its timeout. None: that of the function."""


class FunctionInvoker:
    """Calls one function; several threads may call an `async` function at the same time."""

    def __init__(
        self,
        config: FunctionConfig,
        handler: Handler,
        log: ContextLog,
        clock: Clock,
        loops: LazyEventLoop,
    ) -> None:
        self.config = config
        self._handler, self._log, self._clock = handler, log, clock
        self._handling = Handling(handler, loops, __file__)
        self._decode = decoder_of(handler)
        self._timeout = config.timeout.total_seconds()
        self._takes_context = self._handling.takes_context
        self.is_async = self._handling.is_async
        """Whether the function runs on the event loop; then a call is cancelled at its timeout."""

    def call(self, payload: bytes, request: Request) -> Answer:
        """Call the function with a JSON text; a failure is an answer, too."""
        process = os.getpid()
        tracer, profiler = gettrace(), getprofile()
        try:
            try:
                returned = self._call(payload, request)
                # WHY in here: reading the returned value may run the user's code.
                answer = answer_of(returned, request.request_id)
            finally:
                end_call(tracer, profiler)
        except BaseException as error:  # noqa: BLE001 -- an exit is this call's, not the process's
            return self._failed(error, process, request)
        end_if_forked(process)
        if answer.failure is not None and isinstance(returned, Coroutine):
            returned.close()  # or Python warns that it was never awaited
        return answer

    def seconds_of(self, request: Request) -> float:
        """Return the timeout of a call."""
        return self._timeout if request.seconds is None else request.seconds

    def deadline_of(self, request: Request) -> float:
        """Return after how many seconds the process of a call may be killed."""
        seconds = self.seconds_of(request)
        return seconds + CANCEL_GRACE.total_seconds() if self.is_async else seconds

    def _call(self, payload: bytes, request: Request) -> object:
        event = self._decode(payload)
        if self._takes_context:
            returned = self._handler(event, self._context(request))
        else:
            returned = self._handler(event)
        if self.is_async:
            returned = self._finish(returned, self.seconds_of(request))
        return returned

    def _finish(self, returned: object, seconds: float) -> object:
        """Run an `async` call to its end."""
        return self._handling.finish(returned, seconds)

    def _context(self, request: Request) -> FunctionContext:
        timeout = None if request.seconds is None else timedelta(seconds=request.seconds)
        return FunctionContext(
            self.config,
            request.request_id,
            self._log,
            self._clock,
            client_context=request.client_context,
            timeout=timeout,
        )

    def _failed(self, error: BaseException, process: int, request: Request) -> Answer:
        """Return the answer of a call that raised."""
        end_if_forked(process, error)
        cause, is_fatal = error, False
        if type(error) is Disturbance:
            cause, is_fatal = error.cause, error.is_fatal
        SURROUNDINGS.look()
        answer = self.answer_to(cause, request)
        return answer._replace(is_starved=is_starved(cause), is_fatal=is_fatal)

    def answer_to(self, error: BaseException, request: Request) -> Answer:
        """Return the answer of a call that an exception has ended."""
        if self.is_async and type(error) is FunctionTimedOut:
            return timed_out(request.request_id, self.seconds_of(request))
        frames = self._handling.frames(error)
        failure = Failure.of(error, frames)
        # WHY not `isinstance`: it reads the exception's `__class__`, which may run the user's code.
        if issubclass(type(error), SystemExit):
            return exited(request.request_id, _code_of(error), failure.traceback)
        kind = failure.error_type.rpartition(".")[2]
        stack = stack_of(frames)
        body = error_object(kind, failure.error_message, request.request_id, stack)
        return Answer(body, failure)


def _code_of(error: BaseException) -> object:
    """Return the code of a `SystemExit`, even if its class overrides the attribute."""
    code: object = SystemExit.__dict__["code"].__get__(error)
    return code
