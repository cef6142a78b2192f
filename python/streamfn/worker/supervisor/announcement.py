"""What the workers of a log tell each other: which mappings each of them can run."""

from __future__ import annotations

import os
from collections.abc import Iterable

import orjson

from streamfn import _core
from streamfn._core import Membership
from streamfn.errors import LogFull


class Announcement:
    """What this worker tells the others."""

    def __init__(self, membership: Membership) -> None:
        """Begin with no mapping: that is what a worker joins with."""
        self._membership = membership
        self.mappings: frozenset[str] = frozenset()
        """Names of the mappings that this worker can run."""
        self._is_written = True

    def announce(self, mappings: Iterable[str]) -> None:
        """Tell the other workers; where the disk is full, `repeat` tries again."""
        self.mappings = frozenset(mappings)
        try:
            self._membership.update(membership_body(self.mappings))
        except LogFull:
            self._is_written = False
        else:
            self._is_written = True

    def repeat(self) -> None:
        """Tell the other workers what found no room on the disk before."""
        if not self._is_written:
            self.announce(self.mappings)


def membership_body(mappings: Iterable[str]) -> bytes:
    """Return what other workers read."""
    return orjson.dumps({"pid": os.getpid(), "mappings": list(mappings)})


def living_workers(log: _core.Log) -> dict[str, frozenset[str]]:
    """Return the mappings that each living worker can run, by UUID; of one that starts, none."""
    living = {}
    for uuid, body in Membership.living(log).items():
        try:
            living[uuid] = frozenset(orjson.loads(body)["mappings"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            living[uuid] = frozenset()
    return living
