"""What became of a call.

Success                         it returned
Failed      ─┐                  it raised, timed out, killed its process, or answered nonsense
Rejected    ─┤ of the call      it raised `Reject`
Partial      │                  it called `batch.fail` for some records
Reported     │                  it returned `batchItemFailures`
Expired     ─┘ of one record    too old to be called
Disturbed                       it failed, and the code of another call may be why: no attempt
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Literal

from streamfn._core import Entry
from streamfn.error_text import message_of, traceback_of, type_of
from streamfn.errors import (
    FunctionCrashed,
    FunctionTimedOut,
    InvalidResponse,
    InvocationError,
    Reject,
)

from .output import Output
from .starvation import is_starved

Condition = Literal["RetryAttemptsExhausted", "RecordAgeExceeded", "Rejected"]
"""Why a record went to the destination. The first two words are AWS's."""

CAUSE_NONE: Final = 0
CAUSE_CRASHED: Final = 1
CAUSE_TIMED_OUT: Final = 2
"""`Entry.cause`: what a supervisor saw of a call whose runner died."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as text of bounded size: exceptions do not outlive their process."""

    error_type: str
    error_message: str
    traceback: str = ""

    @classmethod
    def of(cls, error: BaseException, frames: TracebackType | None = None) -> Failure:
        """Describe an exception; `frames` cuts our own off the top of its traceback."""
        if frames is not None:
            BaseException.with_traceback(error, frames)
        return cls(type_of(error), message_of(error), traceback_of(error))


@dataclass(frozen=True, slots=True)
class Success:
    """The call returned, and every record of it is done."""

    outputs: Sequence[Output] = ()
    """What it sends on."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The call failed as a whole."""

    failure: Failure
    is_starved: bool = False
    """Its process had no descriptors, memory or threads left."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The function wants no retries of this call."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Expired:
    """The record was not called: it is older than `max_record_age`."""

    failure: Failure = field(
        default=Failure("RecordAgeExceeded", "the record is older than `max_record_age`")
    )


@dataclass(frozen=True, slots=True)
class Partial:
    """The call returned, and some records failed, each for its own reason."""

    failures: Mapping[int, Failed | Rejected]
    """By sequence number; at least one."""
    outputs: Sequence[Output] = ()
    """What it sends on, of the records that are done."""


@dataclass(frozen=True, slots=True)
class Reported:
    """The call returned `batchItemFailures`: all is done below the lowest record it names."""

    lowest: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class Disturbed:
    """The call failed, and the code of another one may be why: it is made again, uncounted."""

    failure: Failure
    is_fatal: bool
    """It would end so again in this process."""
    may_be_own: bool = False
    """The call itself may have done that, so it counts where it runs alone."""


Outcome = Success | Failed | Rejected | Partial | Reported


def ended(error: BaseException, frames: TracebackType | None = None) -> Failed | Rejected:
    """Return the outcome of a call that raised."""
    failure = Failure.of(error, frames)
    # WHY not `isinstance`: it asks an exception for its `__class__`, which may be the user's code.
    if issubclass(type(error), Reject):
        return Rejected(failure)
    return Failed(failure, is_starved(error))


def died(entry: Entry, timeout_seconds: float) -> Failed:
    """Return the outcome of a call that did not live to tell, from what the slot says of it.

    Args:
        entry: One whose `cause` is not `CAUSE_NONE`.
        timeout_seconds: The mapping's.
    """
    error: InvocationError
    if entry.cause == CAUSE_TIMED_OUT:
        error = FunctionTimedOut(timeout_seconds)
    elif entry.detail > 0:
        error = FunctionCrashed(entry.detail, None)
    else:
        error = FunctionCrashed(None, -entry.detail)
    return Failed(Failure.of(error))


def malformed(reason: str) -> Failed:
    """Return the outcome of a call whose answer makes no sense: the whole call failed."""
    return Failed(Failure.of(InvalidResponse(reason)))
