"""`WorkerConfig`: the settings of a worker."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from streamfn.errors import ConfigError

RUNNERS_A_CORE: Final = 4
RUNNERS_MAX: Final = 1_000
"""Each runner needs some ten descriptors of its supervisor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """One `streamfn worker`: a supervisor and its runner processes."""

    # Behaviour
    app: str
    """The APP argument: `module:attr`, `file.py` or `file.py:attr`."""
    log_dir: str
    """The log directory."""
    factory: bool = False
    """APP names a callable that returns the app."""
    reload: bool = False
    """Reload the app's code when its files change."""
    burst: bool = False
    """Close batch windows at once, and exit when all records are processed."""
    drain_timeout: timedelta = timedelta(seconds=30)
    """How long running calls may continue after SIGTERM; unfinished records are delivered again."""
    only: tuple[str, ...] = ()
    """Names of the functions to run; empty: all functions of the app."""

    log_level: int = 1
    """Lowest level of what functions log: 0 DEBUG, 1 INFO, 2 WARN, 3 ERROR."""

    # Performance
    processes: int | None = None
    """Runner processes. None: the number of cores, or of lanes with work if that is lower."""
    threads: int = 1
    """Lanes that one runner calls at once. Raise it for functions that wait for the network."""
    max_runners: int | None = None
    """Most processes for functions called by request. None: four for each core."""
    idle: timedelta = timedelta(minutes=5)
    """How long such a process stays without a call."""

    def __post_init__(self) -> None:
        if self.processes is not None and self.processes < 1:
            raise ConfigError("processes", f"{self.processes} is not 1 or more, or `auto`")
        if self.threads < 1:
            raise ConfigError("threads", f"{self.threads} is not 1 or more")
        if self.max_runners is not None and not 1 <= self.max_runners <= RUNNERS_MAX:
            reason = f"{self.max_runners} is not between 1 and {RUNNERS_MAX:,}"
            raise ConfigError("max_runners", reason)
        if self.idle < timedelta(0):
            raise ConfigError("idle", "a time must be zero or above")

    @property
    def runners_max(self) -> int:
        """Most processes for functions called by request."""
        return self.max_runners or RUNNERS_A_CORE * len(os.sched_getaffinity(0))
