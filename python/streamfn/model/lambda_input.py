"""`input="lambda"`: AWS Lambda's event and context, for handlers that run unchanged.

Source: the AWS Lambda developer guide (Kinesis event, Python context object) and AWS's runtime
interface client for Python (the context's attributes and their types).
"""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from streamfn.errors import InvalidResponse

from .batch import Batch
from .context import Context
from .record import REDRIVE_SUFFIX, origin

REGION: Final = "us-east-1"
ACCOUNT: Final = "000000000000"
"""Placeholder: streamfn has no accounts; local emulators of AWS use this number."""
MEBIBYTE: Final = 2**20
ROLE_ARN: Final = f"arn:aws:iam::{ACCOUNT}:role/streamfn"


def stream_arn(name: str) -> str:
    """Return the Kinesis ARN that a stream of this name would have."""
    return f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{name}"


def function_arn(name: str) -> str:
    """Return the Lambda ARN that a function of this name would have."""
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"


def kinesis_event(batch: Batch) -> dict[str, Any]:
    """Return the event that AWS Lambda's Kinesis mapping would pass for these records.

    A record without a key has its sequence number as `partitionKey`. A redriven record keeps the
    `eventID` and the ARN of its origin. Its `sequenceNumber` is that of the redriven copy, because
    `batchItemFailures` must name that number.
    """
    if not batch:
        return {"Records": []} | _window_fields(batch)
    records = batch.records.kinesis_records(_shared(batch.records.stream))
    if batch.records.stream.endswith(REDRIVE_SUFFIX):
        for shown, record in zip(records, batch, strict=True):
            stream, shard_id, number = origin(record)
            shown |= {"eventID": f"{shard_id}:{number}", "eventSourceARN": stream_arn(stream)}
    return {"Records": records} | _window_fields(batch)


def _window_fields(batch: Batch) -> dict[str, Any]:
    """Return the fields that a tumbling window adds to the event; empty without a window.

    Source: AWS's `TimeWindow` event; in the first call `state` is an empty object.
    """
    if batch.window is None:
        return {}
    start, end = (_zulu(time) for time in (batch.window.start, batch.window.end))
    return {
        "window": {"start": start, "end": end},
        "state": {} if batch.state is None else batch.state,
        "shardId": batch.context.shard_id,
        "eventSourceARN": stream_arn(batch.context.stream),
        "isFinalInvokeForWindow": batch.is_final,
        "isWindowTerminatedEarly": batch.is_terminated_early,
    }


def _zulu(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def take_state(batch: Batch, returned: object) -> bool:
    """Assign the `state` that a handler returned to the window.

    Source: W-1, a response without `state` fails the call.

    Raises:
        InvalidResponse: The response has no `state`.
    """
    if not isinstance(returned, dict) or "state" not in returned:
        reason = "under a tumbling window the answer needs a field `state`"
        raise InvalidResponse(reason)
    # The state may contain Decimals, which AWS converts to numbers.
    batch.state = json.loads(json.dumps(returned["state"], default=_decimal))
    return True


def _shared(stream: str) -> dict[str, Any]:
    return {
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": "",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": ROLE_ARN,
        "awsRegion": REGION,
        "eventSourceARN": stream_arn(stream),
    }


def check_json(returned: object) -> object:
    """Return the handler's return value if it can be written as JSON.

    Raises:
        TypeError: It cannot; AWS fails such a call with `Runtime.MarshalError`.
    """
    if returned is not None:
        try:
            json.dumps(returned, default=_decimal)
        except (TypeError, ValueError) as error:
            raise TypeError(f"Unable to marshal response: {error}") from None
    return returned


def _decimal(value: object) -> float:
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


class CognitoIdentity:
    """`context.identity`; empty, as on AWS when no user is signed in."""

    cognito_identity_id: None = None
    cognito_identity_pool_id: None = None


class LambdaContext:
    """The context object of AWS Lambda's Python runtime, with all its attributes."""

    memory_limit_in_mb = "128"
    """A string, as on AWS: the function's `memory` in MiB; without a limit, AWS's default."""
    function_version = "$LATEST"
    tenant_id: None = None
    client_context: None = None

    def __init__(self, context: Context) -> None:
        self._context = context
        self.aws_request_id = context.request_id
        self.function_name = context.function
        self.invoked_function_arn = function_arn(context.function)
        self.log_group_name = f"/aws/lambda/{context.function}"
        started = context.deadline
        self.log_stream_name = f"{started:%Y/%m/%d}/[$LATEST]{context.request_id.replace('-', '')}"
        self.identity = CognitoIdentity()
        if context.memory_limit is not None:
            self.memory_limit_in_mb = str(context.memory_limit // MEBIBYTE)

    def get_remaining_time_in_millis(self) -> int:
        """Return the time left until the deadline, in ms, at least 0."""
        return self._context.remaining // timedelta(milliseconds=1)

    def w3c(self) -> dict[str, str]:
        """Return the fields of the W3C trace context: always empty, as there is no caller.

        AWS takes `traceparent`, `tracestate` and `baggage` from the client context of an
        invocation; an invocation by an event source has none.
        """
        return {}

    def log(self, message: object) -> None:
        """Write to standard output; AWS collects its logs there."""
        sys.stdout.write(str(message))

    def __repr__(self) -> str:
        return f"LambdaContext({self.function_name!r}, aws_request_id={self.aws_request_id!r})"
