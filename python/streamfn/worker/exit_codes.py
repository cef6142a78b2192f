"""Exit codes of child processes, which tell the supervisor why a child ended."""

from __future__ import annotations

from typing import Final

EXIT_NOT_READY: Final = 2
"""The app does not import; the runner has sent the reason to the supervisor."""
EXIT_BROKEN: Final = 70
"""The runner's own code or its log failed (EX_SOFTWARE of sysexits.h)."""
EXIT_ORPHANED: Final = 71
"""The supervisor has exited, or the connection to it was closed."""
EXIT_EXHAUSTED: Final = 72
"""The process has no descriptors, memory or threads left; a new one takes over."""
EXIT_IN_DOUBT: Final = 73
"""Calls in the process failed because of other calls; next, each of them runs alone."""

OWN_EXITS: Final = {
    EXIT_BROKEN: "its own code or its log failed",
    EXIT_ORPHANED: "it lost the connection to its supervisor",
    EXIT_IN_DOUBT: "calls in it failed because of other calls",
    EXIT_EXHAUSTED: "it had no descriptors, memory or threads left",
}
"""Codes with which a runner exits by itself, with reasons. They do not blame the running calls."""
