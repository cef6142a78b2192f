"""A front of a worker in Python, for tests of callers: it speaks frames, and misbehaves as told.

A worker is this process with a `Membership`; the threads of its front answer each connection.
"""

import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from streamfn import _core
from streamfn.invocation.client import invoke_through_worker
from streamfn.invocation.frames import BadFrame, Frames, Kind, encode, receive

NAME = "shop.price"


def called(log, payload=b"{}", function=NAME, **options):
    """Call a function through a worker of the log."""
    return invoke_through_worker(log, function, payload, **options)


def seconds(call):
    """How long a call takes, and the error it raises."""
    began = time.monotonic()
    with pytest.raises(Exception) as raised:  # noqa: PT011 -- the test looks at it
        call()
    return time.monotonic() - began, raised.value


class FakeFront:
    """Listens for a worker that announces functions; `behave` is called for each CALL.

    `behave(front, reply, frame)` answers with `reply(Kind, header, body)`; by default a call is
    answered with its payload.
    """

    def __init__(self, log, functions=("shop.price",), behave=None, **body):
        announced = {"pid": 0, "mappings": [], "by_request": list(functions), **body}
        self.membership = _core.Membership.join(log.core, json.dumps(announced).encode())
        self.worker = self.membership.uuid
        self.path = Path(log.path) / "workers" / f"{self.worker}.sock"
        self.behave = behave or echo
        self.greets = self.answers_pings = True
        self.reads = threading.Event()
        self.reads.set()
        self.calls, self.connections = [], []
        self.pings = self.opened = 0
        self._lock, self._threads = threading.Lock(), []
        self._listener = self._bound()
        self._serve()

    def restart(self):
        """The front dies and the next one takes the socket, as in a worker."""
        self.drop_connections()
        self.greets = self.answers_pings = True

    def drop_connections(self):
        """End every connection, as the death of the process does."""
        with self._lock:
            gone, self.connections = self.connections, []
        for connection in gone:
            connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def die(self):
        """The worker dies: its lock is free, and its front ends."""
        self.stop_listening()
        self.drop_connections()
        self.leave()

    def leave(self):
        """Give the lock back, as the kernel does for a supervisor that was killed."""
        if self.membership is not None:
            self.membership.leave()
            self.membership = None

    def stop_listening(self):
        if self._listener.fileno() >= 0:
            # WHY: closing alone does not wake the thread in `accept`.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()

    def close(self):
        self.die()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _bound(self):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        folder = self.path.parent
        if len(str(self.path)) > 107:
            descriptor = os.open(folder, os.O_PATH)
            listener.bind(f"/proc/self/fd/{descriptor}/{self.path.name}")
            os.close(descriptor)
        else:
            listener.bind(str(self.path))
        listener.listen(128)
        return listener

    def _serve(self):
        self._start(self._accept)

    def _start(self, target, *args):
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections.append(connection)
                self.opened += 1
            self._start(self._converse, connection)

    def _converse(self, connection):
        sending = threading.Lock()

        def reply(kind, header, body=b""):
            with sending:
                connection.sendall(encode(kind, header, body))

        frames = Frames()
        try:
            if self.greets:
                reply(Kind.HELLO, {"version": 1, "worker": self.worker})
            self.reads.wait(10)
            while (received := receive(connection, frames)) is not None:
                for frame in received:
                    self._take(frame, reply)
        except (OSError, BadFrame):
            pass
        finally:
            with self._lock:
                if connection in self.connections:
                    self.connections.remove(connection)
            connection.close()

    def _take(self, frame, reply):
        if frame.kind is Kind.PING:
            self.pings += 1
            if self.answers_pings:
                reply(Kind.PONG, {"id": frame.header["id"]})
        elif frame.kind is Kind.CALL:
            self.calls.append(frame)
            self.behave(self, reply, frame)


def echo(_front, reply, frame):
    """The function returns its payload."""
    reply(Kind.RESULT, result(frame), frame.body)


def result(frame, **fields):
    """The header of a good answer to a call."""
    header = frame.header
    return {
        "id": header["id"],
        "failed": False,
        "log": None,
        "request_id": header["request_id"],
        **fields,
    }


def failing(error):
    """The function fails with this error object."""

    def behave(_front, reply, frame):
        reply(Kind.RESULT, result(frame, failed=True), json.dumps(error).encode())

    return behave


def refusing(status, type="Exception", reason=None, message=None):
    """The front refuses every call."""

    def behave(_front, reply, frame):
        header = {
            "id": frame.header["id"],
            "status": status,
            "type": type,
            "reason": reason,
            "message": message,
            "retry_after": None,
        }
        reply(Kind.REFUSED, header)

    return behave


def late(seconds, then=echo):
    """The function takes so long; the connection goes on meanwhile."""

    def behave(front, reply, frame):
        def wait():
            time.sleep(seconds)
            with contextlib.suppress(OSError):  # the caller has hung up
                then(front, reply, frame)

        front._start(wait)

    return behave


def silent(_front, _reply, _frame):
    """The call never ends."""


def dying(front, _reply, _frame):
    """The front dies in the call."""
    front.drop_connections()
