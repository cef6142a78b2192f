"""What a process of the chaos run writes down, so that its death at any instruction loses no line.

A line is a JSON array whose first element says what it is. It is one `write` to a file opened for
appending: the kernel keeps it when the process dies. Only the last line of a file can be torn, and
whoever died in it has not gone on to the next step, so a torn line is a step that was not taken.
"""

import hashlib
import os
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

DIGEST_BYTES = 8


class Journal:
    """A file of one process, for appending."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)

    def note(self, kind: str, *fields: Any) -> None:
        """Append a line."""
        os.write(self._descriptor, orjson.dumps([kind, *fields]) + b"\n")


def read_journal(path: Path) -> Iterator[Any]:
    """Every whole line of a file of JSON lines, in order."""
    data = path.read_bytes()
    for line in data[: data.rfind(b"\n") + 1].splitlines():
        yield orjson.loads(line)


def digest(data: bytes, key: str | None, headers: Mapping[str, bytes]) -> str:
    """Fingerprint of all that a record carries; every record of a run has its own."""
    hashed = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in (b"-" if key is None else b"+" + key.encode(), data, *_flat(headers)):
        hashed.update(len(part).to_bytes(4, "little") + part)
    return hashed.hexdigest()


def _flat(headers: Mapping[str, bytes]) -> list[bytes]:
    return [part for name, value in sorted(headers.items()) for part in (name.encode(), value)]


def payload(identity: str, size: int) -> bytes:
    """Data of about `size` bytes that nobody else has: its identity, then noise made from it."""
    return identity.encode() + b":" + random.Random(identity).randbytes(size)
