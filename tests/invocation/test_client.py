"""Tests for callers that block: answers, limits, refusals, names."""

import orjson
import pytest
from fake_front import (
    NAME,
    called,
    failing,
    refusing,
    result,
)

from streamfn.errors import (
    FunctionNotFound,
    InvalidRequest,
    Throttled,
    WorkerUnavailable,
)
from streamfn.invocation.frames import Kind
from streamfn.model.function_config import REQUEST_BYTES_MAX


class TestAnswers:
    def test_the_answer_is_the_functions(self, log, front):
        front()

        reply = called(log, b'{"a":1}')

        assert (reply.payload, reply.is_failed, reply.log) == (b'{"a":1}', False, None)

    def test_a_call_carries_what_its_caller_gave(self, log, front):
        there = front()

        reply = called(log, b"[]", client_context={"custom": {"a": 1}}, tail=True)

        [call] = there.calls
        assert call.body == b"[]"
        assert call.header == {
            "id": 1,
            "function": NAME,
            "type": "RequestResponse",
            "request_id": reply.request_id,
            "tail": True,
            "client_context": {"custom": {"a": 1}},
        }

    def test_request_ids_are_random_uuids_of_version_4(self, log, front):
        import uuid

        front()
        ids = {called(log).request_id for _ in range(50)}

        assert len(ids) == 50
        assert {uuid.UUID(each).version for each in ids} == {4}
        assert {uuid.UUID(each).variant for each in ids} == {uuid.RFC_4122}

    def test_the_request_id_of_the_front_wins(self, log, front):
        def behave(_front, reply, frame):
            reply(Kind.RESULT, result(frame, request_id="theirs", log="printed"), b"1")

        front(behave=behave)

        reply = called(log)

        assert (reply.request_id, reply.log) == ("theirs", "printed")

    def test_a_failed_function_is_an_answer(self, log, front):
        front(behave=failing({"errorType": "ValueError", "errorMessage": "no"}))

        reply = called(log)

        assert reply.is_failed
        assert orjson.loads(reply.payload)["errorType"] == "ValueError"

    def test_an_answer_may_come_in_pieces(self, log, front):
        body = b'"' + b"x" * 3_000_000 + b'"'
        front()

        assert called(log, body).payload == body

    def test_the_short_name_is_enough_if_there_is_one(self, log, front):
        there = front(functions=["shop.price", "shop.order"])

        called(log, function="price")

        assert there.calls[0].header["function"] == NAME

    def test_answers_to_other_numbers_are_passed_over(self, log, front):
        def behave(_front, reply, frame):
            reply(Kind.RESULT, result(frame, id=99), b'"theirs"')
            reply(Kind.PONG, {"id": frame.header["id"]})
            reply(Kind.RESULT, result(frame), b'"ours"')

        front(behave=behave)

        assert called(log).payload == b'"ours"'


class TestLimits:
    def test_a_payload_at_the_limit_is_sent(self, log, front):
        front(behave=lambda _front, reply, frame: reply(Kind.RESULT, result(frame), b"1"))

        assert called(log, b" " * (REQUEST_BYTES_MAX - 1) + b"1").payload == b"1"

    def test_a_payload_above_the_limit_is_refused_before_it_is_sent(self, log, front):
        there = front()

        with pytest.raises(InvalidRequest, match=r"6,291,457 bytes.*6,291,456"):
            called(log, b" " * REQUEST_BYTES_MAX + b"1")

        assert there.calls == []

    def test_a_client_context_has_a_limit(self, log, front):
        there = front()
        most = 2**20 - 2  # the quotes

        called(log, client_context="x" * most)
        with pytest.raises(InvalidRequest, match="client context"):
            called(log, client_context="x" * (most + 1))

        assert len(there.calls) == 1

    def test_the_longest_payload_and_context_fit_a_frame_together(self, log, front):
        front(behave=lambda _front, reply, frame: reply(Kind.RESULT, result(frame), b"1"))

        called(log, b" " * (REQUEST_BYTES_MAX - 1) + b"1", client_context="x" * (2**20 - 2))

    def test_a_client_context_must_be_json(self, log, front):
        front()

        with pytest.raises(InvalidRequest, match="client context cannot be converted"):
            called(log, client_context={1, 2})


class TestRefusals:
    @pytest.mark.parametrize(
        ("reason", "says"),
        [
            ("ReservedFunctionConcurrentInvocationLimitExceeded", "at its `concurrency`"),
            ("ConcurrentInvocationLimitExceeded", "no process was free within its timeout"),
            ("SomethingNew", "Rate Exceeded."),
        ],
    )
    def test_a_throttled_call_says_why(self, log, front, reason, says):
        front(behave=refusing(429, "TooManyRequestsException", reason, "Rate Exceeded."))

        with pytest.raises(Throttled, match=says) as raised:
            called(log)

        assert raised.value.retryable

    def test_a_throttled_call_is_not_offered_to_another_worker(self, log, front):
        fronts = [front(behave=refusing(429)), front(behave=refusing(429))]

        with pytest.raises(Throttled):
            called(log)

        assert sum(len(each.calls) for each in fronts) == 1

    @pytest.mark.parametrize("status", [400, 413])
    def test_a_bad_request_has_the_words_of_the_front(self, log, front, status):
        front(behave=refusing(status, message="expected value at line 1 column 2"))

        with pytest.raises(InvalidRequest, match="expected value at line 1"):
            called(log, b"{x")

    def test_a_draining_worker_passes_the_call_to_another(self, log, front):
        draining = front(behave=refusing(503, "ServiceUnavailableException"))
        other = front()

        for _ in range(20):
            called(log)

        assert len(other.calls) == 20
        assert len(draining.calls) <= 1

    def test_without_another_worker_it_is_unavailable(self, log, front):
        front(behave=refusing(503, "ServiceUnavailableException", message="the worker drains"))

        with pytest.raises(WorkerUnavailable, match="the worker drains"):
            called(log)

    def test_a_function_that_its_worker_does_not_know_is_not_found(self, log, front):
        front(behave=refusing(404, "ResourceNotFoundException", message="Function not found"))

        with pytest.raises(FunctionNotFound):
            called(log)


class TestNames:
    def test_without_workers_none_is_available(self, log):
        with pytest.raises(WorkerUnavailable, match="no worker runs on the log"):
            called(log)

    def test_workers_without_functions_take_no_calls(self, log, front):
        front(functions=[])

        with pytest.raises(WorkerUnavailable, match="take no calls at the moment"):
            called(log)

    def test_the_nearest_name_is_suggested(self, log, front):
        front(functions=["shop.price", "shop.order"])

        with pytest.raises(FunctionNotFound) as raised:
            called(log, function="shop.prise")

        assert raised.value.hint == "did you mean `shop.price`?"

    def test_without_a_near_name_some_are_listed(self, log, front):
        front(functions=[f"shop.f{n}" for n in range(9)])

        with pytest.raises(FunctionNotFound) as raised:
            called(log, function="zzz")

        assert raised.value.hint.startswith("the workers have `shop.f0`, ")
        assert raised.value.hint.endswith(", …")
        assert "`shop.f8`" not in raised.value.hint

    def test_a_short_name_of_two_apps_is_refused(self, log, front):
        front(functions=["shop.price", "bank.price"])

        with pytest.raises(FunctionNotFound) as raised:
            called(log, function="price")

        assert raised.value.hint == "say which: `bank.price`, `shop.price`"

    def test_a_body_of_another_version_announces_nothing(self, log, front):
        front().membership.update(b"\x00")

        with pytest.raises(WorkerUnavailable):
            called(log)

    def test_a_function_that_moved_to_another_worker_is_found_there(self, log, front):
        first = front()
        called(log)
        first.behave = refusing(404)
        first.membership.update(b'{"by_request": []}')
        second = front()

        assert called(log, b"7").payload == b"7"
        assert len(second.calls) == 1
