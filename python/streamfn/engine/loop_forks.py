"""Ends child processes that are forked on an event loop or in one of its threads.

The child inherits a loop with the calls of all lanes, which belong to the parent. So the child may
finish the step of the task that forked it, and exits before the loop runs anything else.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

from .forked import end_forked, end_if_forked

_loops: dict[int, asyncio.AbstractEventLoop] = {}
"""Event loops by the id of the thread that runs them."""


def watch(loop: asyncio.AbstractEventLoop) -> None:
    """End children that are forked in this thread, which runs the loop."""
    _loops[threading.get_ident()] = loop


def forget() -> None:
    """Leave children of this thread alone from now on, because its loop has ended."""
    _loops.pop(threading.get_ident(), None)


def ending_with_child(work: Callable[..., Any]) -> Callable[..., Any]:
    """Return `work` for a thread of the loop; a child that it forks exits after it."""
    parent = os.getpid()

    def run(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 -- whatever the work takes
        try:
            result = work(*args, **kwargs)
        except BaseException as error:
            end_if_forked(parent, error)
            raise
        end_if_forked(parent)
        return result

    return run


def _in_child() -> None:
    loop = _loops.get(threading.get_ident())
    if loop is None:
        return
    # Handles that are ready run before new ones, so they are replaced. Loops other than asyncio's
    # do not expose them: there, the child exits one turn later.
    for handle in getattr(loop, "_ready", ()):
        handle._callback, handle._args = end_forked, ()  # noqa: SLF001 -- no public way
    loop.call_soon(end_forked)


os.register_at_fork(after_in_child=_in_child)
