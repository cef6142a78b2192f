"""Opens standard input, output and error in a process that was started without some of them."""

from __future__ import annotations

import os
import sys
from typing import Final

_STREAMS: Final = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
"""Name in `sys` and mode; the index is the descriptor's number."""


def open_missing_stdio() -> None:
    """Open `/dev/null` on each of the descriptors 0, 1 and 2 that is closed.

    Call this first in a process. Otherwise the next file that the process opens gets the free
    number, and printed text goes into that file. Child processes inherit the three descriptors.

    So `command >&-` works and prints nothing, and a closed standard input reads as empty.

    Raises:
        OSError: `/dev/null` cannot be opened.
    """
    for number, (name, mode) in enumerate(_STREAMS):
        is_ours = not _is_open(number) and _open_null(number)
        if getattr(sys, name) is None:
            # WHY not always `number`: another thread's file may be open there by now.
            place = number if is_ours else os.devnull
            stream = open(place, mode, encoding="utf-8", closefd=not is_ours)  # noqa: SIM115 -- for the life of the process
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _open_null(number: int) -> bool:
    """Open `/dev/null` as `number`, the lowest free one; False: another thread took it."""
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.close(null)
        return False
    os.set_inheritable(number, True)  # noqa: FBT003 -- positional only
    return True
