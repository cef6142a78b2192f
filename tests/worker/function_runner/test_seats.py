"""Tests for `streamfn.worker.function_runner.seats`: what a real process seldom comes to."""

import os
import socket

import pytest

from streamfn._core import Board
from streamfn.clock import SystemClock
from streamfn.engine.function_call import FunctionInvoker
from streamfn.engine.lazy_event_loop import LazyEventLoop
from streamfn.invocation.frames import Frame, Frames, Kind, encode
from streamfn.model.function_config import FunctionConfig
from streamfn.model.function_context import ContextLog
from streamfn.worker.counters import MappingCounts
from streamfn.worker.function_runner import seats as seats_module
from streamfn.worker.function_runner.calls import CalledFunction, FunctionCalls
from streamfn.worker.function_runner.front_link import FrontLink, Lost
from streamfn.worker.function_runner.seats import Seats

CALL = {"function": "shop.echo", "request_id": "r", "timeout": 5}


@pytest.fixture
def strayed():
    """Exceptions that were ignored."""
    return []


@pytest.fixture
def link(log_dir, strayed):
    """A link that is connected; `link.front` is the other end."""
    (log_dir / "workers").mkdir(parents=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(log_dir / "workers" / "w.sock"))
    listener.listen()
    hello = Frame(Kind.RUNNER, {"runner": 1, "token": "t", "seats": 2})
    link = FrontLink((os.fspath(log_dir), "w"), hello, strayed.append, lambda: pytest.fail("lost"))
    assert link.connect()
    link.front, _ = listener.accept()
    link.front.settimeout(10)
    link.frames = Frames()
    assert received(link, 1) == [hello]
    yield link
    link._close_in_child()
    link.front.close()
    listener.close()


def received(link, count):
    """The next frames that the front gets."""
    found = []
    while len(found) < count:
        found += link.frames.feed(link.front.recv(1 << 16))
    return found


def seats_on(link, strayed, count, handler=lambda value: value):
    board, clock = Board.create(), SystemClock()
    config = FunctionConfig(name="shop.echo", app="shop", function="echo")
    invoker = FunctionInvoker(config, handler, ContextLog(lambda: None), clock, LazyEventLoop())
    functions = {"shop.echo": CalledFunction(0, invoker, MappingCounts(board, 0))}
    calls = FunctionCalls(functions, board, lambda *_, **__: None, lambda: None)
    return Seats(count, link, calls, strayed.append)


def test_a_call_for_which_no_thread_can_be_started_is_made_all_the_same(link, strayed, monkeypatch):
    class NoThread:
        def __init__(self, *_): ...

        def start(self):
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(seats_module, "SturdyThread", NoThread)
    seats = seats_on(link, strayed, 2)
    link.front.sendall(encode(Kind.CALL, CALL | {"seat": 1}, b"7") + encode(Kind.LEAVE, {}))

    seats.run()
    leave, result = received(link, 2)
    assert leave.kind is Kind.LEAVE, "no other call must come"
    assert (result.header["seat"], result.body) == (1, b"7")
    assert seats.is_exhausted


def test_frames_stay_until_they_are_done(link):
    link.front.sendall(encode(Kind.CALL, CALL, b"1") + encode(Kind.CALL, CALL, b"2"))

    assert [link.next().body, link.next().body] == [b"1", b"1"]
    link.done()
    assert link.next().body == b"2"


def test_an_exception_while_data_arrives_loses_none_of_it(link, monkeypatch):
    from streamfn.worker.function_runner import front_link

    class Stray(Exception): ...

    def interrupted(*_):
        raise Stray

    link.front.sendall(encode(Kind.CALL, CALL, b"1"))
    with monkeypatch.context() as patched:
        patched.setattr(front_link, "_joined", interrupted)
        with pytest.raises(Stray):
            link.next()
    assert link.next().body == b"1"


def test_an_exception_while_an_answer_is_sent_neither_loses_nor_repeats_it(link, strayed):
    class Interrupting:
        """A socket whose `send` is interrupted before and after each part."""

        def __init__(self, inner):
            self.inner, self.turn = inner, 0

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def send(self, data, flags):
            self.turn += 1
            if self.turn % 2:
                raise TimeoutError("an alarm of the user's")
            return self.inner.send(data[:5], flags)

    data, sent = encode(Kind.RESULT, {"seat": 0}, b"answer"), []
    link._socket = Interrupting(link._socket)
    link.send(data, sent)
    link.send(data, sent)  # as after an exception
    link.front.settimeout(0.2)

    assert received(link, 1) == [Frame(Kind.RESULT, {"seat": 0}, b"answer")]
    with pytest.raises(TimeoutError):
        link.front.recv(1)
    assert len(strayed) > 3


def test_the_end_of_the_connection_is_noticed_once_all_is_read(link):
    link.front.sendall(encode(Kind.CALL, CALL, b"1"))
    link.front.close()

    assert link.next().body == b"1"
    link.done()
    with pytest.raises(Lost):
        link.next()


def test_an_answer_without_a_front_is_dropped(link):
    link.front.close()
    sent = []

    link.send(encode(Kind.RESULT, {}), sent)
    link.send(encode(Kind.RESULT, {}), sent)
