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


_KINDS: Final = {int(kind): kind for kind in Kind}
"""WHY a table: `Kind(1)` takes several times as long, and each call has two frames."""


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
        if not self._data and len(data) >= _START.size:
            (length,) = _LENGTH.unpack_from(data)
            if length == len(data) - _LENGTH.size <= FRAME_BYTES_MAX:
                return [_decoded(data[_LENGTH.size :])]  # the usual case: no copy into a buffer
        self._data += data
        frames, start = [], 0
        while len(self._data) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._data, start)
            if not _HEAD.size <= length <= FRAME_BYTES_MAX:
                raise BadFrame(f"a frame cannot have {length:,} bytes")
            begin, end = start + _LENGTH.size, start + _LENGTH.size + length
            if len(self._data) < end:
                break
            frames.append(_decoded(bytes(memoryview(self._data)[begin:end])))
            start = end
        del self._data[:start]
        return frames


def receive(connection: socket.socket, frames: Frames) -> list[Frame] | None:
    """Receive frames, waiting for data if there is none; None: the other side has closed.

    Raises:
        BadFrame: The data is no frame.
        OSError: The connection failed.
    """
    data = connection.recv(_RECEIVE_BYTES)
    return frames.feed(data) if data else None


def _decoded(data: bytes) -> Frame:
    kind, length = _HEAD.unpack_from(data)
    end = _HEAD.size + length
    if end > len(data):
        raise BadFrame("the header of a frame is longer than the frame")
    try:
        header = orjson.loads(data[_HEAD.size : end])
    except ValueError as error:
        raise BadFrame(f"the header of a frame cannot be read: {error}") from None
    if kind not in _KINDS:
        raise BadFrame(f"there is no kind {kind} of frames")
    return Frame(_KINDS[kind], header, data[end:])
