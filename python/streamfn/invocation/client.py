"""Calls a function through a worker of the log, and waits for its answer."""

from __future__ import annotations

import time
from typing import Any, Final

from streamfn import _core
from streamfn.errors import FunctionNotFound, InvocationRefused, WorkerUnavailable
from streamfn.log import Log

from .connection import SILENCE_SECONDS, AnswerLost, NotCalled
from .frames import Frame, Kind
from .peers import Peer, favourite, look_again, peers_for, prefer
from .reply import Reply
from .request import Request, reason_of, refusal
from .workers import Announced, full_name, not_announced

RESTART_SECONDS: Final = 1.5
"""How long a caller waits for the next front of a worker, if no other worker answers."""


def invoke_through_worker(
    log: Log,
    function: str,
    payload: bytes,
    *,
    client_context: Any = None,  # noqa: ANN401 -- any JSON value
    tail: bool = False,
) -> Reply:
    """Call a function in a process of a worker. Threads may call at the same time.

    Args:
        log: The log whose workers are asked.
        function: `<app>.<function>`, or the function alone if it is the only one of that name.
        payload: JSON.
        client_context: A JSON value that the handler finds in its context.
        tail: Ask for the end of what the call prints.

    Raises:
        FunctionError: The worker ended during the call (`Runtime.WorkerLost`).
        FunctionNotFound: The workers have no such function.
        Throttled: The function is at its limit of concurrency, or no process was free.
        WorkerUnavailable: No worker answers.
        InvalidRequest: The payload is no JSON, or too large.
    """
    core = log.core
    core.wake()  # WHY: raises for a log that is closed, or that a parent process opened
    peer = favourite(function, core.path)
    if peer is not None:
        # If it does not call the function any more, nothing is called.
        attempt = _Attempt(core, Request(function, payload, client_context, tail))
        if (reply := attempt.made_by(peer, SILENCE_SECONDS)) is not None:
            return reply
    announced = look_again(core)
    function = full_name(function, announced)
    attempt = _Attempt(core, Request(function, payload, client_context, tail))
    reply = attempt.made(announced)
    if reply is None and attempt.refused is None:
        reply = attempt.made(announced, RESTART_SECONDS)
    if reply is None:
        raise _unavailable(function, look_again(core), attempt.refused)
    return reply


class _Attempt:
    """One call, offered to one worker after the other until one takes it."""

    def __init__(self, log: _core.Log, request: Request) -> None:
        self._log, self._request = log, request
        self.refused: Frame | None = None
        """What the last worker said that answered and did not take it."""

    def made(self, announced: Announced, patience: float = SILENCE_SECONDS) -> Reply | None:
        """Return the answer of the first worker that takes the call; None: none did."""
        until = time.monotonic() + patience
        for peer in peers_for(self._request.function, self._log, announced):
            # In the second round the workers are waited for together, not each.
            left = max(until - time.monotonic(), SILENCE_SECONDS)
            if (reply := self.made_by(peer, left)) is not None:
                prefer(peer, self._request.function)
                return reply
        return None

    def made_by(self, peer: Peer, patience: float) -> Reply | None:
        """Return the answer of this worker; None: it does not take the call."""
        request = self._request
        try:
            frame = peer.call(request, self._log, patience)
        except NotCalled:
            return None
        except AnswerLost as error:
            raise request.lost(error.reason) from None
        if frame.kind is Kind.RESULT:
            return request.reply(frame)
        if (refused := refusal(frame, request.function)) is not None:
            raise refused
        self.refused, peer.answers = frame, False
        return None


def _unavailable(function: str, announced: Announced, refused: Frame | None) -> InvocationRefused:
    """Return the error for a function that no worker has called."""
    workers = sum(function in functions for functions in announced.values())
    if not workers:
        return not_announced(function, announced)
    if refused is not None and refused.header.get("status") == 404:  # noqa: PLR2004 -- not found
        return FunctionNotFound(function, reason_of(refused))
    if refused is not None:
        return WorkerUnavailable(function, reason_of(refused))
    reason = "its worker does" if workers == 1 else f"its {workers} workers do"
    return WorkerUnavailable(function, f"{reason} not answer")
