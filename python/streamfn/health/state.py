"""The states of a function: each word is defined here, and only here."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Self


class State(StrEnum):
    """The state of a function, or of one of its lanes; of several, the first in this order counts.

    Each member has a `meaning`, one line, which the docs and `--help` show.
    """

    meaning: str

    def __new__(cls, word: str, meaning: str) -> Self:
        """Make a member from its word and its meaning."""
        member = str.__new__(cls, word)
        member._value_, member.meaning = word, meaning
        return member

    PAUSED = "paused", "stopped by `fn pause`; `fn resume` continues it"
    NOT_IN_CODE = "not-in-code", "recorded in the log, but not in the code of the app that runs"
    NO_WORKER = "no-worker", "no living worker runs it"
    BLOCKED = "blocked", "cannot go on: full disk, damaged data, or a destination that fails"
    FAILING = "failing", "its last call failed, and no call has succeeded since"
    WAITING = "waiting", "its stream does not exist yet"
    RUNNING = "running", "processes records or calls"
    IDLE = "idle", "no record and no call is left to process"


_WEIGHTS = {state: place for place, state in enumerate(State)}

HEALTHY = frozenset({State.RUNNING, State.IDLE})
"""States that need no reason."""
BAD = frozenset({State.FAILING, State.BLOCKED})
"""States for which `streamfn status` exits with 1."""


def by_weight(state: State) -> int:
    """Return the place of a state in the order of `State`, for sorting."""
    return _WEIGHTS[state]


def worst(states: Iterable[State]) -> State:
    """Return the state that counts for the whole; `idle` if there are none."""
    return min(states, key=by_weight, default=State.IDLE)


def worst_function(states: Iterable[State]) -> State:
    """Return the state for a worker with functions in these states; a pause is nobody's trouble."""
    known = set(states)
    return worst(known - {State.PAUSED} or known)
