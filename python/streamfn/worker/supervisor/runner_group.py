"""Groups of functions that share runner processes.

The functions of a group run in the same runners, and never in those of another group. All functions
of an app are one group, except that each function with a memory limit is a group of its own.
"""

from __future__ import annotations

from typing import Final

from streamfn.model.mapping import EventSourceMapping

APP_GROUP: Final = "app"
"""The group of all functions without their own group. Names of functions have a dot, this none."""


def group_of(mapping: EventSourceMapping) -> str:
    """Return the group of a function."""
    return APP_GROUP if mapping.memory is None else mapping.name
