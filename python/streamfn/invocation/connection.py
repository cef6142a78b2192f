"""A connection to the front of a worker for one call at a time, used by one thread at a time.

The thread that calls sends and receives by itself, so a call costs no switch to another thread.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from .address import connect
from .frames import BadFrame, Frame, Frames, Kind, encode, receive
from .liveness import (
    IDLE_SECONDS,
    RETRY_SECONDS,
    SILENCE_SECONDS,
    AnswerLost,
    FrontEnded,
    NotCalled,
    Watch,
)
from .request import Request

SEND_SECONDS: Final = 2.0
"""Longest time in which a front may take nothing of a call."""

_ANSWERS: Final = (Kind.RESULT, Kind.REFUSED)
_TICK: Final = struct.pack("ll", 0, int(SILENCE_SECONDS * 1e6))
"""`struct timeval`."""


class Connection:
    """A connection whose front has said HELLO."""

    def __init__(self, log_dir: str, worker: str, patience: float = SILENCE_SECONDS) -> None:
        """Connect, and wait for HELLO.

        Args:
            log_dir: The log directory.
            worker: UUID of the worker.
            patience: Seconds to wait for HELLO.

        Raises:
            NotCalled: Nobody answers.
        """
        self._frames, self._received = Frames(), deque[Frame]()
        self._number = 0
        self._used = time.monotonic()
        deadline = self._used + patience
        self._socket = _connected(log_dir, worker, deadline)
        try:
            self._check(self._expect(Kind.HELLO, deadline), worker)
        except BaseException:
            self.close()
            raise

    @property
    def is_fresh(self) -> bool:
        """Whether it was used so lately that no ping is needed."""
        return time.monotonic() - self._used <= IDLE_SECONDS

    def ping(self) -> None:
        """Make sure that the front still answers.

        Raises:
            NotCalled: It does not.
        """
        self._number += 1
        self._send(encode(Kind.PING, {"id": self._number}), SILENCE_SECONDS)
        deadline = time.monotonic() + SILENCE_SECONDS
        while self._expect(Kind.PONG, deadline).header.get("id") != self._number:
            pass  # it answers a ping of the last call

    def call(self, request: Request, is_living: Callable[[], bool]) -> Frame:
        """Send a call, and return the RESULT or REFUSED.

        Args:
            request: The call.
            is_living: Whether the worker still holds its lock; asked while the front is silent.

        Raises:
            NotCalled: The call was not sent.
            AnswerLost: It was sent, and the connection or the worker ended before its answer.
        """
        self._number += 1
        call = self._number
        self._send(request.frame(call), SEND_SECONDS)
        frame = self._answer(call, is_living)
        self._used = time.monotonic()
        return frame

    def close(self) -> None:
        """Close it; a call that runs goes on, and its answer is dropped."""
        self._socket.close()

    @staticmethod
    def _check(hello: Frame, worker: str) -> None:
        if str(hello.header.get("worker")).replace("-", "") != worker:
            raise NotCalled(f"the socket of {worker} belongs to another worker")

    def _send(self, frame: bytes, patience: float) -> None:
        """Send a whole frame. A front never dispatches a part of one."""
        left, stuck_at = memoryview(frame), time.monotonic() + patience
        while left:
            try:
                left = left[self._socket.send(left) :]
                stuck_at = time.monotonic() + patience
            except BlockingIOError:  # nothing was taken for a tick
                if time.monotonic() >= stuck_at:
                    raise NotCalled("the front takes no data") from None
            except OSError as error:
                raise NotCalled(f"the connection ended: {error.strerror}") from None

    def _expect(self, kind: Kind, deadline: float) -> Frame:
        """Receive the next frame, which must be of this kind."""
        while True:
            try:
                frame = self._next()
                break
            except BlockingIOError:  # nothing came for a tick
                if time.monotonic() >= deadline:
                    raise NotCalled("the front is silent") from None
            except OSError as error:
                raise FrontEnded(f"the connection ended: {error}") from None
            except BadFrame as error:
                raise NotCalled(error.reason) from None
        if frame.kind is not kind:
            raise NotCalled(f"the front says {frame.kind.name} in place of {kind.name}")
        self._used = time.monotonic()
        return frame

    def _answer(self, call: int, is_living: Callable[[], bool]) -> Frame:
        watch: Watch | None = None
        while True:
            try:
                frame = self._next()
            except BlockingIOError:  # nothing came for a tick
                watch = watch or Watch(self._ask)
                watch.silent(is_living=is_living())
                continue
            except (OSError, BadFrame) as error:
                raise AnswerLost(f"the connection to the worker ended ({error})") from None
            if frame.header.get("id") == call and frame.kind in _ANSWERS:
                return frame
            if watch is not None:
                watch.heard(time.monotonic())

    def _next(self) -> Frame:
        """Return the next frame.

        Raises:
            BlockingIOError: Nothing came for a tick.
            OSError: The connection ended.
            BadFrame: The other side does not speak this protocol.
        """
        while not self._received:
            frames = receive(self._socket, self._frames)
            if frames is None:
                raise ConnectionResetError("the front closed it")
            self._received.extend(frames)
        return self._received.popleft()

    def _ask(self) -> None:
        """Send a ping; if there is no room for it, one that is on its way does as well."""
        self._number += 1
        with contextlib.suppress(OSError):
            self._socket.send(encode(Kind.PING, {"id": self._number}), socket.MSG_DONTWAIT)


def _connected(log_dir: str, worker: str, deadline: float) -> socket.socket:
    """Return a socket whose calls return after a tick."""
    while True:
        try:
            connection = connect(log_dir, worker, SILENCE_SECONDS)
            break
        except (BlockingIOError, TimeoutError):  # its queue of new connections is full
            if time.monotonic() >= deadline:
                raise NotCalled("the front takes no connections") from None
            time.sleep(RETRY_SECONDS)
        except OSError as error:
            raise NotCalled(f"nobody listens: {error.strerror}") from None
    # WHY options of the socket: Python's own timeout costs a `poll` before each call.
    connection.setblocking(True)  # noqa: FBT003 -- the standard library's argument
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, _TICK)
    return connection


def opened(log_dir: str, worker: str, patience: float) -> Connection:
    """Return a connection to the front of a worker, or to the one after it.

    Raises:
        NotCalled: Nobody answers.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return Connection(log_dir, worker, max(deadline - time.monotonic(), 0.0))
        except FrontEnded:
            if time.monotonic() >= deadline:
                raise
            time.sleep(RETRY_SECONDS)
