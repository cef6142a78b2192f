"""Standard input, output and error of a process that was started without some of them."""

from __future__ import annotations

import os
import sys
from typing import Final

_STREAMS: Final = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
"""Name in `sys` and mode; the place in this tuple is the number of the descriptor."""


def open_missing_stdio() -> None:
    """Open `/dev/null` on each of the descriptors 0, 1 and 2 that is closed.

    Call it first thing in a process: the next file that is opened gets the lowest number that is
    free, and what is printed would then go into that file. Processes started later inherit the
    three.

    `command >&-` is silent and works: a reader that is not there does not miss anything. A closed
    standard input is empty.

    Raises:
        OSError: `/dev/null` cannot be opened.
    """
    for number, (name, mode) in enumerate(_STREAMS):
        is_ours = not _is_open(number) and _open_null(number)
        if getattr(sys, name) is None:
            # WHY not always `number`: what is open there now may be a file of somebody else.
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
    """Open `/dev/null` as `number`, the lowest that is free; False: another thread was quicker."""
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.close(null)
        return False
    os.set_inheritable(number, True)  # noqa: FBT003 -- positional only
    return True
