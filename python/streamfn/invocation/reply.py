"""How a call by request ended, and its value or error for Python."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from streamfn.errors import FunctionError


class Reply(NamedTuple):
    """The answer to a call, from wherever the function ran."""

    payload: bytes
    """JSON: what the function returned, or an error object."""
    is_failed: bool
    """Whether the payload is an error object."""
    request_id: str
    log: str | None = None
    """The end of what the call printed, if the caller asked for it."""


def value_of(reply: Reply) -> Any:  # noqa: ANN401 -- any JSON value
    """Return what the function returned.

    Raises:
        FunctionError: The function failed.
    """
    if reply.is_failed:
        raise error_of(reply)
    return orjson.loads(reply.payload)


def error_of(reply: Reply) -> FunctionError:
    """Return the error object of a failed call as an exception."""
    try:
        fields = orjson.loads(reply.payload)
    except orjson.JSONDecodeError:
        fields = None
    if not isinstance(fields, dict):
        # WHY: nothing that a worker sends may raise anything else here.
        fields = {"errorMessage": reply.payload.decode("utf-8", "replace")}
    trace = fields.get("stackTrace")
    return FunctionError(
        str(fields.get("errorType", "Unknown")),
        str(fields.get("errorMessage", "")),
        [str(each) for each in trace] if isinstance(trace, list) else (),
        str(fields.get("requestId") or reply.request_id),
    )
