"""Ends a child process that a function forked and that returned from the function.

The child is a copy of its parent in the middle of a call. If it continued, it would settle the
batch, take the next one and clear the parent's deadline. So the child exits where the function
ends, as a script would: with the code of its `SystemExit`, or with 1 and a traceback.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from typing import NoReturn


def end_if_forked(parent: int, error: BaseException | None = None) -> None:
    """Exit, unless this is the process that called the function.

    Args:
        parent: The process id before the call.
        error: The exception of the call.
    """
    if os.getpid() != parent:
        end_forked(error)


def end_forked(error: BaseException | None = None) -> NoReturn:
    """Exit from a forked child at once, without the exit functions, which belong to the parent."""
    code = 1
    try:
        code = _exit_code(error)
        if sys.stdout is not None:
            sys.stdout.flush()
        if sys.stderr is not None:
            sys.stderr.flush()
    finally:
        os._exit(code)


def _exit_code(error: BaseException | None) -> int:
    """Return the exit code that Python would use, and print what Python would print."""
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        with contextlib.suppress(BaseException):
            traceback.print_exception(error)
        return 1
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    print(error.code, file=sys.stderr)  # noqa: T201 -- as Python does
    return 1
