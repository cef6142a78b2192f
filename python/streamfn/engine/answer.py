"""Answers of calls by request: returned values as JSON, and AWS Lambda's error objects.

Source: I-3 to I-7 and G-2 of AWS's behaviour, see docs/conformance.md; docs/decisions/0023.
"""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson

from streamfn.error_text import message_of
from streamfn.model.function_config import RESPONSE_BYTES_MAX

from .outcome import Failure

SEPARATORS: Final = (",", ":")


class Answer(NamedTuple):
    """What the caller of a function gets."""

    body: bytes
    """JSON: the returned value, or an error object."""
    failure: Failure | None = None
    """Why the call failed, for the log of the worker. None: it succeeded."""
    is_timeout: bool = False
    """Whether it was cancelled at its timeout."""
    is_starved: bool = False
    """Whether its process has no descriptors, memory or threads left."""
    is_fatal: bool = False
    """Whether other calls would fail in this process, too."""

    @property
    def is_failed(self) -> bool:
        """Whether the body is an error object."""
        return self.failure is not None


class MarshalError(Exception):
    """The function returned something that is no JSON value."""


def marshalled(value: object) -> bytes:
    """Return a function's return value as JSON.

    Raises:
        MarshalError: It is no JSON value; the message is AWS's.
    """
    try:
        return orjson.dumps(value, default=_as_json)
    except TypeError:
        return _in_full(value)


def answer_of(value: object, request_id: str) -> Answer:
    """Return the answer of a call that returned."""
    try:
        body = marshalled(value)
    except MarshalError as error:
        return refused("Runtime.MarshalError", str(error), request_id)
    if len(body) > RESPONSE_BYTES_MAX:
        return too_large()
    return Answer(body)


def refused(error_type: str, message: str, request_id: str) -> Answer:
    """Return the answer of a call whose function ran, but gave no answer that can be passed on."""
    body = error_object(error_type, message, request_id, [])
    return Answer(body, Failure(error_type, message))


def error_object(error_type: str, message: str, request_id: str, stack: list[str]) -> bytes:
    """Return the error object of a function that raised. Source: I-3, the order of keys too."""
    return orjson.dumps({
        "errorMessage": message,
        "errorType": error_type,
        "requestId": request_id,
        "stackTrace": stack,
    })  # fmt: skip


def sandbox_error(error_type: str, message: str) -> bytes:
    """Return the error object of a call that was ended from outside. Source: I-4, I-5."""
    return orjson.dumps({"errorType": error_type, "errorMessage": message})


def timed_out(request_id: str, seconds: float) -> Answer:
    """Return the answer of a call that exceeded its timeout. Source: I-4."""
    kind = "Sandbox.Timedout"
    message = f"RequestId: {request_id} Error: Task timed out after {seconds:.2f} seconds"
    return Answer(sandbox_error(kind, message), Failure(kind, message), is_timeout=True)


def killed(request_id: str, number: signal.Signals) -> Answer:
    """Return the answer of a call whose process was killed by a signal. Source: I-5.

    The name is that of the C library, in lower case, as AWS's supervisor writes it.
    """
    how = f"Runtime exited with error: signal: {(signal.strsignal(number) or number.name).lower()}"
    return _ended(request_id, how, "")


def exited(request_id: str, code: object, traceback: str) -> Answer:
    """Return the answer of a call that raised `SystemExit`; on AWS it ends the process.

    Source: I-5.

    Args:
        request_id: Id of the call.
        code: That of the exception.
        traceback: Where it was raised, for the log.
    """
    # Python's rule: a number is the exit status, None is 0, anything else is printed, and 1.
    status = (code or 0) & 0xFF if code is None or isinstance(code, int) else 1
    how = "Runtime exited without providing a reason"
    if status:
        how = f"Runtime exited with error: exit status {status}"
    return _ended(request_id, how, traceback)


def _ended(request_id: str, how: str, traceback: str) -> Answer:
    kind, message = "Runtime.ExitError", f"RequestId: {request_id} Error: {how}"
    return Answer(sandbox_error(kind, message), Failure(kind, message, traceback))


def too_large() -> Answer:
    """Return the answer of a call that returned more than `RESPONSE_BYTES_MAX`. Source: G-2."""
    kind = "Function.ResponseSizeTooLarge"
    most = f"({RESPONSE_BYTES_MAX} bytes)"
    message = f"Response payload size exceeded maximum allowed payload size {most}."
    body = orjson.dumps({"errorMessage": message, "errorType": kind})
    return Answer(body, Failure(kind, message))


def _in_full(value: object) -> bytes:
    """Return as JSON what `orjson` refuses: keys that are numbers, large numbers, odd text.

    WHY in a second try: it takes ten times as long.
    """
    try:
        try:
            text = json.dumps(value, default=_as_json, separators=SEPARATORS, allow_nan=False)
        except ValueError as error:
            if not str(error).startswith("Out of range float values"):
                raise
            # `orjson` writes `null`, too. AWS writes `NaN`, which is no JSON.
            text = json.dumps(value, default=_as_json)
            text = json.dumps(json.loads(text, parse_constant=_null), separators=SEPARATORS)
    except Exception as error:  # noqa: BLE001 -- also what the value's own code raises
        raise MarshalError(f"Unable to marshal response: {message_of(error)}") from None
    return text.encode()


def _null(_constant: str) -> None:
    return None


def _as_json(value: Any) -> Any:  # noqa: ANN401 -- whatever a function returns
    """Return a value that JSON has no form for as one that it has.

    Raises:
        TypeError: There is none; the message is Python's.
    """
    match value:
        case Decimal():
            return float(value)
        case datetime() | date() | time():
            return value.isoformat()
        case UUID():
            return str(value)
        case Enum():
            return value.value
    return _fields_of(value)


def _fields_of(value: Any) -> Any:  # noqa: ANN401 -- as above
    if is_dataclass(value) and not isinstance(value, type):
        names = (each.name for each in fields(value))
        return {name: getattr(value, name) for name in names if not name.startswith("_")}
    if hasattr(type(value), "model_dump"):  # pydantic
        return value.model_dump(mode="json")
    msgspec = sys.modules.get("msgspec")
    if msgspec is not None and isinstance(value, msgspec.Struct):
        own = (Decimal,)  # msgspec writes it as text
        return msgspec.to_builtins(value, builtin_types=own, str_keys=True, enc_hook=_as_json)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
