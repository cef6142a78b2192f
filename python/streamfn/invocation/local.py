"""Calls by request in this process: for scripts, notebooks, and where no worker runs.

What a function gets and what its caller gets is the same as through a worker. But nothing can be
killed here: an `async def` call is cancelled at its timeout, any other call runs to its end.
"""

from __future__ import annotations

import os
import uuid
import warnings
from collections.abc import Callable
from typing import NoReturn

from streamfn.clock import Clock, SystemClock
from streamfn.engine.answer import Answer
from streamfn.engine.function_call import FunctionInvoker, Request
from streamfn.engine.lazy_event_loop import LazyEventLoop
from streamfn.errors import ConfigError, Throttled
from streamfn.model.function import Handler
from streamfn.model.function_config import FunctionConfig
from streamfn.model.function_context import ContextLog
from streamfn.model.handles import LogHandle

from .reply import Reply


class _Loops:
    """The event loop of this process; a forked child has its own."""

    def __init__(self) -> None:
        self.current = LazyEventLoop()
        os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        """Forget the loop: its thread is in another process."""
        self.current = LazyEventLoop()


_LOOPS = _Loops()


class LocalInvoker(FunctionInvoker):
    """As `FunctionInvoker`, but Ctrl-C ends the program and not only the call."""

    def _failed(self, error: BaseException, process: int, request: Request) -> Answer:
        if type(error) is KeyboardInterrupt and os.getpid() == process:
            raise error
        return super()._failed(error, process, request)


def invoke_here(
    config: FunctionConfig,
    handler: Handler,
    payload: bytes,
    *,
    client_context: object = None,
    open_log: Callable[[], LogHandle] | None = None,
    clock: Clock | None = None,
) -> Reply:
    """Call a function in this process and return its answer. Threads may call at the same time.

    What the call prints appears where this process prints, so `Reply.log` is None.

    Args:
        config: The function.
        handler: Its code.
        payload: JSON.
        client_context: A JSON value that the function finds in its context.
        open_log: Opens the log for a function that uses `context.log`.
        clock: Measures the call; default: the machine's.

    Raises:
        Throttled: The function is switched off with `concurrency=0`.
    """
    if config.concurrency == 0:
        raise Throttled(config.name, "it is switched off with `concurrency=0`")
    clock = clock or SystemClock()
    log = ContextLog(open_log or _no_log)
    invoker = LocalInvoker(config, handler, log, clock, _LOOPS.current)
    request = Request(str(uuid.uuid4()), client_context)
    began = clock.monotonic()
    answer = invoker.call(payload, request)
    took, allowed = clock.monotonic() - began, config.timeout.total_seconds()
    if took > allowed and not invoker.is_async:
        message = (
            f"`{config.name}` took {took:.3g} s, its timeout is {allowed:g} s: in this process a "
            "call cannot be killed, a worker would have killed it"
        )
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    return Reply(answer.body, answer.is_failed, request.request_id)


def _no_log() -> NoReturn:
    raise ConfigError("log", "this call has no log, call with `log=` or set STREAMFN_LOG_DIR")
