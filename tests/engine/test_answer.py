"""Tests for `streamfn.engine.answer`: returned values as JSON, and error objects."""

import dataclasses
import enum
import json
import signal
import uuid
from datetime import UTC, date, datetime, time
from decimal import Decimal

import msgspec
import pytest

from streamfn.engine.answer import (
    MarshalError,
    answer_of,
    exited,
    killed,
    marshalled,
    timed_out,
    too_large,
)
from streamfn.model.function_config import RESPONSE_BYTES_MAX


class Struct(msgspec.Struct):
    a: object
    b: object = None


@dataclasses.dataclass
class Data:
    a: object
    _hidden: int = 1


class Colour(enum.Enum):
    RED = "red"


class Model:
    def __repr__(self):
        return "Model"  # in the ids of tests, which are the same in each process

    def model_dump(self, mode):
        return {"mode": mode}


NUMBER = uuid.UUID(int=3)
TIME = datetime(2026, 1, 1, tzinfo=UTC)
RING: list[object] = []
RING.append(RING)
DEEP: list[object] = []
for _ in range(500):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        ((1, "é"), '[1,"é"]'),
        (TIME, '"2026-01-01T00:00:00+00:00"'),
        ({"d": date(2026, 1, 2), "t": time(3, 4)}, '{"d":"2026-01-02","t":"03:04:00"}'),
        (NUMBER, f'"{NUMBER}"'),
        (Colour.RED, '"red"'),
        (Data(1), '{"a":1}'),
        (Struct(Decimal("1.5"), b"x"), '{"a":1.5,"b":"eA=="}'),
        (Model(), '{"mode":"json"}'),
        (Decimal("1.10"), "1.1"),
        (float("nan"), "null"),
        ({1: 2, None: 3, False: 4}, '{"1":2,"null":3,"false":4}'),
        (2**70, str(2**70)),
        ("\ud800", '"\\ud800"'),
        ({1: float("inf"), 2: 2**70}, '{"1":null,"2":1180591620717411303424}'),
        ({1: [TIME, Colour.RED, Data(1)]}, '{"1":["2026-01-01T00:00:00+00:00","red",{"a":1}]}'),
        ({1: [NUMBER, Model()]}, f'{{"1":["{NUMBER}",{{"mode":"json"}}]}}'),
        ({1: [Struct(1), Decimal(2)]}, '{"1":[{"a":1,"b":null},2.0]}'),
        (DEEP, "[" * 501 + "]" * 501),
    ],
    ids=repr,
)  # fmt: skip
def test_a_value_is_written_as_json(value, text):
    assert marshalled(value).decode() == text
    json.loads(text)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({1}, "Object of type set is not JSON serializable"),
        (b"x", "Object of type bytes is not JSON serializable"),
        (object(), "Object of type object is not JSON serializable"),
        ({"a": [Data(object())]}, "Object of type object is not JSON serializable"),
        ((each for each in ""), "Object of type generator is not JSON serializable"),
        (Struct, "Object of type StructMeta is not JSON serializable"),
        (RING, "Circular reference detected"),
    ],
)
def test_other_values_are_refused_in_aws_words(value, reason):
    with pytest.raises(MarshalError) as caught:
        marshalled(value)

    assert str(caught.value) == f"Unable to marshal response: {reason}"


def test_a_value_whose_own_code_raises_is_refused():
    class Bad:
        def model_dump(self, mode):
            raise RuntimeError("no dump")

    with pytest.raises(MarshalError, match="no dump"):
        marshalled([Bad()])


def test_a_refused_value_is_an_error_object():
    answer = answer_of({1}, "r-1")

    assert answer.is_failed
    assert json.loads(answer.body) == {
        "errorMessage": "Unable to marshal response: Object of type set is not JSON serializable",
        "errorType": "Runtime.MarshalError",
        "requestId": "r-1",
        "stackTrace": [],
    }


def test_an_answer_has_a_limit():
    text = "x" * (RESPONSE_BYTES_MAX - 2)

    assert answer_of(text, "").body == f'"{text}"'.encode()
    refused = answer_of(f"{text}x", "")
    assert refused == too_large()
    assert json.loads(refused.body) == {
        "errorMessage": "Response payload size exceeded maximum allowed payload size "
        "(6291556 bytes).",
        "errorType": "Function.ResponseSizeTooLarge",
    }


def test_a_timeout_reads_as_on_aws():
    assert timed_out("r-1", 1).body == (
        b'{"errorType":"Sandbox.Timedout",'
        b'"errorMessage":"RequestId: r-1 Error: Task timed out after 1.00 seconds"}'
    )


@pytest.mark.parametrize(
    ("code", "how"),
    [
        (3, "exited with error: exit status 3"),
        (-1, "exited with error: exit status 255"),
        (256, "exited without providing a reason"),
        (0, "exited without providing a reason"),
        (None, "exited without providing a reason"),
        ("why", "exited with error: exit status 1"),
        (True, "exited with error: exit status 1"),
    ],
)
def test_an_exit_reads_as_on_aws(code, how):
    answer = exited("r-1", code, "")

    assert json.loads(answer.body) == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: r-1 Error: Runtime {how}",
    }


def test_a_signal_reads_as_on_aws():
    message = json.loads(killed("r-1", signal.SIGSEGV).body)["errorMessage"]

    assert message == "RequestId: r-1 Error: Runtime exited with error: signal: segmentation fault"
