"""Tests for `streamfn.model.inputs` and `streamfn.model.lambda_input`."""

import base64
import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from streamfn import ConfigError, InputKind, register_input
from streamfn.clock import ManualClock
from streamfn.model.batch import Batch
from streamfn.model.context import Context
from streamfn.model.inputs import INPUTS
from streamfn.model.lambda_input import LambdaContext, check_json, kinesis_event
from streamfn.model.record import DEAD_LETTER_HEADER, Record

ARRIVED_US = 1_767_225_600_123_456


def record(data=b'{"n":1}', key="k", number=7, **more):
    place = {"stream": "orders", "shard_id": "shardId-000000000003", "timestamp_us": ARRIVED_US}
    return Record(data, key, sequence_number=number, **place | more)


class TestKinesisEvent:
    """Tests for `kinesis_event`: AWS's shape to the last key."""

    def test_a_record_has_every_key_of_aws_and_no_other(self):
        [shown] = kinesis_event(Batch.of([record()]))["Records"]

        assert shown == {
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": "k",
                "sequenceNumber": "7",
                "data": "eyJuIjoxfQ==",
                "approximateArrivalTimestamp": 1_767_225_600.123,
            },
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": "shardId-000000000003:7",
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": "arn:aws:iam::000000000000:role/streamfn",
            "awsRegion": "us-east-1",
            "eventSourceARN": "arn:aws:kinesis:us-east-1:000000000000:stream/orders",
        }

    def test_the_event_is_json(self):
        event = kinesis_event(Batch.of([record(), record(b"\xff\x00", "ключ", 8)]))

        assert json.loads(json.dumps(event)) == event

    @pytest.mark.parametrize("data", [b"", b"a", b"ab", b"abc", bytes(range(256)) * 5])
    def test_data_is_base64(self, data):
        [shown] = kinesis_event(Batch.of([record(data)]))["Records"]

        assert base64.b64decode(shown["kinesis"]["data"], validate=True) == data

    def test_records_share_nothing_that_a_handler_could_change(self):
        first, second = kinesis_event(Batch.of([record(), record(number=8)]))["Records"]

        first["awsRegion"] = "mine"
        first["kinesis"]["data"] = "mine"

        assert second["awsRegion"] == "us-east-1"
        assert second["kinesis"]["data"] != "mine"

    def test_without_a_key_it_is_the_records_own_number(self):
        [shown] = kinesis_event(Batch.of([record(key=None)]))["Records"]

        assert shown["kinesis"]["partitionKey"] == "7"

    def test_a_redriven_record_keeps_its_identity(self):
        origin = {"stream": "orders", "shard_id": "shardId-000000000001", "sequence_number": 5}
        headers = {DEAD_LETTER_HEADER: json.dumps({"origin": origin}).encode()}
        copy = record(number=40, stream="shop.total.redrive", headers=headers)

        [shown] = kinesis_event(Batch.of([copy]))["Records"]

        assert shown["eventID"] == "shardId-000000000001:5"
        assert shown["eventSourceARN"].endswith(":stream/orders")
        assert shown["kinesis"]["sequenceNumber"] == "40"


class TestLambdaContext:
    """Tests for `LambdaContext`: the attributes of AWS's runtime interface client."""

    def context(self, clock):
        return Context(
            request_id="8d0f0e0c-5ab2-5b6e-8a35-3f0f6ac4f8a0",
            attempt=1,
            deadline=clock.now() + timedelta(seconds=2, microseconds=1999),
            function="total",
            stream="orders",
            shard_id="shardId-000000000000",
            log=None,
            clock=clock,
        )

    def test_it_has_every_attribute_with_its_type(self):
        context = LambdaContext(self.context(ManualClock()))

        assert context.aws_request_id == "8d0f0e0c-5ab2-5b6e-8a35-3f0f6ac4f8a0"
        assert context.function_name == "total"
        assert context.function_version == "$LATEST"
        assert context.invoked_function_arn == (
            "arn:aws:lambda:us-east-1:000000000000:function:total"
        )
        assert context.memory_limit_in_mb == "128"
        assert context.log_group_name == "/aws/lambda/total"
        assert "[$LATEST]" in context.log_stream_name
        assert context.client_context is None
        assert context.tenant_id is None
        assert context.identity.cognito_identity_id is None
        assert context.identity.cognito_identity_pool_id is None

    @pytest.mark.parametrize(
        ("limit", "text"), [(512 * 2**20, "512"), (2**25 - 1, "31"), (20_000_000, "19")]
    )
    def test_the_memory_limit_is_that_of_the_function(self, limit, text):
        context = LambdaContext(replace(self.context(ManualClock()), memory_limit=limit))

        assert context.memory_limit_in_mb == text

    def test_it_has_what_the_context_of_the_runtime_has(self):
        """SOURCE: AWS's runtime interface client for Python, 4.2.0."""
        context = LambdaContext(self.context(ManualClock()))

        assert {name for name in dir(context) if not name.startswith("_")} == {
            "aws_request_id", "client_context", "function_name", "function_version",
            "get_remaining_time_in_millis", "identity", "invoked_function_arn", "log",
            "log_group_name", "log_stream_name", "memory_limit_in_mb", "tenant_id", "w3c",
        }  # fmt: skip

    def test_there_is_no_trace_context_and_that_is_an_object_of_the_callers(self):
        context = LambdaContext(self.context(ManualClock()))

        fields = context.w3c()
        assert fields == {}
        fields["traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        assert context.w3c() == {}

    def test_the_time_left_falls_to_zero_and_no_further(self):
        clock = ManualClock()
        context = LambdaContext(self.context(clock))

        assert context.get_remaining_time_in_millis() == 2001
        clock.advance(timedelta(seconds=1))
        assert context.get_remaining_time_in_millis() == 1001
        clock.advance(timedelta(seconds=5))
        assert context.get_remaining_time_in_millis() == 0

    def test_log_prints(self, capsys):
        LambdaContext(self.context(ManualClock())).log("hello")

        assert capsys.readouterr().out == "hello"


class TestCheckJson:
    """Tests for `check_json`: AWS passes on what is JSON, and fails the call otherwise."""

    @pytest.mark.parametrize("value", [None, "", [], {"a": [1, 2.5, None]}, Decimal("1.5")])
    def test_json_passes(self, value):
        assert check_json(value) is value

    @pytest.mark.parametrize("value", [{1, 2}, b"bytes", object(), {"a": object()}])
    def test_anything_else_is_an_error(self, value):
        with pytest.raises(TypeError, match="Unable to marshal response: Object of type"):
            check_json(value)


class TestRegisterInput:
    """Tests for `register_input`."""

    def test_a_name_is_taken_once(self):
        with pytest.raises(ConfigError, match="another name"):
            register_input(InputKind(name="batch", event=len))

    def test_the_same_kind_twice_is_no_matter(self):
        register_input(INPUTS["batch"])
