"""Announces to the other workers of a log which mappings this worker can run."""

from __future__ import annotations

import os
from collections.abc import Iterable

import orjson

from streamfn._core import Membership
from streamfn.errors import LogFull


class Announcement:
    """The announcement of this worker."""

    def __init__(self, membership: Membership) -> None:
        """Start without mappings, as a worker joins."""
        self._membership = membership
        self.mappings: frozenset[str] = frozenset()
        """Names of the mappings that this worker can run."""
        self.by_request: tuple[str, ...] = ()
        """Names of the functions that this worker calls by request."""
        self.in_code: tuple[str, ...] = ()
        """Names of all mappings in its code, also those that `--only` leaves out."""
        self._is_written = True

    def announce(self, mappings: Iterable[str]) -> None:
        """Announce mappings to the other workers; if the disk is full, `repeat` tries again."""
        self.mappings = frozenset(mappings)
        try:
            self._membership.update(membership_body(self.mappings, self.in_code, self.by_request))
        except LogFull:
            self._is_written = False
        else:
            self._is_written = True

    def withdraw(self) -> None:
        """Announce that this worker takes no more work."""
        self.by_request = ()
        self.announce(())

    def repeat(self) -> None:
        """Write the last announcement again if the disk was full."""
        if not self._is_written:
            self.announce(self.mappings)


def membership_body(
    mappings: Iterable[str], in_code: Iterable[str] = (), by_request: Iterable[str] = ()
) -> bytes:
    """Return the announcement as bytes for the membership file.

    Args:
        mappings: Names of the functions on streams that the worker runs.
        in_code: Names of all functions in its code.
        by_request: Names of the functions that can be called through it.
    """
    fields = {"mappings": mappings, "functions": in_code, "by_request": by_request}
    return orjson.dumps({"pid": os.getpid()} | {key: list(each) for key, each in fields.items()})
