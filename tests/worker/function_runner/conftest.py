"""A function runner as its supervisor starts it, and a front of Python for it to talk to."""

import json
import os
import select
import socket
import time
import uuid
from pathlib import Path

import pytest

from streamfn._core import Board
from streamfn.invocation.address import socket_name
from streamfn.invocation.frames import Frames, Kind, encode
from streamfn.worker.messages import Drain, Go, StartFunctions, decode_report
from streamfn.worker.supervisor.child_process import ChildProcess

MODULE = "streamfn.worker.function_runner.function_runner"
PATIENCE = 30.0


class Front:
    """Listens where a front does, for one runner at a time."""

    def __init__(self, log_dir, worker):
        self.worker = worker
        folder = Path(log_dir) / "workers"
        folder.mkdir(parents=True, exist_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        here = os.open(log_dir, os.O_PATH)
        self._listener.bind(f"/proc/self/fd/{here}/{socket_name(worker)}")
        os.close(here)
        self._listener.listen()
        self._listener.settimeout(PATIENCE)
        self.connection = None
        self._frames, self._waiting = Frames(), []

    def accept(self):
        """Greet the next runner, and return the header of its first frame."""
        connection, _ = self._listener.accept()
        if self.connection is not None:
            self.connection.close()
        self.connection = connection
        self._frames, self._waiting = Frames(), []
        self.send(Kind.HELLO, version=1, worker=self.worker)
        kind, header, _ = self.receive()
        assert kind is Kind.RUNNER
        return header

    def send(self, kind, body=b"", **header):
        self.connection.sendall(encode(kind, header, body))

    def receive(self, timeout=PATIENCE):
        """Return the next frame; None: the runner has closed."""
        self.connection.settimeout(timeout)
        while not self._waiting:
            try:
                data = self.connection.recv(1 << 16)
            except ConnectionResetError:  # it has not read all that was sent
                data = b""
            if not data:
                return None
            self._waiting += self._frames.feed(data)
        return self._waiting.pop(0)

    def give(self, function, payload=None, *, seat=0, timeout=30.0, tail=False, context=None):
        """Send a call and return its request id."""
        request_id = str(uuid.uuid4())
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.send(Kind.CALL, body, seat=seat, function=function, request_id=request_id,
                  timeout=timeout, tail=tail, client_context=context)  # fmt: skip
        return request_id

    def answer(self):
        """Return the header and the value of the next answer."""
        frame = self.receive()
        assert frame is not None, "the runner has closed the connection"
        assert frame.kind is Kind.RESULT
        return frame.header, json.loads(frame.body)

    def call(self, function, payload=None, **options):
        """Make a call; return whether it failed, and its value."""
        self.give(function, payload, **options)
        header, value = self.answer()
        return header["failed"], value

    def hang_up(self):
        self.connection.close()

    def close(self):
        if self.connection is not None:
            self.connection.close()
        self._listener.close()


class RunnerUnderTest:
    """A function runner process, with the supervisor's half of it."""

    def __init__(self, app, log_dir, worker, group, log_level=1):
        self.board = Board.create()
        self.process = ChildProcess(MODULE, 7, (self.board.fd,))
        self.reports, self.output = [], []
        self.process.send(StartFunctions(str(app), False, str(log_dir), worker, 7, group, "secret",
                                         log_level, socket_name(worker)))  # fmt: skip

    def ready(self):
        """Return what it says of the app."""
        return self.until(lambda: self.reports and self.reports.pop(0))

    def go(self):
        self.process.send(Go())

    def drain(self):
        self.process.send(Drain(0.0))

    def until(self, found, timeout=PATIENCE):
        """Read what it says until `found` returns something true, and return that."""
        end = time.monotonic() + timeout
        while not (value := found()):
            assert time.monotonic() < end, f"it did not come: {self.reports} {self.output}"
            sources = [self.process.connection, *self.process.outputs]
            select.select(sources, [], [], 0.05)
            self.read()
        return value

    def read(self):
        self.reports += map(decode_report, self.process.receive_lines())
        for pipe in self.process.outputs:
            if not pipe.is_closed:
                self.output += pipe.read()

    def events(self, name):
        """Return the fields of the events of one name that it has sent."""
        self.read()
        fields = [each.fields for each in self.reports if hasattr(each, "fields")]
        return [each for each in fields if each["event"] == name]

    def said(self, text):
        """Wait for a line of output with this text, and return its fields."""
        return self.until(lambda: [each for each in self.output if text in str(each)])[0]

    def exit_code(self, timeout=PATIENCE):
        """Wait until it exits; return its exit code, or minus the signal."""
        self.until(lambda: select.select([self.process.ended], [], [], 0)[0], timeout)
        return -self.process.exit_detail()


@pytest.fixture
def start(tmp_path, log_dir):
    """Start a function runner on the text of an app; returns it and its front, connected."""
    import streamfn

    streamfn.Log.open(log_dir).close()
    opened = []

    def start(text, group="shop", folder=log_dir, **options):
        app = tmp_path / "shop.py"
        app.write_text(f"import asyncio, os, sys, time\nfrom streamfn import App\n"
                       f'app = App("shop")\n{text}')  # fmt: skip
        worker = uuid.uuid4().hex
        front = Front(folder, worker)
        runner = RunnerUnderTest(app, folder, worker, group, **options)
        opened.extend([front, runner.process])
        assert runner.ready().functions, "it says what it can call"
        runner.go()
        header = front.accept()
        assert (header["runner"], header["token"]) == (7, "secret")
        front.seats = header["seats"]
        return runner, front

    yield start
    for each in opened:
        each.close()
