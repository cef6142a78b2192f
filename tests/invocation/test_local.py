"""Tests for `streamfn.invocation.local`: calls in this process."""

import asyncio
import os
import threading
import warnings
from datetime import timedelta

import pytest

from streamfn import App
from streamfn.clock import ManualClock
from streamfn.errors import ConfigError, FunctionError, Throttled
from streamfn.invocation.local import invoke_here
from streamfn.invocation.reply import value_of
from streamfn.testing import MemoryLog


@pytest.fixture
def call():
    """Register a function and call it here."""

    def call(handler, payload=b"1", clock=None, client_context=None, open_log=None, **options):
        app = App("shop")
        app.function(name="price", **options)(handler)
        [config] = app.functions
        return invoke_here(config, handler, payload, clock=clock, open_log=open_log,
                           client_context=client_context)  # fmt: skip

    return call


def test_it_answers(call):
    reply = call(lambda order, context: [order, context.client_context], client_context=[7])

    assert value_of(reply) == [1, [7]]
    assert not reply.is_failed
    assert reply.log is None


def test_each_call_has_its_own_request_id(call):
    replies = [call(lambda order, context: context.request_id) for _ in range(2)]

    assert [value_of(each) for each in replies] == [each.request_id for each in replies]
    assert replies[0].request_id != replies[1].request_id


def test_an_error_is_a_function_error(call):
    reply = call(lambda order: 1 / 0)

    with pytest.raises(FunctionError) as caught:
        value_of(reply)
    error = caught.value
    assert (error.error_type, error.error_message) == ("ZeroDivisionError", "division by zero")
    assert error.request_id == reply.request_id
    assert "in <lambda>" in error.stack_trace[0]


def test_ctrl_c_ends_the_program_and_not_only_the_call(call):
    def price(order):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(price)


def test_a_timeout_cannot_kill_here_and_says_so(call):
    clock = ManualClock()

    def price(order):
        clock.advance(timedelta(seconds=order))
        return "done"

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert value_of(call(price, b"5", clock=clock, timeout="5s")) == "done"
    with pytest.warns(RuntimeWarning, match=r"took 5.5 s, its timeout is 5 s: .* cannot be killed"):
        assert value_of(call(price, b"5.5", clock=clock, timeout="5s")) == "done"


def test_an_async_call_is_cancelled_at_its_timeout(call):
    async def price(order):
        await asyncio.sleep(30)

    with pytest.raises(FunctionError, match=r"Task timed out after 0.10 seconds"):
        value_of(call(price, timeout="100ms"))


def test_a_function_that_is_switched_off_is_not_called(call):
    with pytest.raises(Throttled, match="switched off"):
        call(lambda order: pytest.fail("it was called"), concurrency=0)


def test_the_log_is_opened_only_if_it_is_used(call):
    def price(order, context):
        if order == 2:
            context.log.stream("orders").put(b"x")

    with MemoryLog() as log:
        log.create_stream("orders")
        assert value_of(call(price, open_log=lambda: pytest.fail("opened"))) is None
        assert value_of(call(price, b"2", open_log=lambda: log)) is None
        assert [len(batch) for batch in log.stream("orders").read()] == [1]
    with pytest.raises(FunctionError, match="this call has no log"):
        value_of(call(price, b"2"))
    assert ConfigError("log", "").field == "log"


def test_threads_call_at_the_same_time(call):
    together = threading.Barrier(4, timeout=20)

    async def price(order):
        await asyncio.to_thread(together.wait)
        return order

    answers = []
    threads = [threading.Thread(target=lambda: answers.append(value_of(call(price))))
               for _ in range(4)]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [1] * 4


def test_a_call_on_the_loop_that_would_wait_for_itself_is_refused(call):
    async def inner(order):
        return order

    async def outer(order):
        return value_of(call(inner))

    with pytest.raises(FunctionError, match="would wait for itself"):
        value_of(call(outer))


def test_a_forked_child_has_an_event_loop_of_its_own(call):
    async def price(order):
        return order

    assert value_of(call(price)) == 1
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if value_of(call(price)) == 1 else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
