"""Tests for `streamfn.model.function_context`: ours and AWS's names in one object."""

import copy
from datetime import timedelta

import pytest
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2, event_source

from streamfn import App, FunctionContext
from streamfn.clock import ManualClock
from streamfn.model.function_config import FunctionConfig
from streamfn.model.function_context import ContextLog
from streamfn.testing import MemoryLog, invoke

CONFIG = FunctionConfig(
    name="shop.price", app="shop", function="price", timeout=timedelta(seconds=5)
)


@pytest.fixture
def clock():
    return ManualClock()


def context_of(clock, config=CONFIG, **options):
    return FunctionContext(config, "ab-cd", ContextLog(lambda: None), clock, **options)


def test_it_has_our_names(clock):
    context = context_of(clock)

    assert (context.request_id, context.function, context.attempt) == ("ab-cd", "price", 1)
    assert context.deadline == clock.now() + timedelta(seconds=5)
    clock.advance(timedelta(seconds=2))
    assert context.remaining == timedelta(seconds=3)
    clock.advance(timedelta(seconds=9))
    assert context.remaining == timedelta(0)
    assert repr(context) == "FunctionContext('price', request_id='ab-cd')"


def test_it_has_awss_names(clock):
    context = context_of(clock)

    assert context.aws_request_id == "ab-cd"
    assert context.function_name == "price"
    assert context.function_version == "$LATEST"
    assert context.invoked_function_arn == "arn:aws:lambda:us-east-1:000000000000:function:price"
    assert context.memory_limit_in_mb == "128"
    assert context.log_group_name == "/aws/lambda/price"
    assert context.log_stream_name == "2026/01/01/[$LATEST]abcd"
    assert context.client_context is None
    assert context.tenant_id is None
    assert context.identity.cognito_identity_id is None
    assert context.get_remaining_time_in_millis() == 5000
    assert context.w3c() == {}


def test_the_memory_limit_is_a_text(clock):
    config = FunctionConfig(name="a.f", app="a", function="f", memory=512 * 2**20)

    assert context_of(clock, config).memory_limit_in_mb == "512"


def test_a_call_may_have_a_timeout_of_its_own(clock):
    assert context_of(clock, timeout=timedelta(seconds=1)).remaining == timedelta(seconds=1)


def test_a_client_context_is_an_object_as_on_aws(clock):
    given = {"custom": {"traceparent": "00-1", "tracestate": 7}, "client": {"app_title": "shop"}}
    context = context_of(clock, client_context=given)

    assert context.client_context.custom["traceparent"] == "00-1"
    assert context.client_context.env is None
    assert context.client_context.client.app_title == "shop"
    assert context.client_context.client.installation_id is None
    assert context.w3c() == {"traceparent": "00-1"}
    assert context_of(clock, client_context=[1]).client_context == [1]
    assert context_of(clock, client_context={}).client_context.client is None


class TestLog:
    """`context.log`: the open log, and AWS's function."""

    def test_it_is_opened_when_it_is_used(self):
        opened = []
        with MemoryLog() as memory:
            memory.create_stream("orders")
            log = ContextLog(lambda: opened.append(1) or memory)

            copy.copy(log)
            assert opened == []
            assert log.streams() == ["orders"]
            log.stream("orders").put(b"x")
            assert log.path == memory.path
            assert log.create_stream("more").name == "more", "it has all of `Log`"
            assert opened == [1]

    def test_it_prints_a_message(self, capsys):
        ContextLog(lambda: None)("hello")

        assert capsys.readouterr().out == "hello"


class TestPowertools:
    """AWS Lambda Powertools takes it."""

    def test_a_logger_injects_it(self, capsys):
        app, logger = App("shop"), Logger(service="shop")

        @app.function
        @logger.inject_lambda_context
        def price(event, context):
            logger.info("priced")
            return context.aws_request_id

        request_id = invoke(app, "price", {})
        line = capsys.readouterr().out
        assert f'"function_request_id":"{request_id}"' in line
        assert '"function_name":"price"' in line

    def test_its_data_classes_wrap_the_event_themselves(self):
        app = App("shop")

        @app.function
        @event_source(data_class=APIGatewayProxyEventV2)
        def order(event: APIGatewayProxyEventV2, context):
            return event.raw_path

        assert invoke(app, "order", {"rawPath": "/orders"}) == "/orders"
