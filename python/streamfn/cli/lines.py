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


@contextmanager
def opened(path: str) -> Iterator[tuple[Lines, BinaryIO]]:
    """Open a file, or `-` for standard input; one that is zstd is decompressed.

    Yields the lines, and the file below them: its `tell` is the progress.
    """
    name = "standard input" if path == STDIN else f"`{path}`"
    with ExitStack() as stack:
        raw: BinaryIO = (
            sys.stdin.buffer if path == STDIN else stack.enter_context(Path(path).open("rb"))
        )
        source = _decompressed(raw) if _is_zstd(raw, path) else cast("Chunks", raw)
        try:
            yield Lines(source, name), raw
        except _zstd_errors() as error:
            raise CommandError(f"{name} is not a whole zstd file ({error})") from error


def _is_zstd(raw: BinaryIO, path: str) -> bool:
    if path.endswith(".zst"):
        return True
    peek = getattr(raw, "peek", None)
    return peek is not None and peek(len(ZSTD_MAGIC))[: len(ZSTD_MAGIC)] == ZSTD_MAGIC


def _decompressed(raw: BinaryIO) -> Chunks:
    import zstandard

    reader = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
    return cast("Chunks", reader)


def _zstd_errors() -> tuple[type[Exception], ...]:
    module = sys.modules.get("zstandard")  # WHY: not loaded means that nothing was decompressed
    return (module.ZstdError,) if module else ()
