"""Reads what a child process prints and logs, and splits it into lines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final

import orjson

READ_BYTES: Final = 1 << 16
"""Most bytes that are read before other children have their turn."""
LINE_BYTES_MAX: Final = 1 << 17
"""A longer line is taken apart."""


class OutputPipe:
    """The reading end of a pipe that a child writes to."""

    def __init__(self, *, is_raw: bool) -> None:
        """Make a pipe.

        Args:
            is_raw: It takes what is written to stdout and stderr; otherwise lines of JSON.
        """
        self._descriptor, self.writing_end = os.pipe()
        os.set_blocking(self._descriptor, False)
        self._is_raw, self._rest = is_raw, b""
        self.is_closed = False
        """Whether nobody can write to it any more."""

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._descriptor

    def read(self) -> Iterator[dict[str, Any]]:
        """Return the fields of the lines that have arrived, at most `READ_BYTES` at once."""
        try:
            data = os.read(self._descriptor, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self.is_closed = True
            yield from self._last_line()
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES_MAX:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            if line.strip():
                yield self._fields(line)

    def drain(self) -> Iterator[dict[str, Any]]:
        """Return what an exited child has left; children of its own may go on writing."""
        for _ in range(64):
            if self.is_closed:
                return
            before = len(self._rest)
            found = list(self.read())
            yield from found
            if not found and len(self._rest) == before:
                break
        yield from self._last_line()

    def close(self) -> None:
        """Close the reading end."""
        os.close(self._descriptor)

    def _last_line(self) -> Iterator[dict[str, Any]]:
        rest, self._rest = self._rest, b""
        if rest.strip():
            yield self._fields(rest)

    def _fields(self, line: bytes) -> dict[str, Any]:
        if line.startswith(b"{") and line.endswith(b"}"):
            try:
                value = orjson.loads(line)
            except orjson.JSONDecodeError:
                pass
            else:
                return {"raw": _text(line)} if self._is_raw else value
        return {"message": _text(line).removesuffix("\r"), "logger": "stderr"}


def _text(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace")
