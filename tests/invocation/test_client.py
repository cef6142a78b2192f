"""Tests for callers that block, with fronts that answer, stall, refuse and die."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest
from fake_front import (
    FakeFront,
    dying,
    echo,
    failing,
    late,
    refusing,
    result,
    silent,
)

from streamfn import Log
from streamfn.errors import (
    ForkedHandle,
    FunctionError,
    FunctionNotFound,
    InvalidRequest,
    StreamClosed,
    Throttled,
    WorkerUnavailable,
)
from streamfn.invocation import connection as connections
from streamfn.invocation import liveness, peers
from streamfn.invocation.client import invoke_through_worker
from streamfn.invocation.frames import Kind
from streamfn.model.function_config import REQUEST_BYTES_MAX

NAME = "shop.price"


def called(log, payload=b"{}", function=NAME, **options):
    return invoke_through_worker(log, function, payload, **options)


def seconds(call):
    """How long a call takes, and the error it raises."""
    began = time.monotonic()
    with pytest.raises(Exception) as raised:  # noqa: PT011 -- the test looks at it
        call()
    return time.monotonic() - began, raised.value


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


class TestSilence:
    """A front that does not greet or answer pings is passed over, and nothing is sent to it."""

    def stopped(self, front):
        made = front()
        made.greets = made.answers_pings = False
        return made

    def test_another_worker_answers_after_a_fifth_of_a_second(self, log, front):
        stopped, other = self.stopped(front), front()
        began = time.monotonic()

        for _ in range(10):
            called(log)

        assert time.monotonic() - began < 0.2 * 3, "only the first call waits"
        assert (len(stopped.calls), len(other.calls)) == (0, 10)

    def test_the_only_worker_is_waited_for_and_then_unavailable(self, log, front):
        stopped = self.stopped(front)

        took, error = seconds(lambda: called(log))

        assert isinstance(error, WorkerUnavailable)
        assert "its worker does not answer" in str(error)
        assert 1.4 < took < 2.5
        assert stopped.calls == []

    def test_the_next_front_of_the_only_worker_is_waited_for(self, log, front):
        stopped = self.stopped(front)
        threading.Timer(0.5, stopped.restart).start()

        assert called(log, b"5").payload == b"5"
        assert len(stopped.calls) == 1

    def test_an_idle_connection_is_pinged_first(self, log, front):
        there = front()
        called(log)
        time.sleep(liveness.IDLE_SECONDS + 0.05)

        called(log)

        assert (there.pings, len(there.connections)) == (1, 1)

    def test_a_connection_in_use_is_not(self, log, front):
        there = front()

        for _ in range(20):
            called(log)

        assert (there.pings, len(there.connections)) == (0, 1)

    def test_a_worker_that_is_stopped_later_is_left(self, log, front):
        first = front()
        called(log)
        first.greets = first.answers_pings = False
        second = front()
        time.sleep(liveness.IDLE_SECONDS + 0.05)
        began = time.monotonic()

        called(log)

        assert 0.15 < time.monotonic() - began < 1.0, "one ping, and one HELLO at most"
        assert (len(first.calls), len(second.calls)) == (1, 1)

    def test_a_stale_socket_is_no_worker(self, log, front):
        there = front()
        there.stop_listening()

        took, error = seconds(lambda: called(log))

        assert isinstance(error, WorkerUnavailable)
        assert took < 1.0, "nobody listens, so nobody is waited for"

    def test_a_socket_of_another_worker_is_refused(self, log, front):
        there = front()
        there.worker = "f" * 32  # what it says in HELLO

        with pytest.raises(WorkerUnavailable):
            called(log)
        assert there.calls == []

    def test_a_front_that_speaks_nonsense_is_refused(self, log, front):
        there = front()
        there.worker = "f" * 9_000_000  # longer than any frame

        with pytest.raises(WorkerUnavailable):
            called(log)


class TestDeath:
    """A call that was sent is never sent again."""

    def test_the_end_of_a_front_in_a_call_is_an_error_at_once(self, log, front):
        first, second = front(behave=dying), front(behave=dying)

        took, error = seconds(lambda: called(log))

        assert isinstance(error, FunctionError)
        assert error.error_type == "Runtime.WorkerLost"
        assert error.error_message.startswith(f"RequestId: {error.request_id} Error: ")
        assert took < 0.2
        assert len(first.calls) + len(second.calls) == 1

    def test_the_call_after_a_death_succeeds(self, log, front):
        there = front(behave=dying)
        with pytest.raises(FunctionError):
            called(log)
        there.behave = echo

        assert called(log, b"3").payload == b"3"

    def test_a_death_between_calls_is_not_noticed(self, log, front):
        """Also within the 100 ms in which a connection is not pinged."""
        there = front()
        for n in range(5):
            assert called(log, b"%d" % n).payload == b"%d" % n
            there.restart()

        assert len(there.calls) == 5

    def test_many_dead_idle_connections_are_not_noticed(self, log, front):
        there = front(behave=late(0.2))
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda _: called(log), range(16)))
        assert len(there.connections) == 16
        there.behave = echo
        there.restart()

        assert called(log, b"1").payload == b"1"

    def test_a_worker_whose_lock_is_gone_is_lost_within_two_seconds(self, log, front):
        """As after a front was stopped and its supervisor killed: no connection ends."""
        there = front(behave=silent)
        threading.Timer(0.3, there.leave).start()

        took, error = seconds(lambda: called(log))

        assert error.error_type == "Runtime.WorkerLost"
        assert "the worker ended" in error.error_message
        assert 1.3 <= took < 2.3

    def test_an_answer_that_comes_just_after_the_lock_is_gone_counts(self, log, front):
        there = front(behave=late(0.9))
        threading.Timer(0.2, there.leave).start()

        assert called(log, b"4").payload == b"4"

    def test_a_long_call_goes_on_while_the_front_answers_pings(self, log, front, monkeypatch):
        monkeypatch.setattr(liveness, "DEAF_SECONDS", 1.0)
        monkeypatch.setattr(liveness, "ASK_SECONDS", 0.3)
        there = front(behave=late(2.0))

        assert called(log, b"1").payload == b"1"
        assert there.pings >= 3

    def test_a_front_that_is_stopped_in_a_call_is_given_up_at_last(self, log, front, monkeypatch):
        monkeypatch.setattr(liveness, "DEAF_SECONDS", 1.0)
        there = front(behave=silent)
        there.answers_pings = False

        took, error = seconds(lambda: called(log))

        assert error.error_type == "Runtime.WorkerLost"
        assert "did not answer for 1 s" in error.error_message
        assert 0.9 < took < 1.6

    def test_a_ping_of_the_last_call_is_not_taken_for_that_of_the_next(
        self, log, front, monkeypatch
    ):
        """Its PONG may still be on the connection."""
        monkeypatch.setattr(liveness, "ASK_SECONDS", 0.0)
        there = front(behave=late(0.7))
        called(log)
        time.sleep(0.2)
        there.answers_pings = False
        there.greets = False

        _, error = seconds(lambda: called(log))

        assert isinstance(error, WorkerUnavailable)
        assert len(there.calls) == 1


class TestConnections:
    def test_threads_have_a_connection_each_and_they_are_kept(self, log, front):
        there = front(behave=late(0.1))
        payloads = [b"%d" % n for n in range(64)]
        with ThreadPoolExecutor(64) as pool:
            for _ in range(3):
                replies = list(pool.map(lambda each: called(log, each), payloads))

                assert [each.payload for each in replies] == payloads

        assert len(there.connections) == 64

    def test_no_more_than_64_idle_ones_are_kept(self, log, front):
        there = front(behave=late(0.5))
        with ThreadPoolExecutor(80) as pool:
            list(pool.map(lambda _: called(log), range(80)))
        time.sleep(0.2)

        assert len(there.connections) == peers.IDLE_MAX == 64

    def test_an_interrupted_call_drops_its_connection(self, log, front):
        there = front(behave=late(1.0))

        def interrupt(_number, _frame):
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(KeyboardInterrupt):
                called(log, b'"first"')
        finally:
            signal.signal(signal.SIGALRM, before)
        there.behave = echo

        assert called(log, b'"second"').payload == b'"second"'
        assert [each.body for each in there.calls] == [b'"first"', b'"second"']

    def test_connections_of_workers_long_gone_are_closed(self, log, front, monkeypatch):
        monkeypatch.setattr(peers, "PEERS_MAX", 2)
        fronts = []
        for _ in range(4):
            fronts.append(front())
            called(log)
            fronts[-1].behave = refusing(503)
            fronts[-1].leave()
        time.sleep(0.1)

        assert [len(each.connections) for each in fronts] == [0, 0, 1, 1]

    def test_a_front_that_takes_nothing_gets_no_call(self, log, front, monkeypatch):
        """It may be stopped in the middle of a frame; a part of a call is never made."""
        monkeypatch.setattr(connections, "SEND_SECONDS", 0.5)
        there = front()
        there.reads.clear()

        took, error = seconds(lambda: called(log, b"[" + b" " * 4_000_000 + b"]"))
        there.reads.set()

        assert isinstance(error, WorkerUnavailable)
        assert took < 2.0
        time.sleep(0.1)
        assert there.calls == []

    @pytest.mark.parametrize("longest", [107, 108, 200, 240])
    def test_a_path_of_any_length_leads_to_a_worker(self, tmp_path, longest):
        """Linux allows 107 bytes for the path of a socket."""
        rest = len("/workers/") + 32 + len(".sock")
        folder = tmp_path
        while len(str(folder)) + rest < longest:
            missing = longest - rest - len(str(folder)) - 1
            folder = folder / ("d" * max(min(missing, 100), 1))
        with Log.open(folder) as log:
            there = FakeFront(log)
            try:
                assert called(log, b"2").payload == b"2"
            finally:
                there.close()

    def test_a_copied_log_has_no_workers(self, tmp_path, log, front):
        """The file of the socket is copied, or is left by a machine that stopped."""
        import shutil

        front()
        copy = tmp_path / "copy"
        shutil.copytree(log.path, copy, ignore=shutil.ignore_patterns("*.sock"))
        (copy / "workers" / ("a" * 32 + ".sock")).touch()
        with Log.open(copy) as copied, pytest.raises(WorkerUnavailable):
            called(copied)

    def test_a_closed_log_is_refused(self, log_dir, front, log):
        there = front()
        with Log.open(log_dir) as mine:
            called(mine)

        with pytest.raises(StreamClosed):
            called(mine)
        assert len(there.calls) == 1


class TestFork:
    CHILD = """
import os, sys
sys.path.insert(0, {here!r})
from fake_front import FakeFront, late
from streamfn import Log
from streamfn.errors import ForkedHandle
from streamfn.invocation.client import invoke_through_worker as invoke

log = Log.open({log!r})
front = FakeFront(log)
assert invoke(log, "shop.price", b"1").payload == b"1"
sys.stdout.flush()
child = os.fork()
if child == 0:
    try:
        invoke(log, "shop.price", b"2")
    except ForkedHandle:
        pass
    else:
        os._exit(1)
    with Log.open({log!r}) as own:
        assert invoke(own, "shop.price", b"3").payload == b"3"
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert invoke(log, "shop.price", b"4").payload == b"4"
bodies = [call.body for call in front.calls]
assert bodies == [b"1", b"3", b"4"], bodies
assert front.opened == 2, front.opened
front.close()
"""

    def test_a_child_has_connections_of_its_own(self, tmp_path):
        """In a process of its own, because pytest's has threads of other tests."""
        script = self.CHILD.format(here=str(Path(__file__).parent), log=str(tmp_path / "log"))

        done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)

        assert done.returncode == 0, done.stderr.decode()

    def test_a_child_does_not_keep_the_connections_of_its_parent_open(self, log, front):
        there = front()
        called(log)
        child = os.fork()
        if child == 0:
            time.sleep(20)
            os._exit(0)
        try:
            peers._close_all()
            time.sleep(0.2)

            assert there.connections == []
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def test_an_old_handle_in_a_child_is_refused(self, log, front):
        front()
        called(log)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                called(log)
            except ForkedHandle:
                os.write(writing, b"refused")
            os._exit(0)
        os.waitpid(child, 0)
        os.close(writing)

        assert os.read(reading, 100) == b"refused"
        os.close(reading)
