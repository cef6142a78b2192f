"""Detects a process that is out of descriptors, memory or threads; it exits and is replaced.

Calls leak resources, and the failure comes later, in whichever call needs the next descriptor. So a
failure in an exhausted process is not counted. Its lane is left as if the process had been killed
during the call, and the supervisor decides (`verdict`): if the same records exhaust a second
process, they run alone, and then the failure counts for them.
"""

from __future__ import annotations

import errno
import os
import resource
from typing import Final

from streamfn.engine.outcome import Disturbed, Failed, Outcome, Partial, Success
from streamfn.engine.starvation import is_starved
from streamfn.errors import StreamfnError

RESERVE: Final = 16
"""With fewer descriptors left, a failed call is considered a victim of the calls before it."""

__all__ = ["Exhausted", "are_descriptors_used_up", "is_disabled", "is_starved", "is_victim"]


class Exhausted(Exception):
    """This process is out of descriptors, memory or threads, or lost some; nothing was settled."""


def is_disabled(error: StreamfnError) -> bool:
    """Whether an error of the log means that only a new process can go on with a lane.

    Besides exhaustion, that is a descriptor of ours which user code closed.
    """
    return is_starved(error) or getattr(error, "errno", None) == errno.EBADF


def is_victim(outcome: Outcome | Disturbed) -> bool:
    """Whether a call failed in a process that was out of descriptors, memory or threads."""
    match outcome:
        case Success():
            return False
        case Failed(is_starved=True):
            return True
        case Partial(failures):
            if any(isinstance(each, Failed) and each.is_starved for each in failures.values()):
                return True
    return are_descriptors_used_up()


def are_descriptors_used_up() -> bool:
    """Whether (almost) no descriptor is left; the kernel assigns the lowest free number first."""
    try:
        lowest = _lowest_free()
    except OSError as error:
        return is_starved(error)
    os.close(lowest)
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit != resource.RLIM_INFINITY and lowest >= limit - RESERVE


def _lowest_free() -> int:
    """Open the lowest free descriptor."""
    try:
        return os.dup(2)  # WHY: each call by request does this, and to open a file takes four times
    except OSError as error:
        if error.errno != errno.EBADF:  # a function may close stderr
            raise
    return os.open(os.devnull, os.O_RDONLY)
