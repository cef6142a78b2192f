"""Tests for `streamfn.testing.invoke`."""

import asyncio
import signal
from datetime import timedelta

import pytest

from streamfn import App
from streamfn.errors import FunctionError, FunctionNotFound, InvalidRequest
from streamfn.model.function_config import REQUEST_BYTES_MAX
from streamfn.testing import Crash, MemoryLog, invoke


@pytest.fixture
def log():
    with MemoryLog() as log:
        yield log


def app_of(handler, **options):
    app = App("shop")
    app.function(name="price", **options)(handler)
    return app


def error_of(app, *arguments, **options):
    with pytest.raises(FunctionError) as caught:
        invoke(app, "price", *arguments, **options)
    return caught.value


def test_payload_and_answer_pass_as_json():
    app = app_of(lambda order: [order, (1, 2)])

    assert invoke(app, "price", {"a": (3,)}) == [{"a": [3]}, [1, 2]]
    assert invoke(app, "shop.price", None) == [None, [1, 2]]
    assert invoke(app, "price") == [{}, [1, 2]]


def test_an_exception_is_a_function_error():
    error = error_of(app_of(lambda order: 1 / 0))

    assert error.error_type == "ZeroDivisionError"
    assert len(error.stack_trace) == 1


def test_a_function_that_moves_the_clock_past_its_timeout_has_timed_out(log):
    def price(seconds):
        log.clock.advance(timedelta(seconds=seconds))
        return "in time"

    app = app_of(price, timeout="5s")
    assert invoke(app, "price", 5, log=log) == "in time"
    error = error_of(app, 5.1, log=log)
    assert error.error_type == "Sandbox.Timedout"
    assert error.error_message.endswith("Task timed out after 5.00 seconds")


@pytest.mark.parametrize("is_async", [False, True])
def test_a_crash_ends_the_simulated_process(is_async):
    async def price(order):
        await asyncio.sleep(0)
        raise Crash(signal.SIGSEGV)

    def plain(order):
        raise Crash(signal.SIGSEGV)

    error = error_of(app_of(price if is_async else plain))
    assert error.error_type == "Runtime.ExitError"
    assert error.error_message.endswith("signal: segmentation fault")


def test_the_context_has_the_log_and_the_client_context(log):
    def price(order, context):
        context.log.stream("orders").put(b"x")
        return context.client_context.custom

    log.create_stream("orders")
    context = {"custom": {"who": "me"}}
    assert invoke(app_of(price), "price", log=log, client_context=context) == {"who": "me"}
    assert [len(batch) for batch in log.stream("orders").read()] == [1]


def test_a_function_that_does_not_exist_is_not_found():
    app = app_of(lambda order: 1)

    with pytest.raises(FunctionNotFound) as caught:
        invoke(app, "prices")
    assert caught.value.hint == "did you mean `price`?"
    with pytest.raises(FunctionNotFound) as caught:
        invoke(App("shop"), "price")
    assert "@app.function" in caught.value.hint


def test_a_payload_has_a_limit_and_is_json():
    app = app_of(len)

    assert invoke(app, "price", "x" * (REQUEST_BYTES_MAX - 2)) == REQUEST_BYTES_MAX - 2
    with pytest.raises(InvalidRequest, match="6,291,457 bytes"):
        invoke(app, "price", "x" * (REQUEST_BYTES_MAX - 1))
    with pytest.raises(InvalidRequest, match="type set is not JSON"):
        invoke(app, "price", {1})


def test_pytest_finds_the_fixture(pytester_like):
    pytester_like("""
        from datetime import timedelta
        from streamfn import App

        app = App("shop")

        @app.function
        def price(order, context):
            return context.log.streams()

        def test_price(streamfn_invoke, streamfn_log):
            streamfn_log.create_stream("orders")
            assert streamfn_invoke(app, "price") == ["orders"]
    """)
