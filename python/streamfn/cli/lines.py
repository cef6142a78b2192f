"""Lines of a file or of standard input, compressed or not, as soon as they are there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, Protocol, cast

from streamfn._core import RECORD_BYTES_MAX

from .exits import CommandError

CHUNK_BYTES = 2**20
"""How much is read at once; what one chunk holds is put in one call."""
PIECE_BYTES = 2**14
"""How much is decompressed at once: of the worst of inputs, this becomes half a gigabyte."""
STDIN = "-"
NOT_READ: Final = (
    (b"BZh", b"1AY&SY", "bzip2", "bzcat"),
    (b"\xfd7zXZ\0", b"", "xz", "xzcat"),
    (b"PK\x03\x04", b"", "zip", "unzip -p"),
)
"""First bytes of compressed files, what follows a byte behind them, and who decompresses these."""


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


class Frame(Protocol):
    """Decompresses one zstd frame, or one member of a gzip file."""

    @property
    def eof(self) -> bool:
        """Whether its end was met."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What was given to `decompress` beyond its end."""
        ...

    def decompress(self, data: memoryview, /) -> bytes:
        """Take in the next bytes, and return what comes out."""
        ...


class Codec(NamedTuple):
    """A way of compressing."""

    name: str
    suffix: str
    magic: bytes
    """The first bytes of a file."""
    decoder: Callable[[], tuple[Callable[[], Frame], type[Exception]]]
    """Returns what makes a `Frame`, and what that raises."""


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
    """The contents of frames, one after the other; a frame that is cut off is an error."""

    def __init__(self, source: Chunks, name: str, codec: Codec = ZSTD) -> None:
        self._new_frame, self._error = codec.decoder()
        self._source, self._name, self._codec = source, name, codec
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
            if self._codec is GZIP and self._input[0] == 0:  # padding, which `gzip` passes, too
                self._input = memoryview(bytes(self._input).lstrip(b"\0"))
            if not self._input:
                return b""
            self._frame = self._new_frame()
        self._begun = True
        piece = self._input[:PIECE_BYTES]
        try:
            data: bytes = self._frame.decompress(piece)
        except self._error as error:
            raise self._broken(error) from error
        # What lies behind the end of this frame is the beginning of the next one.
        self._input = self._input[len(piece) - len(self._frame.unused_data) :]
        return data

    def _check_whole(self) -> None:
        if self._begun and not self._frame.eof:
            raise self._broken("it ends too early")

    def _broken(self, reason: object) -> CommandError:
        return CommandError(f"{self._name} is not a whole {self._codec.name} file ({reason})")


@contextmanager
def opened(path: str) -> Iterator[tuple[Lines, BinaryIO]]:
    """Open a file, or `-` for standard input; one that is gzip or zstd is decompressed.

    Yields the lines, and the file below them: its `tell` is the progress.

    Raises:
        CommandError: It is compressed in another way. While reading: it is damaged or cut off.
    """
    name = "standard input" if path == STDIN else f"`{path}`"
    with ExitStack() as stack:
        raw: BinaryIO = (
            sys.stdin.buffer if path == STDIN else stack.enter_context(Path(path).open("rb"))
        )
        begun = Begun(cast("Chunks", raw))
        codec = _codec(begun.first, path, name)
        yield Lines(begun if codec is None else Decompressed(begun, name, codec), name), raw


class Begun:
    """Bytes of which the first were looked at already."""

    def __init__(self, source: Chunks) -> None:
        self._source = source
        self.first = source.read1(CHUNK_BYTES)
        """As many as it takes to see whether they are a magic number."""
        magics = [magic for magic, *_ in NOT_READ] + [codec.magic for codec in CODECS]
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
    """Return how a file is compressed, by its first bytes or its name; None: not at all."""
    for magic, later, kind, program in NOT_READ:
        if first.startswith(magic) and first[len(magic) + 1 :].startswith(later):
            file = "FILE" if path == STDIN else path
            hint = f"`{program} {file} | streamfn put …`; what it reads itself is .gz and .zst"
            raise CommandError(f"{name} is a {kind} file, which `put` does not decompress", hint)
    known = (codec for codec in CODECS if first.startswith(codec.magic))
    named = (codec for codec in CODECS if path.endswith(codec.suffix))
    return next(known, None) or next(named, None)
