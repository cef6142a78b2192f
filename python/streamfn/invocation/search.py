"""Who is asked to make a call, in which order, and what a caller gets if nobody makes it.

Nothing is sent or awaited here: callers that block and callers on an event loop share this.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from streamfn import _core
from streamfn.errors import FunctionNotFound, InvocationRefused, WorkerUnavailable

from .acquaintances import KNOWN
from .frames import Frame, Kind
from .liveness import SILENCE_SECONDS
from .reply import Reply
from .request import Request, reason_of, refusal
from .workers import Announced, full_name, not_announced, read_announced

RESTART_SECONDS: Final = 1.5
"""How long a caller waits for the next front of a worker, if no other worker answers."""
_NOT_FOUND: Final = 404


class Offer(NamedTuple):
    """A worker that is asked to make the call."""

    worker: str
    patience: float
    """Seconds to wait for its HELLO."""


class Search:
    """One call, offered to one worker after the other until one makes it."""

    def __init__(
        self,
        log: _core.Log,
        function: str,
        payload: bytes,
        client_context: Any = None,  # noqa: ANN401 -- any JSON value
        tail: bool = False,  # noqa: FBT001, FBT002 -- as in `Request`
    ) -> None:
        """Check the call; the arguments are those of `invoke_through_worker`."""
        log.wake()  # WHY: raises for a log that is closed, or that a parent process opened
        self._log, self._asked_for = log, function
        self.request = Request(function, payload, client_context, tail)
        self._favourite = KNOWN.favourite(log.path, function)
        self._refused: Frame | None = None
        """What the last worker said that answered and did not make the call."""

    @property
    def has_favourite(self) -> bool:
        """Whether the first offer is known without a look at the log directory."""
        return self._favourite is not None

    def offers(self) -> Iterator[Offer]:
        """Yield who is to be asked next; never ends.

        Raises:
            InvocationRefused: Nobody is left.
        """
        if self._favourite is not None:
            yield Offer(self._favourite, SILENCE_SECONDS)
        announced = read_announced(self._log)
        self.request.function = full_name(self._asked_for, announced)
        yield from self._all(announced, SILENCE_SECONDS)
        if self._refused is None:
            # A front that died has the next one soon, at the same socket.
            yield from self._all(announced, RESTART_SECONDS)
        raise _unavailable(self.request.function, read_announced(self._log), self._refused)

    def heard(self, offer: Offer, frame: Frame) -> Reply | None:
        """Return the answer to the call; None: this worker does not make it.

        Raises:
            InvocationRefused: No worker should make it.
        """
        if frame.kind is Kind.RESULT:
            KNOWN.answered(self._log.path, self._asked_for, offer.worker)
            return self.request.reply(frame)
        if (refused := refusal(frame, self.request.function)) is not None:
            raise refused
        self._refused = frame
        self.not_called(offer)
        return None

    def not_called(self, offer: Offer) -> None:
        """Note that this worker does not make calls of the function."""
        KNOWN.did_not_answer(self._log.path, self._asked_for, offer.worker)

    def _all(self, announced: Announced, patience: float) -> Iterator[Offer]:
        """Yield the workers; all of them together are waited for so long, each a while at least."""
        until = time.monotonic() + patience
        for worker in KNOWN.in_order(self.request.function, announced):
            yield Offer(worker, max(until - time.monotonic(), SILENCE_SECONDS))


def _unavailable(function: str, announced: Announced, refused: Frame | None) -> InvocationRefused:
    """Return the error for a function that no worker has called."""
    workers = sum(function in functions for functions in announced.values())
    if not workers:
        return not_announced(function, announced)
    if refused is not None and refused.header.get("status") == _NOT_FOUND:
        return FunctionNotFound(function, reason_of(refused))
    if refused is not None:
        return WorkerUnavailable(function, reason_of(refused))
    reason = "its worker does" if workers == 1 else f"its {workers} workers do"
    return WorkerUnavailable(function, f"{reason} not answer")
