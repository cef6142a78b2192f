"""Calls a function through a worker of the log, and waits for its answer."""

from __future__ import annotations

from typing import Any

from streamfn.log import Log

from .liveness import AnswerLost, NotCalled
from .peers import peer_of
from .reply import Reply
from .search import Search


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
        InvalidRequest: The payload is not JSON, or too large.
    """
    core = log.core
    search = Search(core, function, payload, client_context, tail)
    for offer in search.offers():
        try:
            frame = peer_of(core.path, offer.worker).call(search.request, core, offer.patience)
        except NotCalled:
            search.not_called(offer)
            continue
        except AnswerLost as error:
            raise search.request.lost(error.reason) from None
        if (reply := search.heard(offer, frame)) is not None:
            return reply
    raise AssertionError("the offers end with an error")
