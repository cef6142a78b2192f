"""The log as a function sees it: a place to put what it makes.

`streamfn.Log` and `streamfn.Stream` fit these; so do the twins of a test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from .put import PutResult, PutResults


class StreamHandle(Protocol):
    """A stream that can be put to; see `streamfn.Stream`."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    def put(
        self,
        data: bytes,
        partition_key: str | None = None,
        headers: Mapping[str, bytes] | None = None,
        *,
        timeout: float | None = None,
    ) -> PutResult:
        """Append one record and wait until it is as durable as the stream promises."""
        ...

    def put_many(
        self,
        data: Sequence[bytes],
        partition_keys: Sequence[str | None] | None = None,
        headers: Sequence[Mapping[str, bytes] | None] | None = None,
        *,
        timeout: float | None = None,
    ) -> PutResults:
        """Append records and wait until they are as durable as the stream promises."""
        ...


class LogHandle(Protocol):
    """An open log; see `streamfn.Log`."""

    @property
    def path(self) -> str:
        """The directory."""
        ...

    def stream(self, name: str) -> StreamHandle:
        """Return the stream of that name, or raise `StreamNotFound`."""
        ...

    def streams(self) -> list[str]:
        """Return the names of all streams, sorted."""
        ...
