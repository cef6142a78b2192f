"""Calls by request with Python values: where a call runs, and what its caller gets."""

from __future__ import annotations

import sys
from collections.abc import Collection
from types import EllipsisType
from typing import Any, Final, Literal, NamedTuple, Protocol, get_args

from streamfn.engine.answer import MarshalError, marshalled
from streamfn.errors import ConfigError, FunctionNotFound, InvalidRequest, WorkerUnavailable
from streamfn.model.options import nearest

from .client import invoke_through_worker
from .logs import LogPlace, existing_log, path_of
from .reply import Reply, value_of
from .request import check_size
from .workers import advice, is_announced

Where = Literal["auto", "local", "worker"]
PLACES: Final = get_args(Where)

NO_PAYLOAD: Final = b"{}"
"""What a function gets from a caller that gives no payload, as on AWS."""


class CallOptions(NamedTuple):
    """How a function is called."""

    where: Where = "auto"
    log: LogPlace = None
    client_context: Any = None
    tail: bool = False


class Local(Protocol):
    """How the function is called in this process, if it comes to that."""

    @property
    def names(self) -> Collection[str]:
        """All functions of this process that are called by request, as `<app>.<function>`."""

    @property
    def on_streams(self) -> Collection[str]:
        """Functions that are called with records only."""

    def run(self, payload: bytes) -> Reply:
        """Make the call; the function is one of `names`."""


def invoke(function: str, payload: object, options: CallOptions, local: Local) -> Any:  # noqa: ANN401
    """Call a function and return what it returned, as a Python value.

    Args:
        function: `<app>.<function>`.
        payload: A JSON value; `...`: none, so the function gets an empty object.
        options: How it is called.
        local: The functions of this process.

    Raises:
        FunctionError: The function failed.
        FunctionNotFound: There is no such function.
        Throttled: It is at its limit of concurrency, or no process was free.
        WorkerUnavailable: No worker answers.
        InvalidRequest: The payload is not JSON value, or too large.
        ConfigError: `where` is unknown, or the directory is no log.
    """
    return value_of(shown(answered(function, payload_of(payload), options, local)))


def answered(function: str, payload: bytes, options: CallOptions, local: Local) -> Reply:
    """Call a function and return its answer, as bytes; see `invoke`."""
    check(payload, options)
    log = existing_log(options.log)
    if log is None or options.where == "local":
        return here(function, payload, options, local)
    context, tail = options.client_context, options.tail
    try:
        return invoke_through_worker(log, function, payload, client_context=context, tail=tail)
    except (FunctionNotFound, WorkerUnavailable) as error:
        if options.where == "worker" or is_announced(log.core, error.name):
            raise
        check_here(function, error, local)
    return local.run(payload)


def check(payload: bytes, options: CallOptions) -> None:
    """Check what does not depend on where a call runs.

    Raises:
        ConfigError: `where` is unknown.
        InvalidRequest: The payload is too large.
    """
    if options.where not in PLACES:
        reason = f"`{options.where}` is no place, {nearest(options.where, PLACES)}"
        raise ConfigError("where", reason)
    check_size(payload)


def here(function: str, payload: bytes, options: CallOptions, local: Local) -> Reply:
    """Make a call that no worker can make, or that is to be made in this process.

    Raises:
        FunctionNotFound: This process has no such function.
        WorkerUnavailable: It was to be made by a worker.
    """
    if options.where == "worker" or (options.where == "auto" and not local.names):
        reason = f"there is no log directory `{path_of(options.log)}`"
        raise WorkerUnavailable(function, reason)
    if function not in local.names:
        raise FunctionNotFound(function, _advice(function, local))
    return local.run(payload)


def check_here(function: str, refused: FunctionNotFound | WorkerUnavailable, local: Local) -> None:
    """Make sure that a call that no worker makes can be made in this process.

    Args:
        function: `<app>.<function>`.
        refused: The error of the workers.
        local: The functions of this process.

    Raises:
        FunctionNotFound: The app of this process has no such function.
        WorkerUnavailable: This process has no functions, so a worker was meant.
    """
    if function in local.names:
        return
    if local.names and isinstance(refused, WorkerUnavailable):
        raise FunctionNotFound(function, _advice(function, local)) from None
    raise refused


def payload_of(value: object) -> bytes:
    """Return a payload as JSON.

    Raises:
        InvalidRequest: It is not JSON value.
    """
    if isinstance(value, EllipsisType):
        return NO_PAYLOAD
    try:
        return marshalled(value)
    except MarshalError as error:
        reason = str(error).partition(": ")[2]
        raise InvalidRequest(f"the payload cannot be converted to JSON: {reason}") from None


def shown(reply: Reply) -> Reply:
    """Write the end of what the call printed to stderr, if it was asked for."""
    if reply.log:
        sys.stderr.write(reply.log if reply.log.endswith("\n") else f"{reply.log}\n")
    return reply


def _advice(function: str, local: Local) -> str:
    if function in local.on_streams:
        return "it is called with the records of a stream, `@app.function` makes one for requests"
    if not local.names:
        return "the app in this process has no functions, register one with `@app.function`"
    return advice(function, local.names, "the app has")
