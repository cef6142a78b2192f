"""The log as a function sees it: somewhere to put records.

`streamfn.Log` and `streamfn.Stream` implement these protocols; tests may use their own classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from .put import PutResult, PutResults


class StreamHandle(Protocol):
    """A stream that accepts records; see `streamfn.Stream`."""

    @property
    def name(self) -> str:
        """The stream's name."""
        ...

    def put(
        self,
        data: bytes,
        partition_key: str | None = None,
        headers: Mapping[str, bytes] | None = None,
        *,
        timeout: float | None = None,
    ) -> PutResult:
        """Append one record and wait until it has the stream's durability."""
        ...

    def put_many(
        self,
        data: Sequence[bytes],
        partition_keys: Sequence[str | None] | None = None,
        headers: Sequence[Mapping[str, bytes] | None] | None = None,
        *,
        timeout: float | None = None,
    ) -> PutResults:
        """Append records and wait until they have the stream's durability."""
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
