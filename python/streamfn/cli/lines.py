"""Lines of a file, of standard input or of a `.zst`, as soon as they are there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from streamfn._core import RECORD_BYTES_MAX

from .exits import CommandError

CHUNK_BYTES = 2**20
"""How much is read at once; what one chunk holds is put in one call."""
PIECE_BYTES = 2**14
"""How much is decompressed at once: of the worst of inputs, this becomes half a gigabyte."""
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
STDIN = "-"


class Chunks(Protocol):
    """Bytes as they come."""

    def read1(self, size: int, /) -> bytes:
        """Return at most `size` bytes, at least one unless at the end."""
        ...


class Lines:
    """Iterates over the lines of a stream of bytes, without their line breaks.

    `number` is that of the line given last, from 1. `is_dry` says that no further line is at hand:
    the next one may have to be waited for, so what was collected should be put now.
    """

    def __init__(self, source: Chunks, name: str) -> None:
        self.name = name
        self.number = 0
        self.is_dry = False
        self._source = source

    def __iter__(self) -> Iterator[bytes]:
        rest = b""
        while chunk := self._source.read1(CHUNK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n") if rest else chunk.split(b"\n")
            last = len(lines)
            for index, line in enumerate(lines, start=1):
                self.number += 1
                self.is_dry = index == last
                yield line
            if len(rest) > RECORD_BYTES_MAX:
                message = f"line {self.number + 1} of {self.name} is longer than a record can be"
                raise CommandError(message, f"the limit is {RECORD_BYTES_MAX:,} bytes")
        if rest:
            self.number += 1
            self.is_dry = True
            yield rest


class Decompressed:
    """The contents of zstd frames, one after the other; a frame that is cut off is an error."""

    def __init__(self, source: Chunks, name: str) -> None:
        import zstandard

        self._new_frame = zstandard.ZstdDecompressor().decompressobj
        self._error = zstandard.ZstdError
        self._source, self._name = source, name
        self._frame = self._new_frame()
        self._begun = False
        self._input = memoryview(b"")

    def read1(self, size: int, /) -> bytes:
        """Return about `size` bytes, and none only at the end."""
        parts, length = [], 0
        while length < size:
            if not self._input:
                if length:
                    break  # WHY: the next chunk may have to be waited for
                self._input = memoryview(self._source.read1(CHUNK_BYTES))
                if not self._input:
                    self._check_whole()
                    break
            parts.append(self._next_piece())
            length += len(parts[-1])
        return b"".join(parts)

    def _next_piece(self) -> bytes:
        if self._frame.eof:
            self._frame = self._new_frame()
        self._begun = True
        piece = self._input[:PIECE_BYTES]
        try:
            data: bytes = self._frame.decompress(piece)
        except self._error as error:
            raise CommandError(f"{self._name} is not a whole zstd file ({error})") from error
        # What lies behind the end of this frame is the beginning of the next one.
        self._input = self._input[len(piece) - len(self._frame.unused_data) :]
        return data

    def _check_whole(self) -> None:
        if self._begun and not self._frame.eof:
            raise CommandError(f"{self._name} is not a whole zstd file (it ends too early)")


@contextmanager
def opened(path: str) -> Iterator[tuple[Lines, BinaryIO]]:
    """Open a file, or `-` for standard input; one that is zstd is decompressed.

    Yields the lines, and the file below them: its `tell` is the progress.

    Raises:
        CommandError: While reading: a zstd file that is damaged or cut off.
    """
    name = "standard input" if path == STDIN else f"`{path}`"
    with ExitStack() as stack:
        raw: BinaryIO = (
            sys.stdin.buffer if path == STDIN else stack.enter_context(Path(path).open("rb"))
        )
        source = cast("Chunks", raw)
        yield Lines(Decompressed(source, name) if _is_zstd(raw, path) else source, name), raw


def _is_zstd(raw: BinaryIO, path: str) -> bool:
    if path.endswith(".zst"):
        return True
    peek = getattr(raw, "peek", None)
    return peek is not None and peek(len(ZSTD_MAGIC))[: len(ZSTD_MAGIC)] == ZSTD_MAGIC
