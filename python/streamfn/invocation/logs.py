"""The log whose workers are asked: an open one, a path, or the default of the command line."""

from __future__ import annotations

import os
from typing import Final

from streamfn.log import Log

DEFAULT_LOG_DIR: Final = ".streamfn"
LOG_DIR_VARIABLE: Final = "STREAMFN_LOG_DIR"

LogPlace = Log | str | os.PathLike[str] | None
"""An open log or a path. None: `$STREAMFN_LOG_DIR`, else `.streamfn`."""


def path_of(place: LogPlace) -> str:
    """Return the log directory that is meant."""
    if isinstance(place, Log):
        return place.path
    # WHY here: `app.invoke` finds the worker that a command without `--log-dir` has started.
    chosen = place or os.environ.get(LOG_DIR_VARIABLE) or DEFAULT_LOG_DIR  # noqa: TID251
    return os.path.abspath(os.fsdecode(chosen))  # noqa: PTH100 -- links stay as they are


def existing_log(place: LogPlace) -> Log | None:
    """Return the log, opened; None: there is no such directory.

    A log given by its path stays open until the process ends, so that calls need not open it.

    Raises:
        ConfigError: The directory is no log.
    """
    if isinstance(place, Log):
        return place
    path = path_of(place)
    try:
        found = os.stat(path)  # noqa: PTH116 -- each call does this, and `Path` takes longer
    except OSError:
        return None
    identity = found.st_dev, found.st_ino
    known = _opened.get(path)
    if known is not None and known[0] == identity:
        return known[1]
    log = Log.open(path, create=False)
    _opened[path] = identity, log
    return log


def opened_log(place: LogPlace) -> Log:
    """Return the log, opened; a missing one is created.

    Raises:
        ConfigError: The directory is no log.
    """
    return existing_log(place) or Log.open(path_of(place))


def is_open(place: LogPlace) -> bool:
    """Whether `existing_log` has nothing to open, so that it takes microseconds."""
    return isinstance(place, Log) or path_of(place) in _opened


_opened: dict[str, tuple[tuple[int, int], Log]] = {}
"""By path, with the directory's device and inode: another log may take the path."""

os.register_at_fork(after_in_child=_opened.clear)
