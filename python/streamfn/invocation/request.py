"""A call as its caller sends it, and what the front says to it. Source: docs/front.md."""

from __future__ import annotations

import os
from typing import Any, Final

import orjson

from streamfn.errors import FunctionError, InvalidRequest, InvocationRefused, Throttled
from streamfn.model.function_config import REQUEST_BYTES_MAX

from .frames import Frame, Kind, encode
from .reply import Reply

CLIENT_CONTEXT_BYTES_MAX: Final = 1 << 20
"""Longest client context as JSON: with it and the longest payload, a frame fits its limit."""

_THROTTLED: Final = {
    "ReservedFunctionConcurrentInvocationLimitExceeded": "it is at its `concurrency`",
    "ConcurrentInvocationLimitExceeded": "no process was free within its timeout",
}
"""By the reason that the front gives: why a call was throttled."""


class Request:
    """One call of a function."""

    __slots__ = ("client_context", "function", "payload", "request_id", "tail")

    def __init__(
        self,
        function: str,
        payload: bytes,
        client_context: Any = None,  # noqa: ANN401 -- any JSON value
        tail: bool = False,  # noqa: FBT001, FBT002 -- as in a frame
    ) -> None:
        """Check the limits and draw a request id.

        Args:
            function: `<app>.<function>`.
            payload: JSON.
            client_context: A JSON value for the handler's context, or None.
            tail: Whether the answer has the end of what the call printed.

        Raises:
            InvalidRequest: Payload or client context are too large.
        """
        check_size(payload)
        if client_context is not None:
            _check_context(client_context)
        self.function, self.payload = function, payload
        self.client_context, self.tail = client_context, tail
        # WHY here and not by the front: the error of a call whose worker died names it too.
        self.request_id = _new_id()

    def frame(self, call: int) -> bytes:
        """Return the call as a frame.

        Args:
            call: Its number on its connection.
        """
        header = {
            "id": call,
            "function": self.function,
            "type": "RequestResponse",
            "request_id": self.request_id,
            "tail": self.tail,
            "client_context": self.client_context,
        }
        return encode(Kind.CALL, header, self.payload)

    def reply(self, frame: Frame) -> Reply:
        """Return the answer that a RESULT carries."""
        header = frame.header
        request_id = str(header.get("request_id") or self.request_id)
        return Reply(frame.body, bool(header.get("failed")), request_id, header.get("log"))

    def lost(self, reason: str) -> FunctionError:
        """Return the error of a call that was sent and will not be answered.

        Args:
            reason: What happened to the worker, as in `the worker ended`.
        """
        message = f"RequestId: {self.request_id} Error: {reason}; the function may have run"
        return FunctionError("Runtime.WorkerLost", message, (), self.request_id)


def _new_id() -> str:
    """Return a random UUID; `uuid.uuid4` takes several times as long."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def check_size(payload: bytes) -> None:
    """Check the length of a payload.

    Raises:
        InvalidRequest: It is too long.
    """
    if len(payload) > REQUEST_BYTES_MAX:
        most = f"a call takes at most {REQUEST_BYTES_MAX:,}"
        raise InvalidRequest(f"the payload has {len(payload):,} bytes, {most}")


def refusal(frame: Frame, function: str) -> InvocationRefused | None:
    """Return the error that a REFUSED means; None: another worker may take the call.

    Args:
        frame: The frame.
        function: The function that was to be called.
    """
    header = frame.header
    match header.get("status"):
        case 429:
            reason = _THROTTLED.get(str(header.get("reason")))
            return Throttled(function, reason or reason_of(frame))
        case 400 | 413:
            return InvalidRequest(reason_of(frame))
    return None


def reason_of(frame: Frame) -> str:
    """Return what a REFUSED says in words."""
    return str(frame.header.get("message") or frame.header.get("type") or "no reason is given")


def _check_context(context: object) -> None:
    try:
        size = len(orjson.dumps(context))
    except TypeError as error:
        raise InvalidRequest(f"the client context cannot be converted to JSON: {error}") from None
    if size > CLIENT_CONTEXT_BYTES_MAX:
        most = f"a call takes at most {CLIENT_CONTEXT_BYTES_MAX:,}"
        raise InvalidRequest(f"the client context has {size:,} bytes, {most}")
