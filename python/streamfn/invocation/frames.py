"""Frames between callers, the front of a worker, and function runners. Source: docs/front.md."""

from __future__ import annotations

import socket
import struct
from enum import IntEnum
from typing import Any, Final, NamedTuple

import orjson

from streamfn.errors import StreamfnError

FRAME_BYTES_MAX: Final = 8 * 2**20
"""Longest frame, without its length field."""
_LENGTH: Final = struct.Struct("<I")
_HEAD: Final = struct.Struct("<BI")
"""Kind, and length of the header."""
_START: Final = struct.Struct("<IBI")
_RECEIVE_BYTES: Final = 1 << 16


class Kind(IntEnum):
    """What a frame says."""

    HELLO = 1
    RUNNER = 2
    CALL = 3
    RESULT = 4
    REFUSED = 5
    PING = 6
    PONG = 7
    LEAVE = 8


_KINDS: Final = {each.value: each for each in Kind}
"""WHY: this is three times as fast as `Kind(number)`."""


class BadFrame(StreamfnError):
    """The other side does not speak this protocol; the connection cannot be used any more."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Frame(NamedTuple):
    """One frame."""

    kind: Kind
    header: dict[str, Any]
    body: bytes = b""


def encode(kind: Kind, header: dict[str, Any], body: bytes = b"") -> bytes:
    """Return a frame as bytes.

    Raises:
        BadFrame: It is longer than `FRAME_BYTES_MAX`.
    """
    text = orjson.dumps(header)
    length = _HEAD.size + len(text) + len(body)
    if length > FRAME_BYTES_MAX:
        raise BadFrame(f"a frame of {length:,} bytes is longer than {FRAME_BYTES_MAX:,}")
    return _START.pack(length, kind, len(text)) + text + body


class Frames:
    """Joins received data to frames."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Add received data, and return the frames that are complete.

        Raises:
            BadFrame: The data is no frame.
        """
        if not self._data:  # the usual case: whole frames, which need no buffer
            frames, used = split(data)
            self._data += data[used:]
            return frames
        self._data += data
        frames, used = split(self._data)
        del self._data[:used]
        return frames


def split(data: bytes | bytearray) -> tuple[list[Frame], int]:
    """Return the complete frames at the beginning of data, and how many bytes they have.

    Raises:
        BadFrame: The data is no frame.
    """
    frames, start, end = list[Frame](), 0, len(data)
    while end - start >= _START.size:
        length, kind, header = _START.unpack_from(data, start)
        if not _HEAD.size <= length <= FRAME_BYTES_MAX:
            raise _bad_length(length)
        stop = start + _LENGTH.size + length
        if stop > end:
            return frames, start
        start += _START.size
        frames.append(_decoded(data, kind, (start, start + header, stop)))
        start = stop
    frame_bytes(data, start)  # a bad length is refused before the rest has come
    return frames, start


def frame_bytes(data: bytes | bytearray, start: int = 0) -> int:
    """Return the bytes of the frame that begins at `start`: 4 at least, until its length is there.

    Raises:
        BadFrame: The data is no frame.
    """
    if len(data) - start < _LENGTH.size:
        return _LENGTH.size
    (length,) = _LENGTH.unpack_from(data, start)
    if not _HEAD.size <= length <= FRAME_BYTES_MAX:
        raise _bad_length(length)
    return _LENGTH.size + int(length)


def _bad_length(length: int) -> BadFrame:
    return BadFrame(f"a frame cannot have {length:,} bytes")


def receive(connection: socket.socket, frames: Frames) -> list[Frame] | None:
    """Receive frames, waiting for data if there is none; None: the other side has closed.

    Raises:
        BadFrame: The data is no frame.
        OSError: The connection failed.
    """
    data = connection.recv(_RECEIVE_BYTES)
    return frames.feed(data) if data else None


def _decoded(data: bytes | bytearray, kind: int, at: tuple[int, int, int]) -> Frame:
    """Return a frame.

    Args:
        data: Holds it.
        kind: As it is encoded.
        at: Where the header begins, where the body begins, and where the frame ends.
    """
    begin, body_at, end = at
    if body_at > end:
        raise BadFrame("the header of a frame is longer than the frame")
    try:
        header = orjson.loads(data[begin:body_at])
        # WHY twice: a long frame in a buffer is copied once only, and a short one the quick way.
        body = data[body_at:end] if type(data) is bytes else bytes(memoryview(data)[body_at:end])
        return Frame(_KINDS.get(kind) or Kind(kind), header, body)
    except ValueError as error:
        raise BadFrame(f"a frame cannot be read: {error}") from None
