"""Tests for `streamfn.engine.function_call`: one call by request."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from datetime import timedelta

import pytest

from streamfn.clock import ManualClock
from streamfn.engine.disturbance import Disturbance
from streamfn.engine.function_call import FunctionInvoker, Request
from streamfn.engine.lazy_event_loop import LazyEventLoop
from streamfn.error_text import TRACEBACK_BYTES_MAX
from streamfn.model.function_config import FunctionConfig
from streamfn.model.function_context import ContextLog

REQUEST = Request("r-1")


@pytest.fixture
def loops():
    loops = LazyEventLoop()
    yield loops
    loops.close()


@pytest.fixture
def call(loops):
    """Call a function with a payload; return whether it failed, and the value."""

    def call(handler, payload=None, request=REQUEST, **fields):
        invoker = invoker_of(handler, loops, **fields)
        answer = invoker.call(json.dumps(payload).encode(), request)
        return answer.is_failed, json.loads(answer.body)

    return call


def invoker_of(handler, loops, clock=None, log=None, **fields):
    fields = {"name": "shop.price", "app": "shop", "function": "price"} | fields
    return FunctionInvoker(
        FunctionConfig(**fields), handler, ContextLog(lambda: log), clock or ManualClock(), loops
    )


class TestAnswers:
    """What a call that returns answers."""

    @pytest.mark.parametrize("value", [None, 1, "é", [1, {"a": None}], 2**80])
    def test_the_returned_value(self, call, value):
        assert call(lambda payload: payload, value) == (False, value)

    def test_an_async_function(self, call):
        async def price(order):
            await asyncio.sleep(0)
            return [order]

        assert call(price, 1) == (False, [1])

    def test_what_is_no_json(self, call):
        failed, error = call(lambda payload: {1})

        assert failed
        assert error["errorType"] == "Runtime.MarshalError"

    def test_a_coroutine_whose_async_a_decorator_hides(self, call):
        async def price(order): ...

        failed, error = call(lambda payload: price(payload))  # noqa: PLW0108 -- it hides it

        assert failed
        assert "Object of type coroutine" in error["errorMessage"]


class TestErrors:
    """What a call that raises answers."""

    def test_it_is_awss_object(self, loops):
        def price(order):
            raise LookupError("no such order")

        answer = invoker_of(price, loops).call(b"1", REQUEST)
        line = price.__code__.co_firstlineno + 1
        code = '    raise LookupError("no such order")'
        assert json.loads(answer.body) == {
            "errorMessage": "no such order",
            "errorType": "LookupError",
            "requestId": "r-1",
            "stackTrace": [f'  File "{__file__}", line {line}, in price\n{code}\n'],
        }
        keys = [b"errorMessage", b"errorType", b"requestId", b"stackTrace"]
        assert keys == sorted(keys, key=answer.body.index), "their order is AWS's too"
        assert answer.failure.traceback.startswith("Traceback")

    @pytest.mark.parametrize(
        "error", [KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError(), MemoryError()]
    )
    def test_whatever_is_raised(self, call, error):
        def price(order):
            raise error

        failed, object_ = call(price)
        assert failed
        assert object_["errorType"] == type(error).__name__

    def test_a_class_inside_another_has_its_own_name_only(self, call):
        class Inner(Exception): ...

        def price(order):
            raise Inner

        assert call(price)[1]["errorType"] == "Inner"

    @pytest.mark.parametrize("is_async", [False, True])
    def test_sys_exit_is_an_end_of_the_process(self, call, is_async):
        async def price(order):
            sys.exit(order)

        handler = price if is_async else sys.exit
        failed, error = call(handler, 3)
        assert failed
        assert error == {
            "errorType": "Runtime.ExitError",
            "errorMessage": "RequestId: r-1 Error: Runtime exited with error: exit status 3",
        }

    def test_an_exit_that_hides_its_code_is_read_all_the_same(self, call):
        class Exit(SystemExit):
            code = property(lambda _: 1 / 0)

        def price(order):
            raise Exit(4)

        assert call(price)[1]["errorMessage"].endswith("exit status 4")

    def test_our_own_frames_are_not_in_it(self, call):
        async def price(order):
            await asyncio.sleep(0)
            int("x")

        stack = call(price)[1]["stackTrace"]
        assert len(stack) == 1
        assert "in price" in stack[0]

    def test_a_wrong_number_of_arguments_has_no_frame_at_all(self, call):
        failed, error = call(lambda: 1)

        assert (failed, error["errorType"], error["stackTrace"]) == (True, "TypeError", [])

    def test_a_deep_recursion_has_a_short_stack(self, call):
        def price(order):
            return price(order)

        error = call(price)[1]
        assert error["errorType"] == "RecursionError"
        assert "Previous line repeated" in error["stackTrace"][-1]

    def test_a_long_stack_keeps_its_innermost_frames(self, call):
        space = {}
        for number in range(300):
            following = f"f{number + 1}(order)" if number < 299 else "1 / 0"
            code = f"def f{number}(order):\n    return {following}"
            exec(compile(code, "x" * 200, "exec"), space)

        stack = call(space["f0"])[1]["stackTrace"]
        assert sum(map(len, stack)) <= TRACEBACK_BYTES_MAX
        assert 50 < len(stack) < 300
        assert "in f299" in stack[-1]

    def test_a_long_message_is_cut(self, call):
        def price(order):
            raise ValueError("x" * 10**6)

        assert len(call(price)[1]["errorMessage"]) <= 4096

    def test_a_disturbed_call_is_not_repeated(self, loops):
        def price(order):
            raise Disturbance(ValueError("of another"), is_fatal=True)

        answer = invoker_of(price, loops).call(b"1", REQUEST)
        assert json.loads(answer.body)["errorMessage"] == "of another"
        assert answer.is_fatal

    def test_a_process_without_descriptors_is_noticed(self, loops):
        def price(order):
            raise OSError(24, "Too many open files")

        assert invoker_of(price, loops).call(b"1", REQUEST).is_starved
        assert not invoker_of(lambda order: 1 / 0, loops).call(b"1", REQUEST).is_starved


class TestPayloads:
    """What a call gets."""

    def test_an_object_of_the_type_that_it_names(self, call):
        @dataclass
        class Order:
            amount: int

        def price(order):
            return type(order).__name__, order.amount

        price.__annotations__["order"] = Order
        assert call(price, {"amount": 2}) == (False, ["Order", 2])
        failed, error = call(price, {"amount": "2"})
        assert failed
        assert error == {
            "errorMessage": "Expected `int`, got `str` - at `$.amount`",
            "errorType": "ValidationError",
            "requestId": "r-1",
            "stackTrace": [],
        }


class TestTimeouts:
    """Calls past their timeout."""

    def test_an_async_call_is_cancelled(self, call):
        async def price(order):
            await asyncio.sleep(30)

        assert call(price, timeout=timedelta(seconds=0.1)) == (
            True,
            {
                "errorType": "Sandbox.Timedout",
                "errorMessage": "RequestId: r-1 Error: Task timed out after 0.10 seconds",
            },
        )

    def test_a_request_may_have_its_own(self, loops):
        async def price(order):
            await asyncio.sleep(30)

        invoker = invoker_of(price, loops)
        request = Request("r-1", seconds=0.2)
        answer = invoker.call(b"1", request)
        assert answer.is_timeout
        assert b"after 0.20 seconds" in answer.body
        assert invoker.deadline_of(request) == pytest.approx(1.2), "it is cancelled first"
        assert invoker_of(lambda order: 1, loops).deadline_of(request) == 0.2


class TestNeighbours:
    """What a call leaves behind."""

    def test_a_tracer_and_a_low_recursion_limit_are_undone(self, call):
        before = sys.gettrace(), sys.getrecursionlimit()

        def price(order):
            sys.settrace(lambda *_: None)
            sys.setrecursionlimit(200)

        assert call(price) == (False, None)
        assert (sys.gettrace(), sys.getrecursionlimit()) == before

    def test_a_forked_child_does_not_return(self, call):
        def price(order):
            child = os.fork()
            if child:
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if order == "exit":
                sys.exit(5)
            return "child"

        assert call(price) == (False, 0)
        assert call(price, "exit") == (False, 5)
