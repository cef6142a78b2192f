"""Outcomes of a call.

Success                         the call returned
Failed      ─┐                  it raised, timed out, killed its process, or returned nonsense
Rejected    ─┤ of the call      it raised `Reject`
Partial      │                  it called `batch.fail` for some records
Reported     │                  it returned `batchItemFailures`
Expired     ─┘ of one record    the record is too old to be called
Disturbed                       it failed, perhaps because of another call's code: no attempt counts
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
    FunctionOutOfMemory,
    FunctionTimedOut,
    InvalidResponse,
    InvocationError,
    Reject,
)

from .output import Output
from .starvation import is_starved

Condition = Literal["RetryAttemptsExhausted", "RecordAgeExceeded", "Rejected"]
"""Why a record was given up. The first two words are AWS's."""

CAUSE_NONE: Final = 0
CAUSE_CRASHED: Final = 1
CAUSE_TIMED_OUT: Final = 2
CAUSE_OUT_OF_MEMORY: Final = 3
"""`Entry.cause`: a supervisor's verdict on a call whose runner was killed."""
KIBIBYTE: Final = 2**10
"""Unit of `Entry.detail` if the cause is `CAUSE_OUT_OF_MEMORY`."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as text of bounded size, to be passed to other processes and stored."""

    error_type: str
    error_message: str
    traceback: str = ""

    @classmethod
    def of(cls, error: BaseException, frames: TracebackType | None = None) -> Failure:
        """Describe an exception; `frames` is its traceback without our own frames."""
        if frames is not None:
            BaseException.with_traceback(error, frames)
        return cls(type_of(error), message_of(error), traceback_of(error))


@dataclass(frozen=True, slots=True)
class Success:
    """The call returned, and all its records are done."""

    outputs: Sequence[Output] = ()
    """Records to append to `to` and `on_success`."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The call failed as a whole."""

    failure: Failure
    is_starved: bool = False
    """Whether its process had no descriptors, memory or threads left."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The function raised `Reject`: the call is not retried."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Expired:
    """The record was not called: it is older than `max_record_age`."""

    failure: Failure = field(
        default=Failure("RecordAgeExceeded", "the record is older than `max_record_age`")
    )


@dataclass(frozen=True, slots=True)
class Partial:
    """The call returned, and some records failed, each with its own error."""

    failures: Mapping[int, Failed | Rejected]
    """By sequence number; at least one."""
    outputs: Sequence[Output] = ()
    """Records to append to `to` and `on_success`, for the records that are done."""


@dataclass(frozen=True, slots=True)
class Reported:
    """The call returned `batchItemFailures`; the records below `lowest` are done."""

    lowest: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class Disturbed:
    """The call failed, perhaps because of another call's code; it is retried without counting."""

    failure: Failure
    is_fatal: bool
    """Whether a retry in this process would fail the same way."""
    may_be_own: bool = False
    """Whether the call's own code may be the reason; then it counts if the call ran alone."""


Outcome = Success | Failed | Rejected | Partial | Reported


def ended(error: BaseException, frames: TracebackType | None = None) -> Failed | Rejected:
    """Return the outcome of a call that raised."""
    failure = Failure.of(error, frames)
    # WHY not `isinstance`: it reads the exception's `__class__`, which may run the user's code.
    if issubclass(type(error), Reject):
        return Rejected(failure)
    return Failed(failure, is_starved(error))


def died(entry: Entry, timeout_seconds: float) -> Failed:
    """Return the outcome of a call whose process was killed, from its entry in the slot.

    Args:
        entry: An entry whose `cause` is not `CAUSE_NONE`.
        timeout_seconds: The mapping's timeout.
    """
    if entry.cause == CAUSE_TIMED_OUT:
        return Failed(Failure.of(FunctionTimedOut(timeout_seconds)))
    return Failed(Failure.of(death_of(entry.cause, entry.detail)))


def death_of(cause: int, detail: int) -> InvocationError:
    """Return the error of a call whose process ended, from the cause and detail in the slot.

    Args:
        cause: `CAUSE_CRASHED` or `CAUSE_OUT_OF_MEMORY`.
        detail: See docs/format.md.
    """
    if cause == CAUSE_OUT_OF_MEMORY:
        return FunctionOutOfMemory(detail * KIBIBYTE)
    return FunctionCrashed(detail, None) if detail > 0 else FunctionCrashed(None, -detail)


def malformed(reason: str) -> Failed:
    """Return the outcome of a call with an invalid response: the whole call failed."""
    return Failed(Failure.of(InvalidResponse(reason)))
