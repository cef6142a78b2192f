"""Streams that were declared: creates missing ones, and says how existing ones differ."""

from __future__ import annotations

from typing import Any, NamedTuple

from streamfn.errors import StreamExists
from streamfn.model.declaration import StreamDeclaration, StreamDifference
from streamfn.model.retention import EVERYTHING, RetentionLimits

from .handle import Log
from .stream import Stream


class DeclaredStream(NamedTuple):
    """A stream that exists now, because it was declared or before."""

    stream: Stream
    is_new: bool
    differences: list[StreamDifference]
    """Empty for a new stream."""


def ensure_declared(log: Log, wanted: StreamDeclaration) -> DeclaredStream:
    """Create a stream as declared; one that exists already is compared, and never changed.

    Raises:
        StreamfnError: The log cannot be written.
    """
    given = {
        "shards": wanted.shards,
        "durability": wanted.durability,
        "retention": wanted.retention and wanted.retention.words,
        "compression": wanted.compression,
    }
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    try:
        created = log.create_stream(wanted.name, **settings)
    except StreamExists:
        stream = log.stream(wanted.name)
        return DeclaredStream(stream, is_new=False, differences=differences(stream, wanted))
    return DeclaredStream(created, is_new=True, differences=[])


def differences(stream: Stream, wanted: StreamDeclaration) -> list[StreamDifference]:
    """Return the declared settings that the stream does not have."""
    info = stream.info()
    is_open = sum(shard.is_open for shard in info.shards)
    change = f"`streamfn stream set {wanted.name}"
    words = wanted.retention.words if wanted.retention else ()
    limits = "".join(f" --retention {word}" for word in words or (EVERYTHING,))
    split = "split" if is_open < (wanted.shards or 0) else "merge"
    pairs = (
        ("shards", wanted.shards, is_open, f"`streamfn stream {split}`, or declare {is_open}"),
        (
            "durability",
            wanted.durability,
            info.durability,
            "it cannot change: put into a new stream, or declare what exists",
        ),
        ("retention", wanted.retention, RetentionLimits(**info.retention), f"{change}{limits}`"),
        (
            "compression",
            wanted.compression,
            info.compression,
            f"{change} --compression {wanted.compression}`",
        ),
    )
    return [
        StreamDifference(field, str(declared), str(existing), hint)
        for field, declared, existing, hint in pairs
        if declared is not None and declared != existing
    ]
