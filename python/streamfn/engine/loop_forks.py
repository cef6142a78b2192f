"""Children that are forked on an event loop, or in one of its threads.

The loop of such a child has the calls of all lanes. They are its parent's: so the child may finish
the step of the task that forked it, and ends before the loop runs anything else.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

from .forked import end_forked, end_if_forked

_loops: dict[int, asyncio.AbstractEventLoop] = {}
"""LazyEventLoop by the threads that run them."""


def watch(loop: asyncio.AbstractEventLoop) -> None:
    """Have children end that are forked in this thread, which runs the loop."""
    _loops[threading.get_ident()] = loop


def forget() -> None:
    """Let the children of this thread be: its loop has ended."""
    _loops.pop(threading.get_ident(), None)


def ending_with_child(work: Callable[..., Any]) -> Callable[..., Any]:
    """Return work for a thread of the loop, after which a child that it forked ends."""
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
    # What is ready runs before anything that is put behind it. Other loops than asyncio's do not
    # show what that is: there, the child ends a turn later.
    for handle in getattr(loop, "_ready", ()):
        handle._callback, handle._args = end_forked, ()  # noqa: SLF001 -- there is no public way
    loop.call_soon(end_forked)


os.register_at_fork(after_in_child=_in_child)
