"""Lines of a file or of standard input, compressed or not, as soon as they arrive."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, Protocol, cast

from streamfn._core import RECORD_BYTES_MAX
from streamfn.units import format_count

from .exits import CommandError

CHUNK_BYTES = 2**20
"""Most bytes of one read; the lines of one chunk are put in one call."""
PIECE_BYTES = 2**14
"""Bytes decompressed at once; the most compressed input makes half a gigabyte of them."""
STDIN = "-"
UNSUPPORTED: Final = (
    (b"BZh", b"1AY&SY", "bzip2", "bzcat"),
    (b"\xfd7zXZ\0", b"", "xz", "xzcat"),
    (b"PK\x03\x04", b"", "zip", "unzip -p"),
)
"""Of unsupported compressed files: first bytes, what follows one byte later, kind, program."""


class Chunks(Protocol):
    """Bytes as they arrive."""

    def read1(self, size: int, /) -> bytes:
        """Return at most `size` bytes, at least one unless at the end."""
        ...


class Lines:
    """Iterates over the lines of a stream of bytes, without their line breaks.

    `number` is the number of the last line returned, from 1. `next_may_block` is true when no
    further line is in memory: reading the next one may wait, so collected lines should be put now.
    `on_too_long` takes the number of a line that no record could hold, and the reason; the line is
    skipped then. Without it such a line is an error.
    """

    def __init__(self, source: Chunks, name: str) -> None:
        self.name = name
        self.number = 0
        self.next_may_block = False
        self.on_too_long: Callable[[int, str], None] | None = None
        self._source = source
        self._lines = self._read()

    def __iter__(self) -> Iterator[bytes]:
        return self._lines

    def skip_to(self, number: int) -> None:
        """Pass over the lines before this one.

        Raises:
            CommandError: There are not as many.
        """
        while self.number < number - 1:
            if next(self._lines, None) is None:
                count = format_count(self.number, "line")
                raise CommandError(f"{self.name} has {count}, there is no line {number}")

    def _read(self) -> Iterator[bytes]:
        rest = b""
        while chunk := self._source.read1(CHUNK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n") if rest else chunk.split(b"\n")
            last = len(lines)
            for index, line in enumerate(lines, start=1):
                self.number += 1
                self.next_may_block = index == last
                yield line
            if len(rest) > RECORD_BYTES_MAX:
                rest = self._pass_long_line()
        for line in rest.removesuffix(b"\n").split(b"\n") if rest else ():
            self.number += 1
            self.next_may_block = True
            yield line

    def _pass_long_line(self) -> bytes:
        """Read to the end of a line that is too long; return what was read of the next ones."""
        message = f"line {self.number + 1} of {self.name} is longer than a record may be"
        if self.on_too_long is None:
            raise CommandError(message, f"the limit is {RECORD_BYTES_MAX:,} bytes")
        self.number += 1
        self.on_too_long(self.number, message)
        while chunk := self._source.read1(CHUNK_BYTES):
            _, is_end, rest = chunk.partition(b"\n")
            if is_end:
                return rest
        return b""


class Frame(Protocol):
    """Decompresses one zstd frame, or one member of a gzip file."""

    @property
    def eof(self) -> bool:
        """Whether the end of the frame was reached."""
        ...

    @property
    def unused_data(self) -> bytes:
        """Bytes given to `decompress` beyond the end of the frame."""
        ...

    def decompress(self, data: memoryview, /) -> bytes:
        """Decompress the next bytes."""
        ...


class Codec(NamedTuple):
    """A compression format."""

    name: str
    suffix: str
    magic: bytes
    """The first bytes of a file."""
    decoder: Callable[[], tuple[Callable[[], Frame], type[Exception]]]
    """Returns the function that makes a `Frame`, and the exception that a frame raises."""


def _zstd() -> tuple[Callable[[], Frame], type[Exception]]:
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError


def _gzip() -> tuple[Callable[[], Frame], type[Exception]]:
    import zlib

    return lambda: zlib.decompressobj(wbits=zlib.MAX_WBITS | 16), zlib.error


ZSTD: Final = Codec("zstd", ".zst", b"\x28\xb5\x2f\xfd", _zstd)
GZIP: Final = Codec("gzip", ".gz", b"\x1f\x8b\x08", _gzip)
CODECS: Final = (ZSTD, GZIP)


class Decompressed:
    """The contents of consecutive frames; a frame that is cut off is an error."""

    def __init__(self, source: Chunks, name: str, codec: Codec = ZSTD) -> None:
        self._new_frame, self._error = codec.decoder()
        self._source, self._name, self._codec = source, name, codec
        self._frame = self._new_frame()
        self._has_frame = False
        self._input = memoryview(b"")

    def read1(self, size: int, /) -> bytes:
        """Return about `size` bytes, and none only at the end."""
        parts, length = [], 0
        while length < size:
            if not self._input:
                if length:
                    break  # WHY: reading the next chunk may wait
                self._input = memoryview(self._source.read1(CHUNK_BYTES))
                if not self._input:
                    self._check_whole()
                    break
            parts.append(self._next_piece())
            length += len(parts[-1])
        return b"".join(parts)

    def _next_piece(self) -> bytes:
        if self._frame.eof:
            if self._codec is GZIP and self._input[0] == 0:  # padding, which `gzip` skips too
                self._input = memoryview(bytes(self._input).lstrip(b"\0"))
            if not self._input:
                return b""
            self._frame = self._new_frame()
        self._has_frame = True
        piece = self._input[:PIECE_BYTES]
        try:
            data: bytes = self._frame.decompress(piece)
        except self._error as error:
            raise self._broken(error) from error
        # Bytes after the end of this frame are the start of the next one.
        self._input = self._input[len(piece) - len(self._frame.unused_data) :]
        return data

    def _check_whole(self) -> None:
        if self._has_frame and not self._frame.eof:
            raise self._broken("it ends too early")

    def _broken(self, reason: object) -> CommandError:
        return CommandError(f"{self._name} is not a valid {self._codec.name} file ({reason})")


@contextmanager
def open_lines(path: str) -> Iterator[tuple[Lines, BinaryIO]]:
    """Open a file, or `-` for standard input; gzip and zstd are decompressed.

    Yields the lines, and the file that they are read from: its `tell` is the progress.

    Raises:
        CommandError: The compression is not supported. While reading: the file is damaged.
    """
    name = "standard input" if path == STDIN else f"`{path}`"
    with ExitStack() as stack:
        raw: BinaryIO = (
            sys.stdin.buffer if path == STDIN else stack.enter_context(Path(path).open("rb"))
        )
        peeked = PeekedReader(cast("Chunks", raw))
        codec = _codec(peeked.first, path, name)
        yield Lines(peeked if codec is None else Decompressed(peeked, name, codec), name), raw


class PeekedReader:
    """A source of bytes whose first bytes can be inspected before they are read."""

    def __init__(self, source: Chunks) -> None:
        self._source = source
        self.first = source.read1(CHUNK_BYTES)
        """As many bytes as are needed to recognise a magic number."""
        magics = [magic for magic, *_ in UNSUPPORTED] + [codec.magic for codec in CODECS]
        while self.first and any(m.startswith(self.first) for m in magics if m != self.first):
            more = source.read1(CHUNK_BYTES)
            if not more:
                break
            self.first += more
        self._rest = self.first

    def read1(self, size: int, /) -> bytes:
        """Return at most `size` bytes, at least one unless at the end."""
        if not self._rest:
            return self._source.read1(size)
        chunk, self._rest = self._rest[:size], self._rest[size:]
        return chunk


def _codec(first: bytes, path: str, name: str) -> Codec | None:
    """Return the codec of a file, by its first bytes or its name; None: it is not compressed."""
    for magic, later, kind, program in UNSUPPORTED:
        if first.startswith(magic) and first[len(magic) + 1 :].startswith(later):
            file = "FILE" if path == STDIN else path
            hint = f"`{program} {file} | streamfn put …`; `put` itself reads .gz and .zst"
            raise CommandError(f"{name} is a {kind} file, which `put` does not decompress", hint)
    known = (codec for codec in CODECS if first.startswith(codec.magic))
    named = (codec for codec in CODECS if path.endswith(codec.suffix))
    return next(known, None) or next(named, None)
