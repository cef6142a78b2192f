"""Whether a call failed because its process has run out of something.

Then the call says little about its records: a call before it may have leaked what is missing. The
runner is replaced, and the records are tried again in a new process.
"""

from __future__ import annotations

import errno
from typing import Final

ERRNOS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""No descriptor in this process, none in the system, no memory."""
NO_THREAD: Final = "can't start new thread"
CAUSES_MAX: Final = 32
"""So many errors of a chain of causes are looked at."""


def is_starved(error: BaseException) -> bool:
    """Whether an error, or one that led to it, says that descriptors, memory or threads are out."""
    try:
        return _is_starved(error)
    except BaseException:  # noqa: BLE001 -- a look at a user's exception may run its code
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
