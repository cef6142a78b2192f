"""Watches the app's files for `--reload`, by their times and sizes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final

from streamfn.app.fingerprint import digest_of

LOOK_EVERY: Final = timedelta(milliseconds=300)
"""Interval between two looks. A change counts once the files were the same at two looks, so that an
editor or a copy in the middle of its work is not interrupted."""

Signature = tuple[int, int, int] | None
"""Time in ns, size and inode of a file; None: it is not there."""


class FileWatch:
    """Calls a function when files have changed."""

    def __init__(self, files: Callable[[], Mapping[str, str]], changed: Callable[[], None]) -> None:
        """Start without a look.

        Args:
            files: Returns the paths to watch now, each with the digest that it had when it was
                imported; "": unknown.
            changed: Called once for each change, or group of changes.
        """
        self._files, self._changed = files, changed
        self._seen: dict[str, Signature] = {}
        self._next_look = 0.0
        self._is_pending = False

    def look(self, now: float) -> None:
        """Look at the files if it is time; `now` is monotonic."""
        if now < self._next_look:
            return
        self._next_look = now + LOOK_EVERY.total_seconds()
        files = self._files()
        found = {path: _signature(path) for path in files}
        changes = [
            self._seen[path] != sign if path in self._seen else _differs(path, files[path])
            for path, sign in found.items()
        ]
        self._seen |= found
        if any(changes):
            self._is_pending = True
        elif self._is_pending:
            self._is_pending = False
            self._changed()


def _differs(path: str, imported: str) -> bool:
    """Whether a file that is looked at for the first time has changed since its import."""
    return bool(imported) and digest_of(path) != imported


def _signature(path: str) -> Signature:
    try:
        status = os.stat(path)  # noqa: PTH116 -- called often
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
