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
from typing import Final, NoReturn

from streamfn.errors import StreamfnError

from .address import connect
from .frames import BadFrame, Frame, Frames, Kind, encode, receive
from .request import Request

SILENCE_SECONDS: Final = 0.2
"""Longest wait for a sign of life before CALL. Source: docs/front.md."""
IDLE_SECONDS: Final = 0.1
"""A connection that was not used for longer is pinged before it carries a call."""
SEND_SECONDS: Final = 2.0
"""Longest time in which a front may take nothing of a call."""
ENDED_SECONDS: Final = 1.0
"""How long the answer of a worker that has ended may be on its way."""
ASK_SECONDS: Final = 1.0
"""During a call, a front that is silent is pinged this often."""
DEAF_SECONDS: Final = 30.0
"""A front that says nothing for so long during a call, not even to pings, is given up."""

_ANSWERS: Final = (Kind.RESULT, Kind.REFUSED)
_BACKLOG_SECONDS: Final = 0.005
_TICK: Final = struct.pack("ll", 0, int(SILENCE_SECONDS * 1e6))
"""`struct timeval`."""


class NotCalled(StreamfnError):
    """Nothing was called: the front did not answer, or did not take the whole frame."""


class AnswerLost(StreamfnError):
    """The call was sent, and its answer will not come."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


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
            except (OSError, BadFrame) as error:
                raise NotCalled(f"the connection ended: {error}") from None
        if frame.kind is not kind:
            raise NotCalled(f"the front says {frame.kind.name} in place of {kind.name}")
        self._used = time.monotonic()
        return frame

    def _answer(self, call: int, is_living: Callable[[], bool]) -> Frame:
        watch: _Watch | None = None
        while True:
            try:
                frame = self._next()
            except BlockingIOError:  # nothing came for a tick
                watch = watch or _Watch(is_living, self._ask)
                watch.silent()
                continue
            except (OSError, BadFrame) as error:
                raise AnswerLost(f"the connection to the worker ended ({error})") from None
            if frame.header.get("id") == call and frame.kind in _ANSWERS:
                return frame
            if watch is not None:
                watch.heard()

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


class _Watch:
    """Decides during a call how long a silent front is waited for."""

    def __init__(self, is_living: Callable[[], bool], ask: Callable[[], None]) -> None:
        self._is_living, self._ask = is_living, ask
        self._ended: float | None = None
        self._heard = self._asked = time.monotonic()

    def heard(self) -> None:
        """The front said something."""
        self._heard = time.monotonic()

    def silent(self) -> None:
        """The front said nothing for a tick; raises `AnswerLost` if it never will."""
        now = time.monotonic()
        if self._ended is None and not self._is_living():
            self._ended = now
        if self._ended is not None and now - self._ended >= ENDED_SECONDS:
            self._lost("the worker ended")
        if now - self._heard >= DEAF_SECONDS:
            self._lost(f"the worker did not answer for {DEAF_SECONDS:g} s")
        if now - self._asked >= ASK_SECONDS:
            self._asked = now
            self._ask()

    def _lost(self, reason: str) -> NoReturn:
        raise AnswerLost(reason)


def _connected(log_dir: str, worker: str, deadline: float) -> socket.socket:
    """Return a socket whose calls return after a tick."""
    while True:
        try:
            connection = connect(log_dir, worker, SILENCE_SECONDS)
            break
        except (BlockingIOError, TimeoutError):  # its queue of new connections is full
            if time.monotonic() >= deadline:
                raise NotCalled("the front takes no connections") from None
            time.sleep(_BACKLOG_SECONDS)
        except OSError as error:
            raise NotCalled(f"nobody listens: {error.strerror}") from None
    # WHY options of the socket: Python's own timeout costs a `poll` before each call.
    connection.setblocking(True)  # noqa: FBT003 -- the standard library's argument
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, _TICK)
    return connection
