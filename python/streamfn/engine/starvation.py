"""Detects calls that failed because their process ran out of descriptors, memory or threads.

Such a failure says little about the records, because an earlier call may have leaked the resource.
The runner is replaced, and the records are retried in a new process.
"""

from __future__ import annotations

import errno
from typing import Final

ERRNOS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""No descriptor left in the process, none in the system, no memory."""
NO_THREAD: Final = "can't start new thread"
CAUSES_MAX: Final = 32
"""Most errors of a chain of causes that are checked."""


def is_starved(error: BaseException) -> bool:
    """Whether an error or one of its causes means that descriptors, memory or threads ran out."""
    try:
        return _is_starved(error)
    except BaseException:  # noqa: BLE001 -- reading a user's exception may run the user's code
        return False


def _is_starved(error: BaseException) -> bool:
    chain: BaseException | None = error
    for _ in range(CAUSES_MAX):
        if chain is None:
            return False
        if isinstance(chain, MemoryError) or getattr(chain, "errno", None) in ERRNOS:
            return True
        if isinstance(chain, RuntimeError) and chain.args == (NO_THREAD,):
            return True
        chain = chain.__cause__ or chain.__context__
    return False
