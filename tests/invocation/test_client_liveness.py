"""Tests for callers that block, with fronts that are silent and fronts that die."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fake_front import (
    called,
    dying,
    echo,
    late,
    seconds,
    silent,
)

from streamfn.errors import (
    FunctionError,
    WorkerUnavailable,
)
from streamfn.invocation import liveness


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
