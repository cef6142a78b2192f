"""The connection of a function runner to the front.

Functions run in the threads that use it. They may close its descriptor, fork, or have exceptions
thrown into any thread, between any two instructions. So nothing that was received is lost to such
an exception, and nothing is sent twice or in part.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from streamfn.engine.starvation import is_starved
from streamfn.invocation.address import connect
from streamfn.invocation.frames import BadFrame, Frame, Kind, encode, frame_bytes, split

PAUSE: Final = 0.01
PAUSE_MAX: Final = 0.25
"""Seconds between attempts to connect: the first pause, doubled up to the last."""
RECEIVE_BYTES: Final = 1 << 16
RECEIVE_BYTES_MAX: Final = 1 << 20
"""Bytes received at once, of a short frame and of a long one."""
TRIES_MAX: Final = 3
"""How often data is looked at again after an exception that was thrown into the thread."""

Strayed = Callable[[BaseException], None]
"""Called with an exception that was thrown into a thread of ours."""


class Lost(Exception):
    """The connection is of no use any more."""


class _Received(NamedTuple):
    """What was received; replaced as a whole, so that no exception finds half a change."""

    frames: tuple[Frame, ...] = ()
    chunks: tuple[bytes, ...] = ()


class FrontLink:
    """Connects to the front, receives frames in one thread, and sends them in any."""

    def __init__(
        self,
        address: tuple[str, str],
        hello: Frame,
        strayed: Strayed,
        unusable: Callable[[], NoReturn],
    ) -> None:
        """Start without a connection.

        Args:
            address: The log directory, and the UUID of the worker.
            hello: The first frame to send.
            strayed: Called with exceptions that are ignored.
            unusable: Ends this process: it has no descriptor left, or a function closed ours.
        """
        folder, self._worker = address
        self._log_dir = str(Path(folder).absolute())  # a function may change the folder
        self._hello, self._strayed, self._unusable = encode(*hello), strayed, unusable
        self._leave = encode(Kind.LEAVE, {})
        self._lock = threading.RLock()
        self._socket: socket.socket | None = None
        self._identity: tuple[int, int] | None = None
        self._received = _Received()
        self._is_leave_sent = False
        self.is_leaving = False
        """Whether the front is to send no more calls."""
        os.register_at_fork(after_in_child=self._close_in_child)

    def connect(self) -> bool:
        """Connect, after pauses until the front is there; False: this runner leaves."""
        pause = PAUSE
        while not self.is_leaving:
            try:
                self._connect()
            except OSError as error:
                if is_starved(error):
                    self._unusable()
            else:
                return True
            time.sleep(pause)
            pause = min(2 * pause, PAUSE_MAX)
        return False

    def next(self) -> Frame:
        """Wait for a frame and return it; the same one until `done`.

        Raises:
            Lost: The front has closed the connection.
            BadFrame: The front does not speak this protocol.
        """
        while not self._received.frames:
            self._receive()
        return self._received.frames[0]

    def done(self) -> None:
        """Forget the frame that `next` returned."""
        self._received = self._received._replace(frames=self._received.frames[1:])

    def has_frame(self, seconds: float) -> bool:
        """Wait for data at most so many seconds; whether there is some, or the connection ended."""
        if self._received.frames or self._received.chunks or self._socket is None:
            return True
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        return bool(waiting.poll(seconds * 1e3))

    def send(self, data: bytes, *, is_last: bool = False) -> None:
        """Send a frame; nothing is sent without a connection.

        Args:
            data: The frame.
            is_last: Tell the front first that it is to send no more calls.
        """
        with self._lock:
            if is_last:
                self.is_leaving = True
            if self.is_leaving and not self._is_leave_sent:
                data, self._is_leave_sent = self._leave + data, True
            self._send_all(data)

    def leave(self) -> None:
        """Tell the front that it is to send no more calls."""
        self.send(b"", is_last=True)

    def hang_up(self) -> None:
        """End the connection; the thread that receives wakes up."""
        with self._lock, contextlib.suppress(OSError):
            if self._socket is not None and self._is_ours(self._socket):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _connect(self) -> None:
        connection = connect(self._log_dir, self._worker)
        status = os.fstat(connection.fileno())
        with self._lock:
            if self._socket is not None and self._is_ours(self._socket):
                self._socket.close()
            elif self._socket is not None:
                self._socket.detach()  # the number is that of something else now
            self._socket, self._identity = connection, (status.st_dev, status.st_ino)
            self._received, self._is_leave_sent = _Received(), False
            self.send(self._hello)

    def _receive(self) -> None:
        """Receive some data, whatever is thrown into this thread meanwhile."""
        connection, (frames, before) = self._socket, self._received
        assert connection is not None
        chunks, tries = list(before), 0
        missing = _missing(chunks)
        size = RECEIVE_BYTES if missing <= RECEIVE_BYTES else min(missing, RECEIVE_BYTES_MAX)
        while True:
            try:
                if len(chunks) == len(before):
                    # WHY not assigned: an exception before the assignment would lose the data.
                    chunks.extend(map(connection.recv, (size,)))
                self._received = _joined(frames, chunks)
            except (Lost, BadFrame):
                raise
            except BaseException as error:
                if len(chunks) == len(before) and isinstance(error, OSError):
                    self._check(connection)
                    raise Lost from error
                self._strayed(error)
                tries += len(chunks) > len(before)
                if tries > TRIES_MAX:
                    raise Lost from error
            else:
                return

    def _send_all(self, data: bytes) -> None:
        """Send all of the data, whatever is thrown into this thread meanwhile."""
        connection, sent = self._socket, list[int]()
        if connection is None:
            return
        self._check(connection)
        rest = memoryview(data)
        while rest:
            try:
                # WHY MSG_NOSIGNAL: a function may have restored the default action of SIGPIPE.
                sent.extend(map(connection.send, (rest,), (socket.MSG_NOSIGNAL,)))
            except OSError:
                return  # the thread that receives notices
            except BaseException as error:  # noqa: BLE001 -- thrown into this thread
                self._strayed(error)
            rest = memoryview(data)[sum(sent) :]

    def _check(self, connection: socket.socket) -> None:
        """End the process if a function closed the descriptor: nothing can be answered any more."""
        if not self._is_ours(connection):
            self._unusable()

    def _is_ours(self, connection: socket.socket) -> bool:
        """Whether the descriptor is still that of our connection: a function may have closed it."""
        try:
            status = os.fstat(connection.fileno())
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

    def _close_in_child(self) -> None:
        """Close the connection in a forked child: the front must see the end of the parent."""
        self._lock = threading.RLock()
        if self._socket is not None and self._is_ours(self._socket):
            self._socket.close()
        self._socket = None


def _missing(chunks: list[bytes]) -> int:
    """Return how many bytes are missing of the first frame; the chunks hold no whole frame."""
    if not chunks:
        return 0
    return frame_bytes(chunks[0]) - sum(map(len, chunks))


def _joined(frames: tuple[Frame, ...], chunks: list[bytes]) -> _Received:
    """Return the frames, with those that are complete in the chunks, and the rest.

    Raises:
        Lost: The last chunk is empty: the other side has closed.
        BadFrame: The data is no frame.
    """
    if not chunks[-1]:
        raise Lost
    if len(chunks) > 1 and len(chunks[0]) >= frame_bytes(b"") and _missing(chunks) > 0:
        return _Received(frames, tuple(chunks))
    data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    found, used = split(data)
    rest = data[used:]
    return _Received((*frames, *found), (rest,) if rest else ())
