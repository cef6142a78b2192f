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
from streamfn.invocation.frames import Frame, Kind, encode, frame_bytes, split

PAUSE: Final = 0.01
PAUSE_MAX: Final = 0.25
"""Seconds between attempts to connect: the first pause, doubled up to the last."""
RECEIVE_BYTES: Final = 1 << 16
RECEIVE_BYTES_MAX: Final = 1 << 20
"""Bytes received at once, of a short frame and of a long one."""
_LENGTH_BYTES: Final = frame_bytes(b"")
"""Bytes that tell how long a frame is."""
Strayed = Callable[[BaseException], None]
"""Called with an exception that was thrown into a thread of ours."""


class Lost(Exception):
    """The connection is of no use any more."""


class _State(NamedTuple):
    """What was received; replaced as a whole, so that no exception finds half a change."""

    frames: tuple[Frame, ...]
    """Complete frames, the next one first."""
    chunks: list[bytes]
    """Data after them. An empty chunk is the end of the connection."""


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
        self._state = _State((), [])
        self._leave_sent: list[int] = []
        self.is_connected = self.is_leaving = False
        """Whether the connection is of use; whether the front is to send no more calls."""
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
        while not self._state.frames:
            frames, chunks = self._state
            missing = _missing(chunks)
            if missing > 0:
                self._receive(chunks, missing)
            else:
                self._state = _joined(frames, chunks)
        return self._state.frames[0]

    def done(self) -> None:
        """Forget the frame that `next` returned."""
        frames, chunks = self._state
        self._state = _State(frames[1:], chunks)

    def has_frame(self, seconds: float) -> bool:
        """Wait for data at most so many seconds; whether there is some, or the connection ended."""
        if self._state.frames or self._state.chunks or self._socket is None:
            return True
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        return bool(waiting.poll(seconds * 1e3))

    def send(self, data: bytes, sent: list[int]) -> None:
        """Send a frame; without a connection it is dropped.

        If an exception is thrown into this thread meanwhile, call it again with the same list.

        Args:
            data: The frame.
            sent: Takes the numbers of bytes that were sent.
        """
        with self._lock:
            if self.is_leaving:
                self._push(self._leave, self._leave_sent)
            self._push(data, sent)

    def leave(self) -> None:
        """Tell the front that it is to send no more calls."""
        self.is_leaving = True
        self.send(b"", [])

    def dismissed(self) -> None:
        """Note that the front sends no more calls."""
        self._leave_sent = [len(self._leave)]
        self.is_leaving = True

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
            self._state, self._leave_sent = _State((), []), []
            self._push(self._hello, [])
            self.is_connected = True

    def _receive(self, chunks: list[bytes], missing: int) -> None:
        """Receive some data."""
        connection = self._socket
        assert connection is not None
        size = min(max(missing, RECEIVE_BYTES), RECEIVE_BYTES_MAX)
        try:
            # WHY not assigned: an exception before the assignment would lose the data.
            chunks.extend(map(connection.recv, (size,)))
        except OSError as error:
            if error.errno is None:  # thrown into this thread
                raise
            self._check(connection)
            raise Lost from error

    def _push(self, data: bytes, sent: list[int]) -> None:
        """Send the rest of the data."""
        connection = self._socket
        while (done := sum(sent)) < len(data):
            if connection is None:
                return
            self._check(connection)
            rest = memoryview(data)[done:]
            try:
                # WHY MSG_NOSIGNAL: a function may have restored the default action of SIGPIPE.
                sent.extend(map(connection.send, (rest,), (socket.MSG_NOSIGNAL,)))
            except OSError as error:
                if error.errno is not None:
                    return  # the thread that receives notices
                self._strayed(error)
            except BaseException as error:  # noqa: BLE001 -- thrown into this thread
                self._strayed(error)

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
    """Return how many bytes are missing of the first frame; the end of the connection is none."""
    if not chunks:
        return _LENGTH_BYTES
    if not chunks[-1]:
        return 0
    start = chunks[0] if len(chunks[0]) >= _LENGTH_BYTES else b"".join(chunks[:_LENGTH_BYTES])
    return frame_bytes(start) - sum(map(len, chunks))


def _joined(frames: tuple[Frame, ...], chunks: list[bytes]) -> _State:
    """Return the frames and those that are complete in the chunks.

    Raises:
        Lost: The other side has closed.
        BadFrame: The data is no frame.
    """
    if not chunks[-1]:
        raise Lost
    data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    found, used = split(data)
    rest = data[used:]
    return _State((*frames, *found), [rest] if rest else [])
