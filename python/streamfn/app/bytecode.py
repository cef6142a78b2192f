"""Removes cached bytecode that Python could take for that of newer source.

Python compares the time of a source file in whole seconds, and its size. A file that is edited in
the second in which its bytecode was cached, and keeps its size, would not be compiled again: the
next process would run the old code.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterable


def remove_doubtful_bytecode(files: Iterable[str]) -> None:
    """Remove the cached bytecode of source files that are not older than it by a second.

    Args:
        files: Paths of source files that this process has imported.
    """
    for path in files:
        with contextlib.suppress(OSError, NotImplementedError):
            cached = importlib.util.cache_from_source(path)
            if _second_of(path) >= _second_of(cached):
                os.unlink(cached)  # noqa: PTH108 -- beside other functions of `os`


def _second_of(path: str) -> int:
    return int(os.stat(path).st_mtime)  # noqa: PTH116 -- as above
