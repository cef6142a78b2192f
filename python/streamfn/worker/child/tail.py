"""The end of what one call printed and logged, for its caller. Source: AWS's `LogType=Tail`."""

from __future__ import annotations

import threading
from typing import Final

TAIL_BYTES: Final = 4 * 2**10
"""Bytes that are kept."""


class Tail:
    """Keeps the last `TAIL_BYTES` of a text; several threads may write."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._lock = threading.Lock()

    def write(self, text: str) -> None:
        """Add text at the end."""
        # WHY cut first: a call may print many megabytes at once.
        data = text[-TAIL_BYTES:].encode("utf-8", "replace")
        with self._lock:
            self._data += data
            del self._data[:-TAIL_BYTES]

    def text(self) -> str:
        """Return the end of the text; half a character at its beginning is left out."""
        with self._lock:
            data = bytes(self._data)
        start = 0
        if len(data) == TAIL_BYTES:
            start = next((at for at in range(4) if data[at] & 0xC0 != 0x80), 0)  # noqa: PLR2004
        return data[start:].decode("utf-8", "replace")
