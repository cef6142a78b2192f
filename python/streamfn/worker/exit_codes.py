"""Exit codes of a runner process, for itself and for its supervisor."""

from __future__ import annotations

from typing import Final

EXIT_NOT_READY: Final = 2
"""The app does not import; the supervisor has the reasons by then."""
EXIT_BROKEN: Final = 70
"""The runner's own code, or its log, failed (EX_SOFTWARE of sysexits.h)."""
EXIT_ORPHANED: Final = 71
"""The supervisor is gone, or the descriptors that lead to it were closed."""
EXIT_EXHAUSTED: Final = 72
"""The process has no descriptors or no memory left; a new one takes over."""
EXIT_IN_DOUBT: Final = 73
"""Calls failed in the process for what others had done; each of them runs alone next."""

OWN_EXITS: Final = {
    EXIT_BROKEN: "it could not go on",
    EXIT_ORPHANED: "it lost the connection to its supervisor",
    EXIT_IN_DOUBT: "calls failed in it for what others had done",
    EXIT_EXHAUSTED: "it had no descriptors or no memory left",
}
"""Codes with which a runner ends itself, in words: they say nothing about the calls that run."""
