"""A runner that has run out of descriptors, memory or threads: it ends, and a new one takes over.

Calls leak; the failures come later, in whichever call happens to need the next descriptor. So a
failure in an exhausted process is not counted. Its lane is left as if the process had died in the
call, and the supervisor judges it (`verdict`): should the same records exhaust a second process,
they run alone, and there the failure is their own.
"""

from __future__ import annotations

import os
import resource
from typing import Final

from streamfn.engine.outcome import Disturbed, Failed, Outcome, Partial, Success
from streamfn.engine.starvation import is_starved

RESERVE: Final = 16
"""With fewer descriptors than this left, a failed call is taken for a victim of those before it."""

__all__ = ["Exhausted", "are_descriptors_used_up", "is_starved", "is_victim"]


class Exhausted(Exception):
    """This process has run out of something; nothing was settled."""


def is_victim(outcome: Outcome | Disturbed) -> bool:
    """Whether a call failed in a process that had run out of something."""
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
    """Whether (nearly) no descriptor is left; the kernel gives out the lowest number first."""
    try:
        lowest = os.open(os.devnull, os.O_RDONLY)
    except OSError as error:
        return is_starved(error)
    os.close(lowest)
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit != resource.RLIM_INFINITY and lowest >= limit - RESERVE
