"""`invoke`: calls a function by request, without processes and by a simulated clock."""

from __future__ import annotations

import signal
import uuid
from datetime import timedelta
from typing import Any

from streamfn.app import App
from streamfn.clock import Clock
from streamfn.engine.answer import Answer, killed, timed_out
from streamfn.engine.function_call import Request
from streamfn.engine.lazy_event_loop import LazyEventLoop
from streamfn.errors import FunctionNotFound
from streamfn.invocation.invoke import payload_of
from streamfn.invocation.local import LocalInvoker
from streamfn.invocation.reply import Reply, value_of
from streamfn.invocation.request import check_size
from streamfn.model.function_context import ContextLog
from streamfn.model.options import nearest

from .invoker import Crash
from .memory import MemoryLog


def invoke(
    app: App,
    function: str,
    payload: object = ...,
    *,
    log: MemoryLog | None = None,
    client_context: object = None,
) -> Any:  # noqa: ANN401 -- any JSON value
    """Call a function as `app.invoke` does, and return its answer.

    The call gets its payload, and its caller the answer, as JSON, as through a worker. The clock is
    that of the log: a function that advances it past its timeout has timed out, and one that raises
    `Crash` has ended its process.

    Args:
        app: The app.
        function: Name of the function.
        payload: A JSON value, or an object that converts to JSON. Left out: `{}`.
        log: What the function finds as `context.log`; default: a new, empty one.
        client_context: A JSON value that the function finds in `context.client_context`.

    Raises:
        FunctionError: The function raised, timed out or ended its process.
        FunctionNotFound: The app has no such function.
        InvalidRequest: The payload is no JSON value, or is larger than 6 MiB.
    """
    name = function if "." in function else f"{app.name}.{function}"
    configs = {each.name: each for each in app.functions}
    if name not in configs:
        known = [each.function for each in app.functions]
        advice = nearest(function, known) if known else "register one with `@app.function`"
        raise FunctionNotFound(function, advice)
    body = payload_of(payload)
    check_size(body)
    own_log = MemoryLog() if log is None else log
    loops = LazyEventLoop()
    request = Request(str(uuid.uuid4()), client_context)
    try:
        invoker = _SimulatedProcess(
            configs[name], app.handler(name), ContextLog(lambda: own_log), own_log.clock, loops
        )
        answer = _by_the_clock(invoker, body, request, own_log.clock)
    finally:
        loops.close()
        if log is None:
            own_log.close()
    return value_of(Reply(answer.body, answer.is_failed, request.request_id))


class _SimulatedProcess(LocalInvoker):
    """A process that ends when a function raises `Crash`."""

    def answer_to(self, error: BaseException, request: Request) -> Answer:
        if isinstance(error, Crash):
            return killed(request.request_id, signal.Signals(error.signal_number))
        return super().answer_to(error, request)


def _by_the_clock(
    invoker: _SimulatedProcess, body: bytes, request: Request, clock: Clock
) -> Answer:
    """Return the answer of a call, or that it has timed out by this clock."""
    began = clock.monotonic()
    answer = invoker.call(body, request)
    took = timedelta(seconds=clock.monotonic() - began)
    if took > invoker.config.timeout:
        return timed_out(request.request_id, invoker.config.timeout.total_seconds())
    return answer
